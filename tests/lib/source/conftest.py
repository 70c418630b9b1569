"""Servers on this machine that answer as a test wants, and no proxy between."""

import socket
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any
from urllib.parse import urlsplit

import pytest


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, answer: Callable[[Any], None]) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.answer, self.ended = answer, Event()

    def handle_error(self, *_: object) -> None:
        pass  # print nothing when a client hangs up: tests read stderr


class Request(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.name = urlsplit(self.path).path.rsplit("/", 1)[-1]
        try:
            self.server.answer(self)
        except OSError:  # the client has had enough
            self.close_connection = True

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def hold(self) -> None:
        """Send nothing more, and keep the connection open."""
        self.server.ended.wait(60)

    def drip(self) -> None:
        """Send a byte now and then, without end."""
        while not self.server.ended.wait(0.01):
            self.wfile.write(b"x")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[Any], None]], str]]:
    """`serve(answer)` starts a server that lets `answer(request)` treat every request; returns its address."""
    servers = []

    def start(answer: Callable[[Any], None]) -> str:
        server = Server(answer)
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/"

    yield start
    for server in servers:
        server.ended.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def refusing() -> Iterator[str]:
    """An address where nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/"
