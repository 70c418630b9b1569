"""Servers, and no proxy before them."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.lib.source.server import Serve, serving


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """`serve(answer)` starts a server that lets `answer(request)` treat every request; returns its address."""
    with ExitStack() as servers:
        yield lambda answer: servers.enter_context(serving(answer))
