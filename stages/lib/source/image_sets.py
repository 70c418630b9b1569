"""Images of one's own: found in a folder or a zip, pinned by their content, and packed into one file of `data/raw`.

`train/CLASS/*.jpg` with `test/CLASS/*.jpg`, or `CLASS/*.jpg` alone: of these prepare holds a part out for testing. A
folder around all of it, as zips have one, is passed through. The names of the classes are those of their folders.

In one zip, not compressed, because DVC copies one large file faster than 100,000 small ones; always in the same order
and without times: the same images give the same bytes.
"""

import hashlib
import shlex
import unicodedata
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from stages.lib.base.errors import Outdated, UserError, printable
from stages.lib.source.archives import unpacked
from stages.lib.source.download import local_path, scheme_of, shown
from stages.lib.source.folders import MAX_BYTES, walk

TRAIN, TEST = "train", "test"
PARTS = {TRAIN, TEST, "training", "testing", "val", "valid", "validation"}  # what others call the parts of a set
PROJECT = "VERIFIED_PROJECT"  # environment variable: the folder of the project that `make verify` has cloned
LOOK = "python -m stages.commands.use_images"
MOST_BYTES = 20 * 1024**3  # of a zip to download
MOST_SECONDS = 6 * 3600.0


@dataclass(frozen=True)
class ImageFile:
    """One image: its place in the set, and where it lies."""

    name: str  # train/CLASS/..., test/CLASS/... or CLASS/...
    path: Path


@dataclass(frozen=True)
class Layout:
    """What the names of a set say: the class of each image, and which it is for."""

    class_names: tuple[str, ...]
    is_split: bool  # into train and test

    @property
    def parts(self) -> tuple[str, ...]:
        """The folders in which those of the classes lie."""
        return (TRAIN, TEST) if self.is_split else ("",)

    def part_and_label(self, name: str) -> tuple[str, int]:
        """Return what the image is for, or nothing, and the number of its class."""
        steps = name.split("/")
        part = steps.pop(0) if self.is_split else ""
        return part, self.class_names.index(steps[0])


@contextmanager
def opened(source: str, temporary: Path) -> Iterator[Path]:
    """Yield the folder of the images: `source` itself, or what the zip in it holds, unpacked into `temporary`.

    Args:
        source: a folder, a zip file, or the http(s) address of one.
        temporary: a folder that is not there yet; it is gone afterwards.

    Raises:
        UserError: there is nothing, or the zip is damaged or unsafe.
    """
    if not scheme_of(source) and local_path(source).is_dir():
        yield local_path(source)
    else:
        with unpacked(source, temporary, MOST_BYTES, MOST_SECONDS):
            try:
                yield temporary
            except UserError as error:
                words = str(error).replace(f"{temporary}/", f"{shown(source)}: ").replace(str(temporary), shown(source))
                raise UserError(words) from None


def name_of(source: str) -> str:
    """Return what to call the images of a folder or zip: by its own name."""
    path = urlsplit(source).path if scheme_of(source) else str(local_path(source).absolute())
    return unquote(path).rstrip("/").split("/")[-1].removesuffix(".zip") or "images"


def find_images(folder: Path) -> list[ImageFile]:
    """List the images (by suffix) of a set, sorted by name. Hidden files are passed over.

    Raises:
        UserError: names what is no image in a class, a link or a name that cannot be kept.
    """
    root = _without_envelope(folder)
    for path in (inner for outer in (root, *_folders(root)) for inner in _folders(outer)):
        if path.is_symlink():
            raise UserError(f"{path} is a link to a folder, which is not followed; put the folder itself there")
    found: dict[str, ImageFile] = {}
    for _, _, images in walk(root):
        for path in images:
            name = unicodedata.normalize("NFC", path.relative_to(root).as_posix())  # macOS writes ä as two letters
            if not name.isprintable():
                raise UserError(f"{printable(str(path))} has a name that cannot be printed; rename it")
            if name in found:
                raise UserError(f"{path} has the name of {found[name].path}; rename one of them")
            found[name] = ImageFile(name, path)
    if not found:
        inner = next(folder.rglob("*.zip"), None)
        what = f"; unpack {inner} first" if inner else ""
        raise UserError(f"{folder} holds no images; they lie in a folder for each class, as .jpg or .png files{what}")
    layout = layout_of(sorted(found))
    for path in (path for part in layout.parts for path in _folders(root / part)):
        if unicodedata.normalize("NFC", path.name) not in layout.class_names:
            raise UserError(f"{path} is a class without an image; remove the folder, or put images into it")
    return [found[name] for name in sorted(found)]


def layout_of(names: list[str]) -> Layout:
    """Tell classes and parts from the names of all images.

    Raises:
        UserError: an image is in no class, there is one class alone, or a class is missing in a part.
    """
    tops = {name.split("/")[0] for name in names}
    parts = (TRAIN, TEST) if tops >= {TRAIN, TEST} else ("",)
    if stray := sorted(tops - {TRAIN, TEST}) if len(parts) > 1 else []:
        raise UserError(f"beside train and test there is {stray[0]}; take it out, or let all classes lie side by side")
    if len(parts) == 1 and {top.lower() for top in tops} <= PARTS:
        found_parts = " and ".join(sorted(tops))
        raise UserError(
            f"{found_parts}: parts of a set are taken by the names train and test, both; rename the folders (for "
            "validation, prepare.validation holds images out)"
        )
    depth = len(parts)  # of the folders above the class, and one more
    classes: dict[str, set[str]] = {part: set() for part in parts}
    for name in names:
        steps = name.split("/")
        if len(steps) <= depth:
            raise UserError(f"{name} lies in no folder of a class; put it into one")
        classes[steps[0] if depth > 1 else ""].add(steps[depth - 1])
    class_names = tuple(sorted(set().union(*classes.values())))
    if spaced := [name for name in class_names if name != name.strip()]:
        raise UserError(f"the folder {spaced[0]!r} has a space at an end of its name; rename it")
    if len(class_names) < 2:
        raise UserError(
            f"there is one class alone, {class_names[0]}; it takes two or more, each in a folder of its own"
        )
    for part in parts:
        if missing := sorted(set(class_names) - classes[part]):
            raise UserError(f"{part} has no image of the class {missing[0]}; both train and test need all classes")
    if depth == 1:
        _check_two_of_each(names)
    return Layout(class_names, depth > 1)


def checksum_of(files: list[ImageFile]) -> str:
    """Return the sha256 checksum of the names and contents of the images."""
    total = Checksum()
    for file in files:
        total.add(file.name, read_bytes(file.path))
    return total.hexdigest()


class Checksum:
    """The checksum of a set, image by image in the order of their names."""

    def __init__(self) -> None:
        self.total = hashlib.sha256()

    def add(self, name: str, content: bytes) -> None:
        """Take the next image in."""
        self.add_digest(name, hashlib.sha256(content).hexdigest())

    def add_digest(self, name: str, digest: str) -> None:
        """Take the next image in, of which the checksum is known."""
        self.total.update(f"{digest} {name}\n".encode())

    def hexdigest(self) -> str:
        """Return the checksum of all images so far."""
        return self.total.hexdigest()


def pack(files: list[ImageFile], target: Path) -> str:
    """Write the images into the zip file `target`; return their checksum."""
    total = Checksum()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for file in files:
            content = read_bytes(file.path)
            total.add(file.name, content)
            archive.writestr(zipfile.ZipInfo(file.name, date_time=(1980, 1, 1, 0, 0, 0)), content)
    return total.hexdigest()


@contextmanager
def packed_images(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open the zip file that `pack` wrote. Several threads may read from it.

    Raises:
        UserError: it is missing or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except FileNotFoundError:
        raise Outdated(path) from None
    except zipfile.BadZipFile as error:
        raise Outdated(path, f"is damaged ({error})") from None


def packed_checksum(path: Path) -> str | None:
    """Return the checksum of the images in a zip file that `pack` wrote; None if there is none, or it is damaged."""
    total = Checksum()
    try:
        with packed_images(path) as archive:
            for name in archive.namelist():
                total.add(name, archive.read(name))
    except UserError:
        return None
    return total.hexdigest()


def read_bytes(path: Path) -> bytes:
    """Return the content of an image file.

    Raises:
        UserError: it is empty, or far too large.
    """
    size = path.stat().st_size
    if not 0 < size <= MAX_BYTES:
        raise UserError(f"{path} is {'empty' if not size else f'larger than {MAX_BYTES:,} bytes'}; take it out")
    return path.read_bytes()


def changed(source: str) -> UserError:
    """Return the error that the images are others than those pinned in params.yaml."""
    return UserError(
        f"the images in {shown(source)} are not those of fetch.images.sha256 in params.yaml: files were added, removed "
        f"or changed; if you want these, run `{LOOK} {shlex.quote(shown(source))}`"
    )


def _without_envelope(folder: Path) -> Path:
    """Return the innermost folder that holds all of `folder`, with folders in it: often `folder` itself."""
    _, _, images = next(walk(folder))
    match _folders(folder):
        case [inner] if not images and _folders(inner) and not inner.is_symlink():
            return _without_envelope(inner)
    return folder


def _folders(folder: Path) -> list[Path]:
    """Return the folders in `folder`, links to folders among them."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__MACOSX")))


def _check_two_of_each(names: list[str]) -> None:
    """Check that a part of each class can be held out."""
    counts: dict[str, int] = {}
    for name in names:
        counts[name.split("/")[0]] = counts.get(name.split("/")[0], 0) + 1
    if alone := [class_name for class_name, count in counts.items() if count < 2]:
        raise UserError(f"the class {alone[0]} has one image: it takes two, one to train on and one to test on")
