"""Download one file within bounds of size and time; read and print addresses.

requests takes a tenth of a second to import: functions that need it import it, so that looking at files costs nothing.
"""

import re
from concurrent.futures import Future
from pathlib import Path
from threading import Event, Thread
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import getproxies

if TYPE_CHECKING:
    from requests import Response
    from tqdm import tqdm

TIMEOUTS = (5, 20)  # seconds to wait for a connection, per network address of the host, and for the next bytes
PIECE_BYTES = 1 << 16


class SourceError(Exception):
    """Say in a few words for the user what is wrong with an address, or with what came from it.

    Attributes:
        reached: whether anything was there.
    """

    def __init__(self, what: str, reached: bool = True) -> None:
        super().__init__(what)
        self.reached = reached


class PassingSourceError(SourceError, ValueError):
    """Say what may be over at the next try. A ValueError, because that is what pooch tries again after."""


def download(url: str, path: str | Path, max_bytes: int, seconds: float) -> None:
    """Download `url` to `path`, once, with a progress bar if stderr is a terminal.

    Args:
        url: an http(s) address. Redirects may lead to http(s) only, and not from https to http.
        path: the file to write.
        max_bytes: the download stops with an error when more than this comes.
        seconds: the download stops with an error when it takes longer than this.

    Raises:
        SourceError: the server could not be reached, or its answer is not usable.
    """
    from tqdm import tqdm

    answered = Event()
    transfer: Future[None] = Future()

    def work() -> None:
        try:
            _transfer(url, file, max_bytes, bar, answered)
            transfer.set_result(None)
        except BaseException as error:
            transfer.set_exception(_in_words(error, answered.is_set()))

    with (
        Path(path).open("wb") as file,
        tqdm(desc=shown(url).split("/")[-1], unit="B", unit_scale=True, ncols=79, leave=False, disable=None) as bar,
    ):
        # A socket's time-out starts again with every byte: a server could keep us for days with the headers alone. So
        # the transfer has a thread of its own. Given up, it ends at its next piece: the file is closed then.
        Thread(target=work, daemon=True).start()
        try:
            transfer.result(seconds)
        except TimeoutError:
            raise SourceError(f"not whole after {seconds:.0f} s", answered.is_set()) from None


def scheme_of(address: str) -> str:
    """Return the scheme of an address in lower case, or "" for a path. Two letters at least: `C:` is a drive."""
    match = re.match(r"([a-z][a-z0-9+.-]+):", address, re.IGNORECASE)
    return match[1].lower() if match else ""


def local_path(address: str) -> Path:
    """Return the path that a file:// address or a path (`~` is the user's home) stands for.

    Raises:
        SourceError: the address is of another kind, or names another machine or the home of an unknown user.
    """
    scheme = scheme_of(address)
    if scheme not in ("", "file"):
        raise SourceError(f"{scheme}: is not supported; http, https and file addresses and paths are", reached=False)
    try:
        if not scheme:
            return Path(address).expanduser()
        parts = urlsplit(address)
    except (RuntimeError, ValueError):
        raise SourceError("no such folder", reached=False) from None
    if parts.netloc not in ("", "localhost"):
        raise SourceError("a file:// address takes the whole path, as in file:///home/me/data", reached=False)
    return Path(unquote(parts.path))


def shown(address: str) -> str:
    """Return the address as it may be printed: in one line, without password and query, which may hold a key."""
    if scheme_of(address):
        address = re.split(r"[?#]", re.sub(r"^([^:]+:/*).*@", r"\1***@", address, flags=re.DOTALL))[0]
    return address if address.isprintable() else repr(address)


def _transfer(url: str, file: IO[bytes], max_bytes: int, bar: "tqdm[Any]", answered: Event) -> None:
    """Write what lies at `url` to `file`; set `answered` when the first headers are here."""
    import requests

    hooks = {"response": [lambda *_, **__: answered.set(), _check_answer]}
    headers = {"Accept-Encoding": "identity"}
    count = 0
    with requests.get(url, headers=headers, hooks=hooks, stream=True, timeout=TIMEOUTS) as answer:
        # read1 takes what is there and does not wait for more. Not decoded: some servers call a .gz file encoded.
        while piece := answer.raw.read1(PIECE_BYTES, decode_content=False):
            count += len(piece)
            if count > max_bytes:
                raise SourceError(f"more than {max_bytes:,} bytes came")
            file.write(piece)
            bar.update(len(piece))


def _check_answer(answer: "Response", **_: Any) -> None:
    """Check the status of an answer, and where it redirects to, before its body is read."""
    if answer.status_code == 200:
        return
    answer.close()  # requests would read the body of a redirect to its end, and it may have none
    if not answer.is_redirect:
        kind = PassingSourceError if answer.status_code >= 500 else SourceError
        raise kind(f"HTTP status {answer.status_code}")
    scheme = urlsplit(urljoin(answer.url, answer.headers["location"])).scheme
    if scheme not in (["https"] if answer.url.startswith("https:") else ["http", "https"]):
        raise SourceError(f"a redirect to {scheme}: is refused")


def _in_words(error: BaseException, answered: bool) -> BaseException:
    """Put an error of the libraries into words of ours: theirs would print the address, password included."""
    from requests import exceptions
    from urllib3 import exceptions as causes

    if type(error) is OSError and error.errno is None:  # of requests, which found no certificates; disks give a number
        return SourceError(f"{error}; is REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE wrong?")
    proxy = bool(getproxies().keys() - {"no"})
    invalid = "its address or the proxy's is not valid" if proxy else "not a valid address"
    cause = error.args[0] if error.args and isinstance(error.args[0], causes.HTTPError) else error
    if isinstance(cause, causes.MaxRetryError):
        cause = cause.reason or cause
    refusal = str(getattr(cause.__cause__, "strerror", None) or "no connection").lower()
    for kind, meaning in (
        (SourceError, error),
        (causes.NameResolutionError, SourceError("its name cannot be resolved", answered)),
        (causes.NewConnectionError, SourceError(refusal, answered)),
        (causes.ConnectTimeoutError, SourceError("no connection in time", answered)),
        (causes.ProxyError, SourceError("the proxy gives no connection", answered)),
        (exceptions.InvalidSchema, SourceError("there is a SOCKS proxy; http and https proxies are supported")),
        ((causes.LocationValueError, exceptions.InvalidURL), SourceError(invalid, answered or proxy)),
        (causes.SSLError, SourceError("no secure connection: certificate or encryption refused")),
        (causes.ReadTimeoutError, SourceError("stalled: nothing more came")),
        (causes.ProtocolError, PassingSourceError("the connection broke")),
        (exceptions.TooManyRedirects, SourceError("redirects without end")),
        ((exceptions.RequestException, causes.HTTPError, ValueError), SourceError("no proper HTTP answer")),
    ):
        if isinstance(cause, kind):
            return meaning
    return error
