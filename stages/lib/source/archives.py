"""Download a zip archive and unpack it, without trusting it: images of one's own, and the lecture's `download_data`."""

import re
import shutil
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from stages.lib.base.errors import UserError
from stages.lib.source.download import SourceError, download, local_path, scheme_of, shown

MAX_BYTES = 2 * 1024**3
MAX_SECONDS = 1800
MAX_RATIO = 20
CHUNK_BYTES = 1024**2
ENCRYPTED = 1  # the bit that says so in an entry's flags


def download_and_unpack(
    source: str,
    destination: str | Path,
    remove_archive: bool = True,
    *,
    data_folder: str | Path = "data",
    max_bytes: int = MAX_BYTES,
    max_seconds: float = MAX_SECONDS,
) -> Path:
    """Unpack the zip archive at `source` into `data_folder/destination`, unless that folder exists already.

    The folder appears whole or not at all. Entries that would land outside it, and links, are refused before anything
    is written.

    Args:
        source: an http(s):// or file:// address, or a path.
        destination: the folder to make, below `data_folder`.
        remove_archive: whether to remove the downloaded archive; if not, it is kept in `data_folder`. A `source` on
            this machine is never removed.
        data_folder: the folder for data.
        max_bytes: the most bytes to download, and the most to unpack.
        max_seconds: the longest a download may take.

    Returns:
        The folder with the content.

    Raises:
        UserError: the archive cannot be had, is damaged, unsafe or larger than allowed.
    """
    folder = Path(data_folder) / destination
    if folder.is_dir():
        print(f"[INFO] {folder} directory exists, skipping download.")
        return folder
    if folder.exists():
        raise UserError(f"{folder} is not a folder; remove it, or choose another destination")

    print(f"[INFO] Did not find {folder} directory, creating one...")
    unzipping = f"[INFO] Unzipping {PurePosixPath(shown(source)).name} data..."
    if scheme_of(source) not in ("http", "https"):
        archive = _local_archive(source)
        print(unzipping)
        _unpack(archive, folder, source, max_bytes)
        return folder

    print(f"[INFO] Downloading {PurePosixPath(shown(source)).name} from {shown(source)}...")
    with _downloaded(source, folder, max_bytes, max_seconds) as archive:
        print(unzipping)
        _unpack(archive, folder, source, max_bytes)
        if not remove_archive:
            name = PurePosixPath(unquote(urlsplit(source).path)).name.removesuffix(".zip") or folder.name
            archive.replace(archive.with_name(f"{name}.zip"))
    return folder


@contextmanager
def unpacked(source: str, folder: Path, max_bytes: int = MAX_BYTES, max_seconds: float = MAX_SECONDS) -> Iterator[None]:
    """Unpack the zip archive at `source` into `folder`, which is there for the block alone.

    Raises:
        UserError: as `download_and_unpack`.
    """
    shutil.rmtree(folder, ignore_errors=True)  # what a crash left behind
    try:
        if scheme_of(source) not in ("http", "https"):
            archive = _local_archive(source)
            # Images hardly get smaller in a zip: what unpacks to many times its size is a bomb.
            _unpack(archive, folder, source, max(max_bytes, MAX_RATIO * archive.stat().st_size))
        else:
            with _downloaded(source, folder, max_bytes, max_seconds) as archive:
                _unpack(archive, folder, source, max_bytes)
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _downloaded(source: str, folder: Path, max_bytes: int, max_seconds: float) -> Iterator[Path]:
    """Download an archive to a temporary file beside `folder`; the block may move it away."""
    archive = folder.with_name(f".{folder.name}.zip.tmp")
    archive.parent.mkdir(parents=True, exist_ok=True)
    try:
        download(source, archive, max_bytes, max_seconds)
        yield archive
    except SourceError as error:
        raise UserError(f"{shown(source)}: {error}; check the address, or give the path of a zip file") from None
    finally:
        archive.unlink(missing_ok=True)


def _local_archive(source: str) -> Path:
    try:
        path = local_path(source)
    except SourceError as error:
        raise UserError(f"{shown(source)}: {error}") from None
    if not path.is_file():
        raise UserError(f"{shown(source)}: no such file; give an http(s) address or the path of a zip file")
    return path


def _unpack(archive: Path, folder: Path, source: str, max_bytes: int) -> None:
    """Unpack into a temporary folder beside `folder`, and move it into place when it is whole."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)  # what a crash left behind
    try:
        with zipfile.ZipFile(archive) as entries:
            _write_entries(entries, _safe_paths(entries), temporary, max_bytes)
        temporary.rename(folder)
    except UserError as error:
        raise UserError(f"{shown(source)}: {error}") from None
    except OSError:  # of the disk
        raise
    except Exception as error:  # zipfile and its decompressors raise a dozen kinds, with only this in common
        words = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{shown(source)} is no zip archive, damaged or encrypted ({words}); get another") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _safe_paths(entries: zipfile.ZipFile) -> dict[PurePosixPath, zipfile.ZipInfo]:
    """Return the path of every entry, relative to the folder to unpack into.

    Raises:
        UserError: an entry would land elsewhere, is encrypted, a link, a device or the like, or is there twice.
    """
    paths: dict[PurePosixPath, zipfile.ZipInfo] = {}
    for entry in entries.infolist():
        name = entry.filename.replace("\\", "/")  # some programs write archives with it
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or re.match("[A-Za-z]:", name):
            raise UserError(f"entry {entry.filename!r} would land outside the folder; nothing is unpacked")
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise UserError(f"entry {entry.filename!r} is a link or a special file; nothing is unpacked")
        if entry.flag_bits & ENCRYPTED:
            raise UserError(f"entry {entry.filename!r} is encrypted; unpack it with its password, and give the folder")
        if path in paths and not entry.is_dir():
            raise UserError(f"entry {entry.filename!r} is there twice; nothing is unpacked")
        paths[path] = entry
    return paths


def _write_entries(
    entries: zipfile.ZipFile, paths: dict[PurePosixPath, zipfile.ZipInfo], folder: Path, max_bytes: int
) -> None:
    """Write the entries below `folder`, `max_bytes` together at most."""
    folder.mkdir(parents=True)
    left = max_bytes
    for path, entry in paths.items():
        target = folder / path
        try:
            if entry.filename.endswith(("/", "\\")):
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            file = target.open("xb")
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise UserError(f"entry {entry.filename!r} is both a file and a folder") from None
        with file:
            for chunk in _chunks(entries, entry):
                left -= len(chunk)  # the sizes in the archive's headers are the archive's word only
                if left < 0:
                    raise UserError(f"unpacks to more than {max_bytes:,} bytes; if it may, raise max_bytes")
                file.write(chunk)


def _chunks(entries: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    try:
        with entries.open(entry) as content:
            while chunk := content.read(CHUNK_BYTES):
                yield chunk
    except OSError as error:  # what bz2 raises for damage; a full disk is another matter
        raise zipfile.BadZipFile(error) from None
