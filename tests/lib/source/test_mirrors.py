"""Mirrors that are good, gone, broken, slow or hostile, all of them on this machine."""

import hashlib
import io
import os
import re
import signal
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn
from urllib.parse import urlsplit

import pooch
import pytest
import requests

from stages.lib import mirrors
from stages.lib.base.errors import UserError
from stages.lib.source.fashion_mnist import RawFile
from stages.lib.source.mirrors import NoMirrorReached, Patience, all_whole, fetch_from_mirrors, mirrors_in_order, shown

SMALL, LARGE = "labels.gz", "images.gz"
CONTENT = {LARGE: bytes(range(250)) * 200, SMALL: zlib.compress(b"labels" * 100) * 40}
FILES = tuple(
    RawFile(name, len(data), hashlib.sha256(data).hexdigest(), hashlib.md5(data).hexdigest())
    for name, data in CONTENT.items()
)
SIZES = {file.name: file.size for file in FILES}
HASTY = Patience(connect_seconds=0.5, read_seconds=0.3, file_seconds=0.8, bytes_per_second=1e6)

Answer = Callable[[BaseHTTPRequestHandler, str], None]
Serve = Callable[[Answer], str]
Fetch = Callable[..., str]


@pytest.fixture(autouse=True)
def _no_proxy_no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv(mirrors.VARIABLE, raising=False)
    monkeypatch.setattr(pooch.core, "time", SimpleNamespace(sleep=lambda seconds: None))


class QuietServer(ThreadingHTTPServer):
    """Prints nothing when a client hangs up: the tests read stderr."""

    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server that treats every request as the function given does; gives its address."""
    servers = []

    def start(answer: Answer) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                try:
                    answer(self, urlsplit(self.path).path.rsplit("/", 1)[-1])
                except OSError:  # the client has had enough
                    self.close_connection = True

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        server = QuietServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.socket.close()


@pytest.fixture
def fetch(tmp_path: Path) -> Fetch:
    """Fetches FILES from the mirrors given, in little time."""

    def call(*addresses: str, patience: Patience = HASTY) -> str:
        return fetch_from_mirrors(FILES, addresses, tmp_path / "raw", tmp_path / "cache", patience)

    return call


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return tmp_path / "raw"


@pytest.fixture
def refusing() -> Iterator[str]:
    """An address where nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that holds all files."""
    folder = tmp_path / "a mirror"
    folder.mkdir()
    for name, data in CONTENT.items():
        (folder / name).write_bytes(data)
    return folder


def reply(request: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    request.send_response(status)
    for name, value in {"Content_Length": str(len(body)), **headers}.items():
        request.send_header(name.replace("_", "-"), value)
    request.end_headers()
    request.wfile.write(body)


def good(request: BaseHTTPRequestHandler, name: str) -> None:
    reply(request, 200, CONTENT[name])


def redirect(target: str) -> Answer:
    return lambda request, name: reply(request, 302, b"", Location=target + name)


def reset(request: BaseHTTPRequestHandler, name: str) -> None:
    # Closing with linger 0 sends RST.
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    request.close_connection = True
    request.connection.close()


def stall(request: BaseHTTPRequestHandler, name: str) -> None:
    time.sleep(3)


def stall_halfway(request: BaseHTTPRequestHandler, name: str) -> None:
    reply(request, 200, CONTENT[name][:50], Content_Length=str(SIZES[name]))
    time.sleep(3)


def drip(request: BaseHTTPRequestHandler, name: str) -> None:
    reply(request, 200, b"", Content_Length=str(SIZES[name]))
    for byte in CONTENT[name][:100]:
        request.wfile.write(bytes([byte]))
        time.sleep(0.05)


def drip_headers(request: BaseHTTPRequestHandler, name: str) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nX-Padding: " + b"x" * 100:
        request.wfile.write(bytes([byte]))
        time.sleep(0.05)


def redirect_with_endless_body(request: BaseHTTPRequestHandler, name: str) -> None:
    request.send_response(302)
    request.send_header("Location", "file:///etc/")
    request.end_headers()
    while True:
        request.wfile.write(bytes(100_000))


def no_http(request: BaseHTTPRequestHandler, name: str) -> None:
    request.wfile.write(b"220 ftp ready\r\n")


BAD_ANSWERS: dict[str, tuple[Answer, str]] = {
    "short": (lambda request, name: reply(request, 200, CONTENT[name][:-1]), r"expected [\d,]+ bytes, got [\d,]+"),
    "cut off": (
        lambda request, name: reply(request, 200, CONTENT[name][:50], Content_Length=str(SIZES[name])),
        "the connection broke",
    ),
    "long": (lambda request, name: reply(request, 200, CONTENT[name] + b"x"), r"more than [\d,]+ bytes came"),
    "other content": (lambda request, name: reply(request, 200, bytes(SIZES[name])), "other content"),
    "empty": (lambda request, name: reply(request, 200, b""), r"expected [\d,]+ bytes, got 0"),
    "web page": (
        lambda request, name: reply(request, 200, b"<html>Log in first</html>", Content_Type="text/html"),
        r"expected [\d,]+ bytes, got 25",
    ),
    "404": (lambda request, name: reply(request, 404, b"no"), "HTTP status 404"),
    "500": (lambda request, name: reply(request, 500, b"no"), "HTTP status 500"),
    "204": (lambda request, name: reply(request, 204, b""), "HTTP status 204"),
    "304": (lambda request, name: reply(request, 304, b""), "HTTP status 304"),
    "no HTTP": (no_http, "the connection broke"),
    "odd length": (lambda request, name: reply(request, 200, b"x", Content_Length="many"), "no proper HTTP answer"),
    "reset": (reset, "the connection broke"),
    "stall": (stall, "stalled"),
    "stall half-way": (stall_halfway, "stalled"),
    "drip": (drip, "not whole after 1 s"),
    "drip in the headers": (drip_headers, "not whole after 1 s"),
    "redirect to a file": (redirect("file:///etc/hostname#"), "redirect to file: is refused"),
    "redirect to ftp": (redirect("ftp://127.0.0.1/"), "redirect to ftp: is refused"),
    "redirect with an endless body": (redirect_with_endless_body, "redirect to file: is refused"),
    "redirect in a circle": (redirect("/"), "redirects without end"),
    "redirect to nonsense": (redirect("http://[/"), "no proper HTTP answer|not a valid address"),
}


@pytest.mark.parametrize("kind", BAD_ANSWERS)
def test_a_bad_mirror_is_named_in_one_line_and_the_next_one_tried(
    kind: str,
    serve: Serve,
    fetch: Fetch,
    raw: Path,
    capfd: pytest.CaptureFixture[str],
    survived: Callable[[str], None],
) -> None:
    answer, what = BAD_ANSWERS[kind]
    bad, next_one = serve(answer), serve(good)
    started = time.monotonic()
    assert fetch(bad, next_one) == next_one
    assert time.monotonic() - started < 2.5
    assert all_whole(FILES, raw)
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert re.fullmatch(rf"fetch: {re.escape(bad)}: .*({what}).*; trying the next", lines[0])
    survived("mirror that answers badly")


@pytest.mark.parametrize("kind", BAD_ANSWERS)
def test_a_mirror_that_answers_badly_counts_as_reached(kind: str, serve: Serve, fetch: Fetch, raw: Path) -> None:
    answer, what = BAD_ANSWERS[kind]
    with pytest.raises(UserError, match=what) as caught:
        fetch(serve(answer))
    assert not isinstance(caught.value, NoMirrorReached)
    assert not raw.exists()


def unresolvable(*_: object, **__: object) -> NoReturn:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def test_no_network_at_all_is_told_apart(
    refusing: str, tmp_path: Path, fetch: Fetch, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", unresolvable)
    with pytest.raises(NoMirrorReached, match="its name cannot be resolved"):
        fetch("http://no.such.host/", "https://no.such.host/")
    monkeypatch.undo()
    with pytest.raises(NoMirrorReached) as caught:
        fetch(refusing, str(tmp_path / "absent"), "file:///no/such/folder", "ftp://127.0.0.1/", "gopher:x", "http://")
    message = str(caught.value)
    assert f"{refusing}: connection refused; " in message
    assert f"{tmp_path / 'absent'}: no such folder; " in message
    assert "file:///no/such/folder: no such folder; " in message
    assert "ftp://127.0.0.1/: ftp: is not supported" in message
    assert "http://: not a valid address" in message
    assert "FASHION_MNIST_MIRROR" in message
    assert "fetch.source=synthetic" in message
    assert "\n" not in message
    assert not raw.exists()


def test_one_wrong_mirror_among_unreachable_ones_is_not_taken_for_no_network(
    serve: Serve, refusing: str, fetch: Fetch
) -> None:
    with pytest.raises(UserError) as caught:
        fetch(refusing, serve(BAD_ANSWERS["404"][0]), refusing)
    assert not isinstance(caught.value, NoMirrorReached)
    assert str(caught.value).count("connection refused") == 2


def test_a_connection_that_never_comes_about_counts_as_not_reached(
    fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swallow(connection: socket.socket, address: object) -> NoReturn:
        time.sleep(connection.gettimeout() or 60)
        raise TimeoutError

    monkeypatch.setattr(socket.socket, "connect", swallow)
    with pytest.raises(NoMirrorReached, match="no connection in time"):
        fetch("http://192.0.2.1/")

    # A host with many addresses, each of which swallows packets, is given up as a whole.
    many = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"192.0.2.{last}", 80)) for last in range(1, 50)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: many)
    started = time.monotonic()
    with pytest.raises(NoMirrorReached, match="not whole after 1 s"):
        fetch("http://many.addresses/")
    assert time.monotonic() - started < 2


def test_a_redirect_to_a_dead_host_counts_as_reached(serve: Serve, refusing: str, fetch: Fetch) -> None:
    with pytest.raises(UserError, match="connection refused") as caught:
        fetch(serve(redirect(refusing)))
    assert not isinstance(caught.value, NoMirrorReached)


def test_the_first_good_mirror_wins(serve: Serve, fetch: Fetch, raw: Path) -> None:
    asked: list[str] = []

    def second(request: BaseHTTPRequestHandler, name: str) -> None:
        asked.append(name)
        good(request, name)

    first = serve(good)
    assert fetch(first, serve(second)) == first
    assert not asked
    assert sorted(path.name for path in raw.iterdir()) == sorted(SIZES)  # and no temporary file


def test_redirects_between_web_addresses_are_followed(serve: Serve, fetch: Fetch, raw: Path) -> None:
    fetch(serve(redirect(serve(good))))
    assert all_whole(FILES, raw)


def test_a_redirect_from_https_down_to_http_is_refused() -> None:
    answer = requests.Response()
    answer.url, answer.status_code, answer.raw = "https://host/a", 302, io.BytesIO()
    answer.headers["location"] = "http://host/a"
    with pytest.raises(mirrors.MirrorError, match="redirect to http: is refused"):
        mirrors._check_answer(answer)


def test_a_passing_fault_is_tried_again_once(serve: Serve, fetch: Fetch, capfd: pytest.CaptureFixture[str]) -> None:
    asked: list[str] = []

    def at_the_second_try(request: BaseHTTPRequestHandler, name: str) -> None:
        asked.append(name)
        if asked.count(name) == 1:
            reply(request, 503, b"busy") if name == SMALL else reset(request, name)
        else:
            good(request, name)

    fetch(serve(at_the_second_try))
    assert sorted(asked) == sorted([SMALL, LARGE] * 2)
    assert capfd.readouterr().err == ""


def test_a_file_labelled_as_compressed_in_transit_arrives_as_it_is(serve: Serve, fetch: Fetch, raw: Path) -> None:
    fetch(serve(lambda request, name: reply(request, 200, CONTENT[name], Content_Encoding="gzip")))
    assert all_whole(FILES, raw)


def test_endless_data_is_broken_off_at_the_known_size(serve: Serve, fetch: Fetch) -> None:
    sent: list[int] = []
    ended = threading.Event()

    def endless(request: BaseHTTPRequestHandler, name: str) -> None:
        # Small buffers, so that what was sent is about what was taken.
        request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        request.send_response(200)
        request.end_headers()
        try:
            while True:
                sent.append(request.wfile.write(bytes(10_000)))
        finally:
            ended.set()

    with pytest.raises(UserError, match=rf"{SMALL}: more than {SIZES[SMALL]:,} bytes came"):
        fetch(serve(endless))
    assert ended.wait(2)
    assert sum(sent) < SIZES[SMALL] + 8 * 1024**2  # the receiver's socket buffer takes some megabytes


def test_a_file_that_came_whole_is_not_fetched_again_from_the_next_mirror(serve: Serve, fetch: Fetch) -> None:
    asked: list[str] = []

    def only_small(request: BaseHTTPRequestHandler, name: str) -> None:
        good(request, name) if name == SMALL else reply(request, 404, b"")

    def second(request: BaseHTTPRequestHandler, name: str) -> None:
        asked.append(name)
        good(request, name)

    fetch(serve(only_small), serve(second))
    assert asked == [LARGE]


def test_a_second_fetch_comes_from_the_download_cache(serve: Serve, refusing: str, fetch: Fetch, raw: Path) -> None:
    fetch(serve(good))
    for path in raw.iterdir():
        path.unlink()
    assert fetch(refusing) == "the download cache"
    assert all_whole(FILES, raw)


def test_a_damaged_file_in_the_download_cache_is_fetched_again(
    serve: Serve, fetch: Fetch, raw: Path, tmp_path: Path
) -> None:
    address = serve(good)
    fetch(address)
    for path in (tmp_path / "cache").iterdir():
        path.write_bytes(b"damaged")
    assert fetch(address) == address
    assert all_whole(FILES, raw)


def test_a_failed_download_leaves_nothing_in_the_cache(serve: Serve, fetch: Fetch, tmp_path: Path) -> None:
    for kind in ("other content", "long", "drip"):
        with pytest.raises(UserError):
            fetch(serve(BAD_ANSWERS[kind][0]))
    assert list((tmp_path / "cache").iterdir()) == []


def test_when_all_fail_the_target_is_left_as_it_was(serve: Serve, fetch: Fetch, raw: Path, tmp_path: Path) -> None:
    raw.mkdir()
    (raw / SMALL).write_bytes(b"older")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / SMALL).write_bytes(CONTENT[SMALL])
    with pytest.raises(UserError):
        fetch(serve(BAD_ANSWERS["404"][0]), str(tmp_path / "half"))
    assert [(path.name, path.read_bytes()) for path in raw.iterdir()] == [(SMALL, b"older")]


@pytest.mark.parametrize("form", ["{}", "{}/", "file://{}", "file://localhost{}/"])
def test_a_folder_is_a_mirror_by_path_and_by_file_address(form: str, folder: Path, fetch: Fetch, raw: Path) -> None:
    assert fetch(form.format(folder)) == form.format(folder)
    assert all_whole(FILES, raw)


def test_a_folder_may_be_relative_or_below_the_home(
    folder: Path, fetch: Fetch, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    fetch("a mirror")
    (raw / SMALL).unlink()
    monkeypatch.setenv("HOME", str(folder.parent))
    fetch("~/a mirror")
    (raw / SMALL).unlink()
    fetch(folder.as_uri())  # a%20mirror
    assert all_whole(FILES, raw)


@pytest.mark.parametrize("slash", ["", "/", "//"])
def test_a_web_address_may_end_in_slashes_or_not(slash: str, serve: Serve, fetch: Fetch) -> None:
    paths: list[str] = []

    def note(request: BaseHTTPRequestHandler, name: str) -> None:
        paths.append(request.path)
        good(request, name)

    prefix = "/some%20folder/"
    fetch(serve(note) + "some folder" + slash + "?key=1")
    assert paths == [f"{prefix}{SMALL}?key=1", f"{prefix}{LARGE}?key=1"]


def test_a_wrong_file_in_a_folder_is_named(folder: Path, fetch: Fetch, raw: Path) -> None:
    data = bytearray(CONTENT[LARGE])
    data[1000] ^= 1
    for wrong, what in [
        (bytes(data), "images.gz: the right size, but other content"),
        (b"short", r"images.gz: expected 50,000 bytes, got 5"),
        (None, "images.gz is missing"),
    ]:
        (folder / LARGE).unlink() if wrong is None else (folder / LARGE).write_bytes(wrong)
        with pytest.raises(UserError, match=what) as caught:
            fetch(str(folder))
        assert not isinstance(caught.value, NoMirrorReached)
    assert not raw.exists()


IMPOSSIBLE = "http:// http://[::1 http://host:99999/ http://host:0/ https://.../ file://host/x file://[ ~nobody0/x a\0b"


@pytest.mark.parametrize("address", [*IMPOSSIBLE.split(" "), "x" * 5000])
def test_an_impossible_address_is_passed_over(address: str, folder: Path, fetch: Fetch, raw: Path) -> None:
    fetch(address, str(folder))
    assert all_whole(FILES, raw)
    with pytest.raises(NoMirrorReached):
        fetch(address)


def test_no_mirror_given_is_said_so(fetch: Fetch) -> None:
    with pytest.raises(UserError, match="none is given") as caught:
        fetch()
    assert not isinstance(caught.value, NoMirrorReached)


def test_the_environment_names_the_first_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    assert mirrors_in_order(["a", "b"]) == ["a", "b"]
    monkeypatch.setenv("FASHION_MNIST_MIRROR", " b ")
    assert mirrors_in_order(["a", "b"]) == ["b", "a"]
    monkeypatch.setenv("FASHION_MNIST_MIRROR", "")
    assert mirrors_in_order(["a", "b"]) == ["a", "b"]


def test_a_password_is_never_printed(
    serve: Serve, refusing: str, fetch: Fetch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def secret(address: str) -> str:
        return address.replace("://", "://me:se/cr@et@")

    refusing_one = refusing.replace("://", "://me:secret@") + "?key=secret"
    bad = serve(BAD_ANSWERS["404"][0]).replace("://", "://me:secret@")
    origin = fetch(refusing_one, bad, secret(bad), "ftp://me:secret@host/", serve(good).replace("://", "://me:secret@"))
    with pytest.raises(UserError) as caught:
        fetch_from_mirrors(FILES, [refusing_one, bad], tmp_path / "raw", tmp_path / "another cache", HASTY)
    printed = origin + str(caught.value) + "".join(capfd.readouterr())
    assert "secret" not in printed
    assert "cr@et" not in printed


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("http://me:pass@host/a", "http://***@host/a"),
        ("HTTPS://me:p/a@s?s#@host/a?token=x#y", "HTTPS://***@host/a"),
        ("http:me:pass@host/a", "http:***@host/a"),
        ("me:pass@host/a", "me:***@host/a"),
        ("https://host/a", "https://host/a"),
        ("/data/a@b/?", "/data/a@b/?"),
    ],
)
def test_an_address_is_shown_without_password_and_query(address: str, expected: str) -> None:
    assert shown(address) == expected


def test_an_alarm_of_somebody_else_still_rings(serve: Serve, fetch: Fetch) -> None:
    rung: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: rung.append(number))
    remaining = signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        fetch(serve(good))
        time.sleep(0.5)
    finally:
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *remaining)
    assert rung


def test_another_thread_can_fetch_too(serve: Serve, fetch: Fetch, raw: Path) -> None:
    thread = threading.Thread(target=fetch, args=(serve(good),))
    thread.start()
    thread.join()
    assert all_whole(FILES, raw)


def test_both_sums_are_checked(folder: Path) -> None:
    file = FILES[0]
    mirrors.check_whole(folder / file.name, file)
    for wrong in (replace(file, sha256="0" * 64), replace(file, md5="0" * 32)):
        with pytest.raises(mirrors.MirrorError, match="other content"):
            mirrors.check_whole(folder / file.name, wrong)


def test_a_pipe_in_a_folder_does_not_block(folder: Path, fetch: Fetch) -> None:
    (folder / LARGE).unlink()
    os.mkfifo(folder / LARGE)
    with pytest.raises(UserError, match=r"images\.gz is missing"):
        fetch(str(folder))


def test_a_download_cache_that_cannot_be_written_is_said_so(serve: Serve, tmp_path: Path, raw: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot keep downloads in .*file/cache \(.*\); set XDG_CACHE_HOME"):
        fetch_from_mirrors(FILES, [serve(good)], raw, tmp_path / "file" / "cache", HASTY)
    assert not raw.exists()
