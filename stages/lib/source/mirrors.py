"""Fetching known files from the first mirror that gives them all whole.

A mirror is an http(s) address, a file:// address or a folder. Nothing a mirror says is taken on trust: sizes and sums
are known beforehand, no more is read than a file's size, and nothing moves into place before every file is whole.
Downloads go through pooch into a per-user cache, where they are found again by their sum.
"""

import hashlib
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Any
from urllib.parse import urljoin, urlsplit
from urllib.request import url2pathname

import pooch
import requests
import urllib3
from tqdm import tqdm

from stages.lib.base.errors import UserError
from stages.lib.base.files import replacing
from stages.lib.source.fashion_mnist import RawFile

VARIABLE = "FASHION_MNIST_MIRROR"
CACHE_NAME = "fashion-mnist-dvc"
DOWNLOAD_CACHE = "the download cache"

pooch.get_logger().setLevel("CRITICAL")  # it prints addresses with the passwords in them


@dataclass(frozen=True)
class Patience:
    """How long to wait for a mirror.

    Attributes:
        connect_seconds: for a connection, per network address of the host.
        read_seconds: for the next bytes.
        file_seconds: for a whole file, on top of what it takes at `bytes_per_second`.
        bytes_per_second: the slowest transfer worth waiting for.
    """

    connect_seconds: float = 5
    read_seconds: float = 20
    file_seconds: float = 30
    bytes_per_second: float = 100_000


PATIENT = Patience()


class NoMirrorReached(UserError):  # noqa: N818 - a state of the network rather than a mistake
    """Not one mirror could be reached at all: no network, or no such host or folder."""


class MirrorError(Exception):
    """What was wrong with a mirror, in a few words for the user.

    Attributes:
        reached: whether the mirror was there at all.
    """

    def __init__(self, what: str, reached: bool = True) -> None:
        super().__init__(what)
        self.reached = reached


class PassingMirrorError(MirrorError, ValueError):
    """What may be over at the next try. A ValueError, because that is what pooch tries again after."""


def mirrors_in_order(listed: Sequence[str]) -> list[str]:
    """The mirror in the environment variable FASHION_MNIST_MIRROR, if it is set, and then those `listed`."""
    named = (mirror.strip() for mirror in (os.environ.get(VARIABLE, ""), *listed))
    return list(dict.fromkeys(mirror for mirror in named if mirror))


def fetch_from_mirrors(
    files: Sequence[RawFile],
    mirrors: Sequence[str],
    target: Path,
    cache: Path | None = None,
    patience: Patience = PATIENT,
) -> str:
    """Put `files` into `target`, from the first of `mirrors` that gives all of them whole.

    Each mirror given up is named on stderr. If all fail, `target` is left as it was.

    Args:
        files: what to fetch, with size and sums.
        mirrors: http(s):// and file:// addresses and folders, in the order to try them.
        target: the folder to put the files into.
        cache: where downloads are kept; a folder of the user's own unless given.
        patience: how long to wait for a mirror.

    Returns:
        Where the files came from, for the user: the mirror, or the download cache.

    Raises:
        NoMirrorReached: no mirror could be reached.
        UserError: mirrors were reached, but none gave all the files whole.
    """
    troubles: list[tuple[str, MirrorError]] = []
    for mirror in mirrors:
        try:
            paths, origin = _find(mirror, files, cache or pooch.os_cache(CACHE_NAME), patience)
            _put_in_place(paths, files, target)
        except MirrorError as trouble:
            troubles.append((mirror, trouble))
            if len(troubles) < len(mirrors):
                print(f"fetch: {shown(mirror)}: {trouble}; trying the next", file=sys.stderr)
        else:
            return origin

    reasons = "; ".join(f"{shown(mirror)}: {trouble}" for mirror, trouble in troubles) or "none is given"
    kind = UserError if not troubles or any(trouble.reached for _, trouble in troubles) else NoMirrorReached
    raise kind(
        f"no mirror gave all {len(files)} files ({reasons}). Set {VARIABLE} to a folder or an address that holds "
        f"{files[0].name} and the others; or do without: `dvc exp run -S fetch.source=synthetic`, "
        "or `source: synthetic` below `fetch:` in params.yaml"
    )


def all_whole(files: Sequence[RawFile], folder: Path) -> bool:
    """Whether `folder` holds all of `files` with the right content."""
    try:
        for file in files:
            check_whole(folder / file.name, file)
    except MirrorError:
        return False
    return True


def check_whole(path: Path, file: RawFile) -> None:
    """Check that what lies at `path` is `file`, byte for byte.

    Raises:
        MirrorError: it is missing, cannot be read, or differs in size, sha256 or md5.
    """
    try:
        if not path.is_file():  # a pipe or a device would never end
            raise MirrorError(f"{file.name} is missing")
        size = path.stat().st_size
        if size != file.size:
            kind = PassingMirrorError if size < file.size else MirrorError
            raise kind(f"{file.name}: expected {file.size:,} bytes, got {size:,}")
        with path.open("rb") as content:
            sha256 = hashlib.file_digest(content, "sha256").hexdigest()
            content.seek(0)
            md5 = hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise MirrorError(f"{file.name}: {error.strerror}") from None
    if (sha256, md5) != (file.sha256, file.md5):
        raise MirrorError(f"{file.name}: the right size, but other content")


def download(url: str, path: str | Path, max_bytes: int, seconds: float, patience: Patience = PATIENT) -> None:
    """Download `url` to `path`, once, with a progress bar if stderr is a terminal.

    Args:
        url: an http(s) address. Redirects may lead to http(s) only, and not from https to http.
        path: the file to write.
        max_bytes: the download is broken off when more than this comes.
        seconds: the download is broken off when it takes longer than this.
        patience: for its time-outs.

    Raises:
        MirrorError: the server could not be reached, or its answer is no good.
    """
    answers: list[requests.Response] = []

    def examine(answer: requests.Response, **_: Any) -> None:
        answers.append(answer)
        _check_answer(answer)

    get = pooch.HTTPDownloader(
        chunk_size=8192,
        timeout=(patience.connect_seconds, patience.read_seconds),
        headers={"Accept-Encoding": "identity"},
        hooks={"response": examine},
    )
    with (
        Path(path).open("wb") as file,
        tqdm(desc=shown(url).split("/")[-1], unit="B", unit_scale=True, ncols=79, leave=False, disable=None) as bar,
    ):
        try:
            with _alarm(seconds):
                get(url, _Bounded(file, max_bytes, bar), None)
        except MirrorError:
            raise
        except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
            raise _in_words(error, bool(answers)) from None
        finally:
            for answer in answers:  # pooch leaves the connection open, and the server sending
                answer.close()


def scheme_of(address: str) -> str:
    """The scheme of an address in lower case, or "" for a path. Two letters at least: `C:` is a drive."""
    match = re.match(r"([a-z][a-z0-9+.-]+):", address, re.IGNORECASE)
    return match[1].lower() if match else ""


def local_path(address: str) -> Path:
    """The path that a file:// address or a path (`~` is the user's home) stands for.

    Raises:
        MirrorError: the address names another machine, or somebody unknown's home.
    """
    try:
        if scheme_of(address) != "file":
            return Path(address).expanduser()
        parts = urlsplit(address)
    except (RuntimeError, ValueError):
        raise MirrorError("no such folder", reached=False) from None
    if parts.netloc not in ("", "localhost"):
        raise MirrorError("a file:// address takes the whole path, as in file:///home/me/mirror", reached=False)
    return Path(url2pathname(parts.path))


def shown(address: str) -> str:
    """The address as it may be printed: without password and without the query, which may hold a key."""
    if not scheme_of(address):
        return address
    return re.split(r"[?#]", re.sub(r"^([^:]+:/*).*@", r"\1***@", address, flags=re.DOTALL))[0]


def _find(mirror: str, files: Sequence[RawFile], cache: Path, patience: Patience) -> tuple[list[Path], str]:
    """Where the whole `files` lie on this machine, downloaded if need be; and where they came from."""
    scheme = scheme_of(mirror)
    if scheme in ("http", "https"):
        downloaded: list[RawFile] = []
        paths = {}
        for file in sorted(files, key=lambda file: file.size):  # a bad mirror shows itself on the smallest
            paths[file] = _cached(mirror, file, cache, patience, downloaded)
        return [paths[file] for file in files], shown(mirror) if downloaded else DOWNLOAD_CACHE
    if scheme not in ("", "file"):
        raise MirrorError(f"{scheme}: is not supported; http, https and file addresses and folders are", reached=False)

    folder = local_path(mirror)
    try:
        if not folder.is_dir():
            raise MirrorError("no such folder", reached=False)
    except OSError as error:
        raise MirrorError(f"no such folder ({error.strerror})", reached=False) from None
    for file in files:
        check_whole(folder / file.name, file)
    return [folder / file.name for file in files], shown(mirror)


def _cached(mirror: str, file: RawFile, cache: Path, patience: Patience, downloaded: list[RawFile]) -> Path:
    """The path of `file` in the cache, downloaded unless it is there; a download is noted in `downloaded`."""
    url = _join(mirror, file.name)
    seconds = patience.file_seconds + file.size / patience.bytes_per_second

    def download_whole(url: str, path: str, _store: object) -> None:
        download(url, path, file.size, seconds, patience)
        check_whole(Path(path), file)
        downloaded.append(file)

    name = f"{file.sha256[:12]}-{file.name}"
    store = pooch.create(
        cache, base_url="", registry={name: f"sha256:{file.sha256}"}, urls={name: url}, retry_if_failed=1
    )
    try:
        return Path(store.fetch(name, downloader=download_whole))
    except MirrorError as trouble:
        about_the_file = trouble.reached and file.name not in str(trouble)
        raise MirrorError(f"{file.name}: {trouble}" if about_the_file else str(trouble), trouble.reached) from None
    except OSError as error:
        why = error.strerror or "no permission"
        raise UserError(f"cannot keep downloads in {cache} ({why}); set XDG_CACHE_HOME to another folder") from None


def _join(mirror: str, name: str) -> str:
    try:
        parts = urlsplit(mirror)
        if not parts.hostname or parts.port == 0:
            raise ValueError
    except ValueError:
        raise MirrorError("not a valid address", reached=False) from None
    return parts._replace(path=f"{parts.path.rstrip('/')}/{name}", fragment="").geturl()


def _put_in_place(paths: Sequence[Path], files: Sequence[RawFile], target: Path) -> None:
    """Copy the files beside their targets, and move them over when the last copy is whole."""
    with ExitStack() as stack:
        for path, file in zip(paths, files, strict=True):
            temporary = stack.enter_context(replacing(target / file.name))
            shutil.copyfile(path, temporary)
            check_whole(temporary, file)


def _check_answer(answer: requests.Response) -> None:
    """Look at status and headers of an answer, before its body is read."""
    if answer.is_redirect:
        answer.close()  # requests would read the body to its end, and it may have none
        scheme = urlsplit(urljoin(answer.url, answer.headers["location"])).scheme
        if scheme not in (["https"] if answer.url.startswith("https:") else ["http", "https"]):
            raise MirrorError(f"a redirect to {scheme}: is refused")
    elif answer.status_code != requests.codes.ok:
        kind = PassingMirrorError if answer.status_code >= requests.codes.server_error else MirrorError
        raise kind(f"HTTP status {answer.status_code}")
    # Servers that label a .gz file as compressed in transit would have it decompressed on arrival.
    answer.raw.headers.pop("content-encoding", None)


class _Bounded:
    """The part of a file that pooch writes to, taking `limit` bytes and no more."""

    def __init__(self, file: IO[bytes], limit: int, bar: "tqdm[Any]") -> None:
        self.file, self.limit, self.bar, self.count = file, limit, bar, 0

    def write(self, chunk: bytes) -> None:
        if self.count + len(chunk) > self.limit:
            raise MirrorError(f"more than {self.limit:,} bytes came")
        self.file.write(chunk)
        self.count += len(chunk)
        self.bar.update(len(chunk))

    def flush(self) -> None:
        self.file.flush()


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Break the block off after `seconds`.

    A read time-out starts anew with every byte, so a server that drips could hold us for days. Only a signal gets
    into the middle of a read, and only on POSIX and in the main thread; elsewhere the read time-out has to do.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(_signal: int, frame: FrameType | None) -> None:
        raise MirrorError(f"not whole after {seconds:.0f} s", reached=not _is_connecting(frame))

    started = time.monotonic()
    handler = signal.signal(signal.SIGALRM, ring)
    remaining, interval = signal.setitimer(signal.ITIMER_REAL, seconds, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler or signal.SIG_DFL)
        if remaining:  # somebody else's alarm, pytest-timeout's say
            signal.setitimer(signal.ITIMER_REAL, max(remaining - (time.monotonic() - started), 0.001), interval)


def _is_connecting(frame: FrameType | None) -> bool:
    """Whether `frame` is below urllib3's connecting, which tries every address of a host in turn."""
    while frame and frame.f_code is not urllib3.util.connection.create_connection.__code__:
        frame = frame.f_back
    return frame is not None


def _in_words(error: Exception, answered: bool) -> MirrorError:
    """What the download's error means. Our own words: the libraries' would print the address, password and all."""
    reason = error.args[0] if error.args else None
    if isinstance(reason, urllib3.exceptions.MaxRetryError):
        reason = reason.reason

    match error, reason:
        case requests.exceptions.ConnectTimeout(), _:
            return MirrorError("no connection in time", answered)
        case _, urllib3.exceptions.NameResolutionError():
            return MirrorError("its name cannot be resolved", answered)
        case _, urllib3.exceptions.NewConnectionError():
            return MirrorError(str(getattr(reason.__cause__, "strerror", None) or "no connection").lower(), answered)
        case requests.exceptions.ProxyError(), _:
            return MirrorError("the proxy gives no connection", answered)
        case requests.exceptions.SSLError(), _:
            return MirrorError("no secure connection: certificate or encryption refused")
        case (requests.exceptions.ReadTimeout(), _) | (_, urllib3.exceptions.ReadTimeoutError()):
            return MirrorError("stalled: nothing more came")
        case requests.exceptions.TooManyRedirects(), _:
            return MirrorError("redirects without end")
        case ((requests.exceptions.ConnectionError() | requests.exceptions.ChunkedEncodingError()), _):
            return PassingMirrorError("the connection broke")
        case ((requests.exceptions.InvalidURL() | urllib3.exceptions.LocationParseError()), _):
            return MirrorError("not a valid address", answered)
    return MirrorError("no proper HTTP answer")
