"""The comparison as text, from files written by hand."""

from pathlib import Path
from typing import Any

import pytest

from stages.lib.base.files import read_json, write_json
from stages.lib.base.timing import write_timing
from stages.lib.results.summary import ABOUT, pair_text, summary, verdicts
from tests.helpers import refusal

PAIR: dict[str, Any] = {
    "first": "model_0",
    "second": "model_1",
    "only_first_right": 1_190,
    "only_second_right": 2_049,
    "p_value": 0.001,
    "p_value_holm": 0.004321,
    "verdict": "model_1 is better than model_0",
}


def row(architecture: str, accuracy: float, loss: float, parameters: int) -> dict[str, Any]:
    return {
        "architecture": architecture,
        "accuracy": accuracy,
        "accuracy_low": accuracy - 0.726,
        "accuracy_high": accuracy + 0.714,
        "loss": loss,
        "parameters": parameters,
        "multiply_adds": 100 * parameters,
    }


@pytest.fixture
def compared(workspace: Path) -> None:
    """The comparison of two models in the current folder; only the first was trained and evaluated here."""
    comparison = {
        "source": "fashion-mnist",
        "by": "accuracy",
        "chosen_on": "validation",
        "best": "model_1",
        "models": {"model_0": row("linear", 83.412, 0.47664, 7_960), "model_1": row("tiny_vgg", 88.5, 0.3, 7_740)},
        "pairs": [PAIR],
    }
    write_json("metrics/compare.json", comparison)
    write_json("models/model_0.safetensors", {})  # any bytes: only their checksum is looked at
    write_timing("model_0", ["model_0"], {"train_seconds": 12.345, "threads": 1})
    speeds = {"images_per_second": {"model_0": 123_456.7}, "threads": 1, "batch_size": 32}
    write_timing("inference", ["model_0"], speeds)


def test_equals_are_named() -> None:
    comparison = {"by": "accuracy", "chosen_on": "test", "best": "model_0", "pairs": []}
    assert "equal" not in verdicts(comparison)
    named = verdicts(comparison | {"equals": ["model_1", "model_2"]})
    assert "model_0, the first of those that are equal: model_1, model_2 too" in named
    assert ABOUT not in named  # of one model, or of none that were tested, it says nothing


@pytest.mark.usefixtures("compared")
def test_every_figure_is_in_the_summary() -> None:
    first, header, *models, empty, pair, about, best = summary().splitlines()
    assert "fashion-mnist" in first
    columns = "architecture | accuracy % | 95 % interval | loss | parameters | multiply-adds | train s | images/s"
    assert header.split() == columns.replace("|", "").split()
    assert [line.split() for line in models] == [
        ["model_0", "linear", "83.41", "82.69", "to", "84.13", "0.4766", "7,960", "796,000", "12.3", "123,457"],
        ["model_1", "tiny_vgg", "88.50", "87.77", "to", "89.21", "0.3000", "7,740", "774,000", "-", "-"],
    ]
    assert (empty, pair, about) == ("", pair_text(PAIR), ABOUT)
    assert all(words in best for words in ("accuracy", "validation", "model_1"))


@pytest.mark.usefixtures("compared")
def test_balanced_accuracy_where_classes_differ_in_number() -> None:
    comparison = read_json("metrics/compare.json")
    for each in comparison["models"].values():
        each["balanced_accuracy"] = 61.236
    write_json("metrics/compare.json", comparison)
    _, header, first, *_ = summary().splitlines()
    assert "balanced %" in header
    assert "61.24" in first.split()


@pytest.mark.usefixtures("compared")
def test_another_data_set_is_named() -> None:
    write_json("metrics/compare.json", read_json("metrics/compare.json") | {"source": "images", "data_set": "planets"})
    assert summary().startswith("Test images of planets:")


def test_nothing_compared_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert refusal(summary).startswith("metrics/compare.json is missing")


@pytest.mark.parametrize(
    ("p_value", "text"),
    [(0.004321, "p = 0.0043"), (1.0, "p = 1"), (2.345e-107, "p = 2.3e-107"), (0.0, "p < 1e-300")],
)
def test_pair_with_counts_and_p_value(p_value: float, text: str) -> None:
    line = pair_text({**PAIR, "p_value_holm": p_value})
    assert line.startswith("model_1 is better than model_0: ")
    assert all(words in line for words in ("1,190", "2,049", f"({text} by Holm)"))
