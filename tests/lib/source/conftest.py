"""Servers, no proxy before them, and no hurry."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from stages.lib.source import download, mirrors
from tests.lib.source.server import Serve, serving


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(autouse=True)
def _no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine may pause for a while; tests of a limit set their own, which no pause can turn into another one."""
    monkeypatch.setattr(download, "TIMEOUTS", (600, 600))
    monkeypatch.setattr(mirrors, "FILE_SECONDS", 600)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """`serve(answer)` starts a server that lets `answer(request)` treat every request; returns its address."""
    with ExitStack() as servers:
        yield lambda answer: servers.enter_context(serving(answer))
