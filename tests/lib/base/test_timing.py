"""Measured times are shown for the model and the machine that they were measured with, and for no other."""

import json
from pathlib import Path
from typing import Any

import pytest

from stages.lib.base import timing
from tests.helpers import SetParams

MODELS = ["model_0", "model_1"]


@pytest.fixture
def measured(workspace: Path) -> Path:
    """The current folder, with two models and their times."""
    (workspace / "models").mkdir()
    for name in MODELS:
        (workspace / f"models/{name}.safetensors").write_text(name)
        timing.write_timing(name, [name], {"train_seconds": 12.345, "threads": 1})
    speeds = {"images_per_second": {"model_0": 123_456.7, "model_1": 9_876}, "threads": 1, "batch_size": 32}
    timing.write_timing("inference", MODELS, speeds)
    return workspace


def times(name: str) -> tuple[float | None, float | None]:
    return timing.train_seconds(name), timing.images_per_second(name)


@pytest.mark.usefixtures("measured")
def test_times_of_this_model_and_machine() -> None:
    assert [times(name) for name in MODELS] == [(12.345, 123_456.7), (12.345, 9_876.0)]


def test_file_names_model_and_machine(measured: Path) -> None:
    content = json.loads((measured / "metrics/timing/inference.json").read_text())
    assert content["model_sha256"].keys() == set(MODELS)
    assert content["machine"] == timing.machine()


@pytest.mark.parametrize("content", ["model_0, trained again", None])
def test_no_times_of_another_model_file(measured: Path, content: str | None) -> None:
    path = measured / "models/model_0.safetensors"
    path.unlink() if content is None else path.write_text(content)
    assert times("model_0") == (None, None)
    assert times("model_1") == (12.345, 9_876.0)


@pytest.mark.usefixtures("measured")
def test_no_times_of_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "machine", lambda: "another processor, 64 CPUs, Linux x86_64")
    assert times("model_0") == (None, None)


@pytest.mark.usefixtures("measured")
def test_no_times_of_an_unmeasured_model(workspace: Path) -> None:
    (workspace / "models/model_7.safetensors").write_text("model_7")
    assert times("model_7") == (None, None)


@pytest.mark.usefixtures("measured")
def test_no_times_at_other_settings(set_params: SetParams) -> None:
    """DVC brings back the results of earlier settings from its cache, and no times."""
    set_params({"evaluate.batch_size": 1000})
    assert times("model_0") == (12.345, None)
    set_params({"model_0.threads": 2})
    assert times("model_0") == (None, None)


@pytest.mark.parametrize("missing", ["model_sha256", "machine"])
def test_no_times_without_an_origin(measured: Path, missing: str) -> None:
    for path in measured.glob("metrics/timing/*.json"):
        content: dict[str, Any] = json.loads(path.read_text())
        del content[missing]
        path.write_text(json.dumps(content))
    assert times("model_0") == (None, None)


def test_machine_is_the_same_each_time() -> None:
    assert timing.machine() == timing.machine()
    assert " CPUs, " in timing.machine()


def test_machine_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(self: Path) -> str:
        raise FileNotFoundError(self)

    monkeypatch.setattr(Path, "read_text", unreadable)
    assert " CPUs, " in timing.machine()
