"""Servers that are good, gone, broken, slow or hostile; and addresses."""

import io
import socket
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from threading import Event
from typing import Any, NoReturn

import pytest
import requests

from stages.lib.source import download as module
from stages.lib.source.download import SourceError, download, local_path, shown

Answer = Callable[[Any], None]
Serve = Callable[[Answer], str]
Survived = Callable[[str], None]

CONTENT = bytes(range(250)) * 200
SIZE = len(CONTENT)


def get(url: str, path: Path, seconds: float = 60) -> bytes:
    download(url, path, SIZE, seconds)
    return path.read_bytes()


def failure(url: str, path: Path, seconds: float = 60) -> tuple[str, bool]:
    """The words of the error, and whether the server counts as reached."""
    with pytest.raises(SourceError) as caught:
        download(url, path, SIZE, seconds)
    return str(caught.value), caught.value.reached


def good(request: Any) -> None:
    request.reply(200, CONTENT)


def redirect(target: str) -> Answer:
    return lambda request: request.reply(302, Location=target)


def reset(request: Any) -> None:
    # Closing with linger 0 sends RST.
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    request.close_connection = True
    request.connection.close()


def redirect_with_endless_body(request: Any) -> None:
    request.send_response(302)
    request.send_header("Location", "file:///etc/")
    request.end_headers()
    while True:
        request.wfile.write(bytes(100_000))


BAD_ANSWERS: dict[str, tuple[Answer, str]] = {
    "cut off": (lambda request: request.reply(200, CONTENT[:50], Content_Length=str(SIZE)), "connection broke"),
    "cut off in a chunk": (
        lambda request: request.reply(200, b"ff\r\nhalf", Transfer_Encoding="chunked"),
        "connection broke",
    ),
    "long": (lambda request: request.reply(200, CONTENT + b"x"), f"more than {SIZE:,} bytes"),
    "204": (lambda request: request.reply(204), "HTTP status 204"),
    "304": (lambda request: request.reply(304), "HTTP status 304"),
    "404": (lambda request: request.reply(404, b"no"), "HTTP status 404"),
    "500": (lambda request: request.reply(500, b"no"), "HTTP status 500"),
    "no HTTP": (lambda request: request.wfile.write(b"220 ftp ready\r\n"), "connection broke"),
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
def test_bad_answer(kind: str, serve: Serve, tmp_path: Path, survived: Survived) -> None:
    answer, expected = BAD_ANSWERS[kind]
    words, reached = failure(serve(answer), tmp_path / "file")
    assert expected in words
    assert reached
    survived("mirror that answers badly")


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"])
def test_stalled_answer(
    sent: bytes, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survived: Survived
) -> None:
    def stall(request: Any) -> None:
        request.wfile.write(sent)
        request.hold()

    monkeypatch.setattr(module, "TIMEOUTS", (60, 0.2))
    words, reached = failure(serve(stall), tmp_path / "file")
    assert "stalled" in words
    assert reached
    survived("mirror that answers badly")


def test_dripping_headers(serve: Serve, tmp_path: Path, survived: Survived) -> None:
    def drip(request: Any) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\nX-Padding: ")
        request.drip()

    words, reached = failure(serve(drip), tmp_path / "file", seconds=0.3)
    assert "not whole after" in words
    assert not reached
    survived("mirror that answers badly")


def test_dripping_body(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survived: Survived) -> None:
    dripping, hung_up = Event(), Event()

    def drip(request: Any) -> None:
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
            assert timeout == 60
            assert dripping.wait(60)
            raise TimeoutError

    monkeypatch.setattr(module, "Future", TimeIsUp)
    words, reached = failure(serve(drip), tmp_path / "file")
    assert "not whole after 60 s" in words
    assert reached
    assert hung_up.wait(60), "the transfer goes on"
    survived("mirror that answers badly")


def test_endless_body(serve: Serve, tmp_path: Path) -> None:
    sent: list[int] = []
    ended = Event()

    def endless(request: Any) -> None:
        # A small buffer, so that what was sent is about what was taken.
        request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        request.send_response(200)
        request.end_headers()
        try:
            while True:
                sent.append(request.wfile.write(bytes(10_000)))
        finally:
            ended.set()

    words, _ = failure(serve(endless), tmp_path / "file")
    assert f"more than {SIZE:,} bytes" in words
    assert ended.wait(60)
    assert sum(sent) < SIZE + 8 * 1024**2  # the receiver's socket buffer takes some megabytes


def test_good_answers(serve: Serve, tmp_path: Path) -> None:
    labelled = serve(lambda request: request.reply(200, CONTENT, Content_Encoding="gzip"))
    for address in (serve(good), serve(redirect(serve(good))), labelled):
        assert get(address, tmp_path / "file") == CONTENT


def test_redirect_from_https_to_http() -> None:
    answer = requests.Response()
    answer.url, answer.status_code, answer.raw = "https://host/a", 302, io.BytesIO()
    answer.headers["location"] = "http://host/a"
    with pytest.raises(SourceError, match="redirect to http: is refused"):
        module._check_answer(answer)


def test_redirect_to_a_dead_host(serve: Serve, refusing: str, tmp_path: Path) -> None:
    assert failure(serve(redirect(refusing)), tmp_path / "file") == ("connection refused", True)


def test_unreachable_hosts(refusing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unresolvable(*_: object, **__: object) -> NoReturn:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    def time_out(*_: object) -> NoReturn:
        raise TimeoutError

    assert failure(refusing, tmp_path / "file") == ("connection refused", False)
    with monkeypatch.context() as patched:
        patched.setattr(socket.socket, "connect", time_out)
        assert failure("http://192.0.2.1/", tmp_path / "file") == ("no connection in time", False)
    monkeypatch.setattr(socket, "getaddrinfo", unresolvable)
    assert failure("https://no.such.host/", tmp_path / "file") == ("its name cannot be resolved", False)


def test_unreachable_proxy(refusing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", refusing)
    assert failure("http://192.0.2.1/", tmp_path / "file") == ("the proxy gives no connection", False)


def test_connecting_takes_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = Event()  # a host may have many addresses, each of which swallows packets

    def swallow(*_: object) -> NoReturn:
        done.wait(60)
        raise TimeoutError

    monkeypatch.setattr(socket.socket, "connect", swallow)
    words, reached = failure("http://192.0.2.1/", tmp_path / "file", seconds=0.2)
    done.set()
    assert "not whole after" in words
    assert not reached


def test_disk_error_stays_one(serve: Serve) -> None:
    with pytest.raises(OSError, match="No space left"):
        download(serve(good), "/dev/full", SIZE, seconds=60)


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
def test_shown_address(address: str, expected: str) -> None:
    assert shown(address) == expected


def test_local_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    folder = tmp_path / "Bilder für 日本"
    for address in (str(folder), f"{folder}/", f"file://{folder}", f"file://localhost{folder}/", folder.as_uri()):
        assert local_path(address) == folder
    assert local_path("~/a mirror") == Path("/home/me/a mirror")


@pytest.mark.parametrize("address", ["ftp://host/a", "gopher:x", "file://host/x", "file://[", "~nobody0/x"])
def test_impossible_local_paths(address: str) -> None:
    with pytest.raises(SourceError) as caught:
        local_path(address)
    assert not caught.value.reached
