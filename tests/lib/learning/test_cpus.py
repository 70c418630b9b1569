"""A training that has to share its CPUs says so early."""

import os
import threading
from collections.abc import Callable

import pytest

from stages.lib.learning import cpus
from stages.lib.learning.cpus import is_busy, is_crowded, watched_pace


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """`load(1.5)` gives this machine two CPUs and that load average."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    return lambda average: monkeypatch.setattr(os, "getloadavg", lambda: (average, 0.0, 0.0), raising=False)


@pytest.mark.parametrize(
    ("average", "threads", "busy"), [(0.0, 2, False), (1.4, 2, False), (1.6, 2, True), (2.4, 1, False), (2.6, 1, True)]
)
def test_busy_machine(load: Callable[[float], None], average: float, threads: int, busy: bool) -> None:
    load(average)
    assert is_busy(threads) is busy


def test_system_without_load_average(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "getloadavg", raising=False)
    assert not is_busy(256)


@pytest.mark.parametrize(
    ("cpu_seconds", "threads", "crowded"), [(19.0, 2, False), (14.1, 2, False), (13.9, 2, True), (9.5, 1, False)]
)
def test_crowded_training(cpu_seconds: float, threads: int, crowded: bool) -> None:
    assert is_crowded(cpu_seconds, 10.0, threads) is crowded


@pytest.fixture
def said(
    monkeypatch: pytest.MonkeyPatch, load: Callable[[float], None], capsys: pytest.CaptureFixture[str]
) -> Callable[..., list[str]]:
    """`said(threads=2)` gives the lines on stderr of a training that runs until its pace has been looked at."""

    def watch(threads: int, average: float = 0.0, crowded: bool = False) -> list[str]:
        load(average)
        monkeypatch.setattr(cpus, "PACE_SECONDS", 0)
        monkeypatch.setattr(cpus, "is_crowded", lambda *_: crowded)
        with watched_pace("model_2", threads):
            for thread in threading.enumerate():
                if isinstance(thread, threading.Timer):
                    thread.join()
        return capsys.readouterr().err.splitlines()

    return watch


def test_crowded_training_is_told(said: Callable[..., list[str]]) -> None:
    (line,) = said(threads=2, crowded=True)
    assert all(words in line for words in ("model_2", "2 threads", "model_2.threads: 1"))


def test_busy_machine_is_told_before_the_start(said: Callable[..., list[str]]) -> None:
    (line,) = said(threads=2, average=1.6)
    assert all(words in line for words in ("model_2", "1.6", "2 CPUs", "model_2.threads: 1"))


def test_nothing_to_tell(said: Callable[..., list[str]]) -> None:
    assert said(threads=2) == said(threads=1, average=5.0, crowded=True) == []


def test_training_that_ends_earlier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpus, "PACE_SECONDS", 100_000)
    before = threading.enumerate()
    with watched_pace("model_2", 2):
        (timer,) = [thread for thread in threading.enumerate() if thread not in before]
    timer.join()  # it would take a day
