"""A server on this machine that answers as a test wants."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import TypeAlias
from urllib.parse import urlsplit

NOBODY = "http://127.0.0.1:1/"  # nobody listens there


class Request(BaseHTTPRequestHandler):
    server: "Server"

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

    def send(self, data: bytes) -> None:
        self.wfile.write(data)

    def hold(self) -> None:
        """Send nothing more, and keep the connection open."""
        self.server.ended.wait()

    def drip(self) -> None:
        """Send a byte now and then, without end."""
        while not self.server.ended.wait(0.01):
            self.wfile.write(b"x")

    def log_message(self, *_: object) -> None:
        pass


Answer: TypeAlias = Callable[[Request], None]
Serve: TypeAlias = Callable[[Answer], str]


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, answer: Answer) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.answer, self.ended = answer, Event()

    def handle_error(self, *_: object) -> None:
        pass  # print nothing when a client hangs up: tests read stderr


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """Let `answer` treat every request to a new server; yield its address."""
    with Server(answer) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.ended.set()
        server.shutdown()
