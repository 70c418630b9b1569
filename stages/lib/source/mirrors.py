"""Fetch known files from the first mirror that gives them all whole.

A mirror is an http(s) address, a file:// address or a folder. Sizes and checksums are known beforehand, so that nothing
a mirror says must be trusted, and no file moves into place before all are whole. Downloads go through pooch into a
per-user cache, where they are found again by their checksum.
"""

import hashlib
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from stages.lib.base.errors import UserError
from stages.lib.base.files import replacing
from stages.lib.source.download import PassingSourceError, SourceError, download, local_path, scheme_of, shown
from stages.lib.source.idx_sets import RawFile

VARIABLE = "FASHION_MNIST_MIRROR"  # of MNIST it is MNIST_MIRROR
FILE_SECONDS = 30  # to wait for a file, on top of what it takes at the slowest speed worth waiting for:
BYTES_PER_SECOND = 100_000


class NoMirrorReached(UserError):  # noqa: N818 - a state of the network rather than a mistake
    """Not one mirror could be reached at all: no network, or no such host or folder."""


def variable_of(source: str) -> str:
    """Return the environment variable that names a mirror: FASHION_MNIST_MIRROR for fashion-mnist."""
    return f"{source.upper().replace('-', '_')}_MIRROR"


def mirrors_in_order(listed: Sequence[str], variable: str = VARIABLE) -> list[str]:
    """Return the mirror in the environment variable, if it is set, and then those `listed`."""
    named = (mirror.strip() for mirror in (os.environ.get(variable, ""), *listed))
    return list(dict.fromkeys(mirror for mirror in named if mirror))


def fetch_from_mirrors(files: Sequence[RawFile], mirrors: Sequence[str], target: Path, variable: str = VARIABLE) -> str:
    """Put `files` into `target`, from the first of `mirrors` that gives all of them whole.

    Each mirror given up is named on stderr. If all fail, `target` is left as it was.

    Args:
        files: what to fetch, with size and checksums.
        mirrors: http(s):// and file:// addresses and folders, in the order to try them.
        target: the folder to put the files into.
        variable: the environment variable in which the user can name a mirror.

    Returns:
        Where the files came from, for the user: the mirror, or the download cache.

    Raises:
        NoMirrorReached: no mirror could be reached.
        UserError: mirrors were reached, but none gave all the files whole.
    """
    troubles: list[tuple[str, SourceError]] = []
    for mirror in mirrors:
        try:
            found, origin = _find(mirror, files)
            put_in_place(found, target)
        except SourceError as trouble:
            troubles.append((mirror, trouble))
            if len(troubles) < len(mirrors):
                print(f"fetch: {shown(mirror)}: {trouble}; trying the next", file=sys.stderr)
        else:
            return origin

    reasons = "; ".join(f"{shown(mirror)}: {trouble}" for mirror, trouble in troubles) or "none is given"
    kind = UserError if not troubles or any(trouble.reached for _, trouble in troubles) else NoMirrorReached
    raise kind(
        f"no mirror gave all {len(files)} files ({reasons}). Set {variable} to a folder or an address that holds "
        f"{files[0].name} and the others; or do without: `dvc exp run -S fetch.source=synthetic`, "
        "or `source: synthetic` below `fetch:` in params.yaml"
    )


def all_whole(files: Sequence[RawFile], folder: Path) -> bool:
    """Tell whether `folder` holds all of `files` with the right content."""
    try:
        for file in files:
            check_whole(folder / file.name, file)
    except SourceError:
        return False
    return True


def check_whole(path: Path, file: RawFile) -> None:
    """Check that what lies at `path` is `file`, byte for byte.

    Raises:
        SourceError: it is missing, cannot be read, or differs in size, sha256 or md5.
    """
    try:
        if not path.is_file():  # a pipe or a device would never end
            raise SourceError(f"{file.name} is missing")
        size = path.stat().st_size
        if size != file.size:
            kind = PassingSourceError if size < file.size else SourceError
            raise kind(f"{file.name}: expected {file.size:,} bytes, got {size:,}")
        content = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{file.name}: {error.strerror}") from None
    md5 = hashlib.md5(content, usedforsecurity=False)
    if (hashlib.sha256(content).hexdigest(), md5.hexdigest()) != (file.sha256, file.md5):
        raise SourceError(f"{file.name}: the right size, but other content")


def put_in_place(found: dict[RawFile, Path], target: Path) -> None:
    """Copy the files beside their targets in the folder `target`, and move them over when the last copy is whole.

    Raises:
        SourceError: a file is missing, or not what it should be.
    """
    with ExitStack() as stack:
        for file, path in found.items():
            temporary = stack.enter_context(replacing(target / file.name))
            shutil.copyfile(path, temporary)
            check_whole(temporary, file)


def _find(mirror: str, files: Sequence[RawFile]) -> tuple[dict[RawFile, Path], str]:
    """Return where the whole `files` lie on this machine, downloaded if need be, and where they came from."""
    if scheme_of(mirror) in ("http", "https"):
        downloaded: list[RawFile] = []
        by_size = sorted(files, key=lambda file: file.size)  # a bad mirror shows itself on the smallest
        found = {file: _cached(mirror, file, downloaded) for file in by_size}
        return found, shown(mirror) if downloaded else "the download cache"

    folder = local_path(mirror)
    try:
        if not folder.is_dir():
            raise SourceError("no such folder", reached=False)
    except OSError as error:
        raise SourceError(f"no such folder ({error.strerror})", reached=False) from None
    for file in files:
        check_whole(folder / file.name, file)
    return {file: folder / file.name for file in files}, shown(mirror)


def _cached(mirror: str, file: RawFile, downloaded: list[RawFile]) -> Path:
    """Return the path of `file` in the cache, downloaded unless it is there; note a download in `downloaded`."""
    import pooch  # 0.1 s, only when something is fetched

    base, mark, query = mirror.partition("#")[0].partition("?")
    url = f"{base.rstrip('/')}/{file.name}{mark}{query}"

    def download_whole(_url: str, path: str, _store: object) -> None:
        download(url, path, file.size, FILE_SECONDS + file.size / BYTES_PER_SECOND)
        check_whole(Path(path), file)
        downloaded.append(file)

    try:
        cache = pooch.os_cache("fashion-mnist-dvc")
    except RuntimeError:
        raise UserError("cannot keep downloads: the user has no home folder; set XDG_CACHE_HOME to a folder") from None
    name = f"{file.sha256[:12]}-{file.name}"
    store = pooch.create(cache, base_url="", registry={name: f"sha256:{file.sha256}"}, retry_if_failed=1)
    with ExitStack() as afterwards:
        logger = pooch.get_logger()
        afterwards.callback(logger.setLevel, logger.level)
        logger.setLevel("CRITICAL")  # stderr is for what went wrong with a mirror
        try:
            return Path(store.fetch(name, downloader=download_whole))
        except SourceError as trouble:
            if not trouble.reached or file.name in str(trouble):
                raise
            raise SourceError(f"{file.name}: {trouble}") from None
        except OSError as error:
            why = error.strerror or "no permission"
            raise UserError(f"cannot keep downloads in {cache} ({why}); set XDG_CACHE_HOME to another folder") from None
