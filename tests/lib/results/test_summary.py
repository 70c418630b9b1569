"""The comparison as text, from files written by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from stages.lib.results.summary import comparison_text, images_per_second, pair_text, train_seconds
from stages.lib.base.errors import UserError

PAIR: dict[str, Any] = {
    "first": "model_0",
    "second": "model_1",
    "only_first_right": 1_190,
    "only_second_right": 2_049,
    "p_value": 0.004321,
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
def compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the figures of two models."""
    monkeypatch.chdir(tmp_path)
    comparison = {
        "source": "fashion-mnist",
        "by": "accuracy",
        "chosen_on": "validation",
        "best": "model_1",
        "models": {"model_0": row("linear", 83.412, 0.47664, 7_960), "model_1": row("tiny_vgg", 88.5, 0.3, 7_740)},
        "pairs": [PAIR],
    }
    files: dict[str, dict[str, Any]] = {
        "metrics/compare.json": comparison,
        "metrics/timing/model_0.json": {"train_seconds": 12.345},
        "metrics/timing/model_1.json": {"train_seconds": 99},
        "metrics/timing/inference.json": {"images_per_second": {"model_0": 123_456.7, "model_1": 9_876}},
    }
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    return tmp_path


def test_the_times_of_a_model_are_those_of_its_files(compared: Path) -> None:
    assert (train_seconds("model_0"), train_seconds("model_1")) == (12.345, 99.0)
    assert (images_per_second("model_0"), images_per_second("model_1")) == (123_456.7, 9_876.0)


def test_a_model_that_was_not_evaluated_with_the_others_is_named_with_the_remedy(compared: Path) -> None:
    with pytest.raises(UserError) as caught:
        images_per_second("model_7")
    assert str(caught.value) == (
        "metrics/timing/inference.json does not know model_7; run `dvc repro --force evaluate`"
    )


def test_the_text_has_every_figure_of_every_model_the_pairs_and_the_best(compared: Path) -> None:
    first, header, *models, empty, pair, best = comparison_text().splitlines()
    assert first == "Test images of fashion-mnist:"
    columns = "architecture | accuracy % | 95 % interval | loss | parameters | multiply-adds | train s | images/s"
    assert header.split() == columns.replace("|", "").split()
    assert [line.split() for line in models] == [
        ["model_0", "linear", "83.41", "82.69", "to", "84.13", "0.4766", "7,960", "796,000", "12.3", "123,457"],
        ["model_1", "tiny_vgg", "88.50", "87.77", "to", "89.21", "0.3000", "7,740", "774,000", "99.0", "9,876"],
    ]
    assert (empty, pair) == ("", pair_text(PAIR))
    assert best == "best by accuracy on the validation images: model_1"


def test_without_a_comparison_the_file_to_make_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^metrics/compare\.json is missing"):
        comparison_text()


@pytest.mark.parametrize(
    ("p_value", "text"),
    [(0.004321, "(p = 0.0043)"), (1.0, "(p = 1)"), (2.345e-107, "(p = 2.3e-107)"), (0.0, "(p < 1e-300)")],
)
def test_a_pair_is_told_with_its_counts_and_its_chance(p_value: float, text: str) -> None:
    assert pair_text({**PAIR, "p_value": p_value}) == (
        "model_1 is better than model_0: only model_0 is right on 1,190 images, only model_1 on 2,049 " + text
    )
