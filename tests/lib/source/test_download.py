"""Servers that are good, gone, broken, slow or hostile; and addresses."""

import io
import socket
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from threading import Event
from typing import NoReturn

import pytest
import requests

from stages.lib.source import download as module
from stages.lib.source.download import SourceError, download, shown
from tests.lib.source.server import NOBODY, Answer, Request, Serve

Failure = Callable[..., tuple[str, bool]]
Survived = Callable[[str], None]

CONTENT = bytes(range(250)) * 200
SIZE = len(CONTENT)
CHUNKED = {"Transfer-Encoding": "chunked"}


@pytest.fixture
def failure(tmp_path: Path) -> Failure:
    """`failure(url)` gives the words of the error, and whether the server counts as reached."""

    def fail(url: str, seconds: float = 600) -> tuple[str, bool]:
        with pytest.raises(SourceError) as caught:
            download(url, tmp_path / "file", SIZE, seconds)
        return str(caught.value), caught.value.reached

    return fail


def good(request: Request) -> None:
    request.reply(200, CONTENT)


def redirect(target: str) -> Answer:
    return lambda request: request.reply(302, Location=target)


def reset(request: Request) -> None:
    # Closing with linger 0 sends RST.
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    request.close_connection = True
    request.connection.close()


def redirect_with_endless_body(request: Request) -> None:
    request.send_response(302)
    request.send_header("Location", "file:///etc/")
    request.end_headers()
    while True:
        request.send(bytes(100_000))


BAD_ANSWERS: dict[str, tuple[Answer, str]] = {
    "cut off": (lambda request: request.reply(200, CONTENT[:50], Content_Length=str(SIZE)), "connection broke"),
    "cut off in a chunk": (lambda request: request.reply(200, b"ff\r\n", **CHUNKED), "connection broke"),
    "long": (lambda request: request.reply(200, CONTENT + b"x"), f"more than {SIZE:,} bytes"),
    "204": (lambda request: request.reply(204), "HTTP status 204"),
    "304": (lambda request: request.reply(304), "HTTP status 304"),
    "404": (lambda request: request.reply(404, b"no"), "HTTP status 404"),
    "500": (lambda request: request.reply(500, b"no"), "HTTP status 500"),
    "no HTTP": (lambda request: request.send(b"220 ftp ready\r\n"), "connection broke"),
    "two lengths": (lambda request: request.reply(200, b"x", Content_Length="5, 6"), "no proper HTTP answer"),
    "reset": (reset, "connection broke"),
    "redirect to a file": (redirect("file:///etc/hostname#"), "redirect to file: is refused"),
    "redirect to ftp": (redirect("ftp://127.0.0.1/"), "redirect to ftp: is refused"),
    "redirect with an endless body": (redirect_with_endless_body, "redirect to file: is refused"),
    "redirect in a circle": (redirect("/"), "redirects without end"),
    "redirect to nonsense": (redirect("http://[/"), "no proper HTTP answer"),
    "redirect in no encoding": (redirect("/\xff"), "no proper HTTP answer"),
    "redirect to no port": (redirect("http://127.0.0.1:99999/"), "not a valid address"),
}


@pytest.mark.parametrize("kind", BAD_ANSWERS)
def test_bad_answer(kind: str, serve: Serve, failure: Failure, survived: Survived) -> None:
    answer, expected = BAD_ANSWERS[kind]
    words, reached = failure(serve(answer))
    assert expected in words
    assert reached
    survived("mirror that answers badly")


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"])
def test_stalled_answer(
    sent: bytes, serve: Serve, failure: Failure, monkeypatch: pytest.MonkeyPatch, survived: Survived
) -> None:
    def stall(request: Request) -> None:
        request.send(sent)
        request.hold()

    monkeypatch.setattr(module, "TIMEOUTS", (600, 0.2))
    words, reached = failure(serve(stall))
    assert "stalled" in words
    assert reached
    survived("mirror that answers badly")


def test_dripping_headers(serve: Serve, failure: Failure, survived: Survived) -> None:
    def drip(request: Request) -> None:
        request.send(b"HTTP/1.1 200 OK\r\nX-Padding: ")
        request.drip()

    words, reached = failure(serve(drip), seconds=0.3)
    assert "not whole after" in words
    assert not reached
    survived("mirror that answers badly")


def test_dripping_body(serve: Serve, failure: Failure, monkeypatch: pytest.MonkeyPatch, survived: Survived) -> None:
    dripping, hung_up = Event(), Event()

    def drip(request: Request) -> None:
        if request.name != "again":
            request.reply(302, Location="/again")
            return
        request.reply(200, Content_Length=str(SIZE))
        dripping.set()  # the first answer is known to have arrived
        try:
            request.drip()
        finally:
            hung_up.set()

    class TimeIsUp(Future[None]):
        def result(self, timeout: float | None = None) -> None:
            assert timeout == 600
            assert dripping.wait(600)
            raise TimeoutError

    monkeypatch.setattr(module, "Future", TimeIsUp)
    words, reached = failure(serve(drip))
    assert "not whole after 600 s" in words
    assert reached
    assert hung_up.wait(600), "the transfer goes on"
    survived("mirror that answers badly")


def test_endless_body(serve: Serve, failure: Failure) -> None:
    sent, ended = [], Event()

    def endless(request: Request) -> None:
        # A small buffer, so that what was sent is about what was taken.
        request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        request.send_response(200)
        request.end_headers()
        try:
            while True:
                request.send(bytes(10_000))
                sent.append(10_000)
        finally:
            ended.set()

    words, _ = failure(serve(endless))
    assert f"more than {SIZE:,} bytes" in words
    assert ended.wait(600)
    assert sum(sent) < SIZE + 8 * 1024**2  # the receiver's socket buffer takes some megabytes


def test_good_answers(serve: Serve, tmp_path: Path) -> None:
    labelled = serve(lambda request: request.reply(200, CONTENT, Content_Encoding="gzip"))
    for address in (serve(good), serve(redirect(serve(good))), labelled):
        download(address, tmp_path / "file", SIZE, seconds=600)
        assert (tmp_path / "file").read_bytes() == CONTENT


def test_redirect_from_https_to_http() -> None:
    answer = requests.Response()
    answer.url, answer.status_code, answer.raw = "https://host/a", 302, io.BytesIO()
    answer.headers["location"] = "http://host/a"
    with pytest.raises(SourceError, match="redirect to http: is refused"):
        module._check_answer(answer)


def test_redirect_to_a_dead_host(serve: Serve, failure: Failure) -> None:
    assert failure(serve(redirect(NOBODY))) == ("connection refused", True)


def test_unreachable_hosts(failure: Failure, monkeypatch: pytest.MonkeyPatch) -> None:
    def unresolvable(*_: object, **__: object) -> NoReturn:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    def time_out(*_: object) -> NoReturn:
        raise TimeoutError

    assert failure(NOBODY) == ("connection refused", False)
    with monkeypatch.context() as patched:
        patched.setattr(socket.socket, "connect", time_out)
        assert failure("http://192.0.2.1/") == ("no connection in time", False)
    monkeypatch.setattr(socket, "getaddrinfo", unresolvable)
    assert failure("https://no.such.host/") == ("its name cannot be resolved", False)


def test_unreachable_proxy(failure: Failure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", NOBODY)
    assert failure("http://192.0.2.1/") == ("the proxy gives no connection", False)


@pytest.mark.parametrize(
    "proxy", ["socks5://127.0.0.1:1", "ftp://127.0.0.1/", "http://", "http://[::1", "http://a:99999"]
)
def test_impossible_proxy(proxy: str, failure: Failure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    words, reached = failure("https://127.0.0.1:1/")
    assert "proxy" in words
    assert ("SOCKS" in words) is proxy.startswith("socks")
    assert reached  # there may be a network


def test_missing_certificates(failure: Failure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/file")
    words, reached = failure("https://127.0.0.1:1/")
    assert "/no/such/file" in words
    assert "REQUESTS_CA_BUNDLE" in words
    assert reached


def test_connecting_takes_too_long(failure: Failure, monkeypatch: pytest.MonkeyPatch) -> None:
    done = Event()  # a host may have many addresses, each of which swallows packets

    def swallow(*_: object) -> NoReturn:
        done.wait()
        raise TimeoutError

    monkeypatch.setattr(socket.socket, "connect", swallow)
    words, reached = failure("http://192.0.2.1/", seconds=0.2)
    done.set()
    assert "not whole after" in words
    assert not reached


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_disk_error_stays_one(serve: Serve) -> None:
    with pytest.raises(OSError, match="No space left"):
        download(serve(good), "/dev/full", SIZE, seconds=600)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("http://me:pass@host/a", "http://***@host/a"),
        ("HTTPS://me:p/a@s?s#@host/a?token=x#y", "HTTPS://***@host/a"),
        ("http:me:pass@host/a", "http:***@host/a"),
        ("me:pass@host/a", "me:***@host/a"),
        ("https://host/a", "https://host/a"),
        ("/data/a@b/?", "/data/a@b/?"),
        ("/data/\x1b[31mred\n", r"'/data/\x1b[31mred\n'"),
        ("http://me:pass@host/\x1b[31m", r"'http://***@host/\x1b[31m'"),
    ],
)
def test_shown_address(address: str, expected: str) -> None:
    assert shown(address) == expected
