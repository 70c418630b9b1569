"""Find the image files below a folder.

Hidden files and folders are passed over, as `ls` does: among them are the `._shirt.png` that macOS puts into archives
and that are no images. Links to folders are not followed: a loop of links would have no end.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from stages.lib.base.errors import UserError

MAX_BYTES = 500_000_000  # of an image file: 50 million pixels of 8 bytes without compression, and some room
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp"})

OnError = Callable[[OSError], None]


def image_files(folder: str | Path, on_error: OnError | None = None) -> list[Path]:
    """List the image files (by suffix) in `folder` and below it, sorted by path.

    Args:
        folder: where to look.
        on_error: called for each folder below that cannot be listed, which is then passed over.

    Raises:
        UserError: `folder`, or without `on_error` a folder below it, is missing, no folder or not readable.
    """
    return sorted(image for _, _, images in walk(Path(folder), on_error) for image in images)


def walk(folder: Path, on_error: OnError | None = None) -> Iterator[tuple[Path, list[str], list[Path]]]:
    """Yield path, names of folders and image files of `folder` and of each folder below it; raise as `image_files`."""

    def complain(error: OSError) -> None:
        if on_error is None or error.filename == str(folder):
            raise UserError(f"{error.filename} cannot be listed ({error.strerror})") from None
        on_error(error)

    for parent, folder_names, file_names in os.walk(folder, onerror=complain):
        path = Path(parent)
        # In place: os.walk goes on into what is left here.
        folder_names[:] = [name for name in folder_names if not name.startswith(".") and not (path / name).is_symlink()]
        images = [path / name for name in file_names if not name.startswith(".")]
        yield path, folder_names, [image for image in images if _is_image_file(image)]


def _is_image_file(path: Path) -> bool:
    # is_file: reading a pipe of that name would never end.
    return path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
