"""Count the images in each folder: the lecture's `walk_through_dir`. No stage uses it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.lib.source.folders import walk


@dataclass(frozen=True)
class FolderCount:
    """Hold how many folders and images lie directly in one folder."""

    path: Path
    folders: int
    images: int


def count_images(folder: str | Path) -> list[FolderCount]:
    """Count the folders and the image files (by suffix) in `folder` and in each folder below it, sorted by path.

    Raises:
        UserError: a folder is missing, no folder or not readable.
    """
    counts = [FolderCount(path, len(folders), len(images)) for path, folders, images in walk(Path(folder))]
    return sorted(counts, key=lambda count: count.path)


def format_counts(counts: Sequence[FolderCount]) -> str:
    """Format the counts as a table, one line per folder."""
    lines = [f"{count.folders:>7,}  {count.images:>9,}  {count.path}" for count in counts]
    return "\n".join(["folders     images  in", *lines])
