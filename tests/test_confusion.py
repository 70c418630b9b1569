"""The confusion stage: the best model looked at closely."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from torch import Tensor, nn

from stages.confusion import draw_feature_maps
from stages.lib import plots
from stages.lib.base.files import copy, read_json, write_json
from stages.lib.data.datasets import Split, load_split, save_split
from stages.lib.learning.evaluation import metrics_of
from stages.lib.learning.models import Checkpoint, build_model, load_checkpoint, save_checkpoint
from stages.lib.learning.training import Training
from stages.lib.source.idx_sets import CLASS_NAMES
from tests.helpers import GREY_28, MakeSplit, RunStage, SetParams, StageRefusal, file_names, model_params, no_images

OUTPUTS = {
    "plots/confusion.csv",
    "plots/confusion.png",
    "plots/per_class.csv",
    "plots/predictions.png",
    "plots/mistakes.png",
    "plots/feature_maps.png",
}
BEST = "models/best.safetensors"
TEST = "data/prepared/test.safetensors"
Drawn = dict[str, Figure]


@pytest.fixture(scope="session")
def best_model(make_split: MakeSplit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a model that is right on most images."""
    path = tmp_path_factory.mktemp("best") / "best.safetensors"
    params = model_params(epochs=4)
    torch.manual_seed(42)
    model = build_model("linear", GREY_28, 10, 10)
    list(Training(model, params, make_split(330), make_split(77, seed=1)).run())
    save_checkpoint(path, model, "model_0", params, no_images())
    return path


@pytest.fixture
def best(prepared: Path, best_model: Path) -> Path:
    """The workspace with a best model and its metrics as compare says; some labels are what no model can know."""
    copy(best_model, BEST)
    test = load_split(TEST)
    labels_N = test.labels_N.clone()
    labels_N[::7] = (labels_N[::7] + 3) % 10
    set_test(replace(test, labels_N=labels_N))
    return prepared


def set_test(test: Split) -> None:
    """Take other test images, and write metrics/best.json as the stages before would."""
    save_split(TEST, test)
    with torch.inference_mode():
        logits_NK = load_checkpoint(BEST).model(test.images_NCHW.float() / 255)
    metrics = metrics_of(logits_NK, test.labels_N, 32)
    write_json("metrics/best.json", {"model": "model_0", "accuracy": metrics.accuracy, "loss": metrics.loss})


def keep(images: int) -> None:
    """Leave only the first test images."""
    test = load_split(TEST)
    set_test(replace(test, images_NCHW=test.images_NCHW[:images].clone(), labels_N=test.labels_N[:images].clone()))


def predicted() -> tuple[list[int], list[int], list[float]]:
    """Return true classes, predicted classes and confidences of the test images."""
    test = load_split(TEST)
    with torch.inference_mode():
        confidence_N, predictions_N = load_checkpoint(BEST).model(test.images_NCHW.float() / 255).softmax(1).max(1)
    return test.labels_N.tolist(), predictions_N.tolist(), confidence_N.tolist()


def table(path: str) -> list[dict[str, str]]:
    return list(csv.DictReader(Path(path).read_text().splitlines()))


def panels(figure: Figure) -> list[tuple[str, str, str, np.ndarray[Any, Any]]]:
    """Return predicted class, true class, colour of the title, and image of each panel that shows something."""
    shown = []
    for axes in figure.axes:
        if axes.images:
            prediction, truth = axes.get_title().split("\n")
            name = prediction.removeprefix("Pred: ").rpartition(" (")[0]
            image = np.asarray(axes.images[0].get_array())
            shown.append((name, truth.removeprefix("Truth: "), to_hex(axes.title.get_color()), image))
    return shown


def test_outputs(best: Path, run_stage: RunStage) -> None:
    before = file_names(best)
    seen = []
    for _ in range(2):
        done = run_stage("confusion")
        assert (done.returncode, done.stderr) == (0, "")
        assert file_names(best) - before == OUTPUTS
        seen.append({name: (best / name).read_bytes() for name in OUTPUTS})
    assert seen[0] == seen[1]
    labels, predictions, _ = predicted()
    mistakes = sum(label != prediction for label, prediction in zip(labels, predictions, strict=True))
    assert 0 < mistakes < 40
    assert f"model_0: {mistakes} mistakes in 77 images" in done.stdout


def test_table_of_true_and_predicted(best: Path, run_stage: RunStage, drawn: Drawn) -> None:
    run_stage("confusion")
    labels, predictions, _ = predicted()
    assert table("plots/confusion.csv") == [
        {"actual": CLASS_NAMES[label], "predicted": CLASS_NAMES[prediction]}
        for label, prediction in zip(labels, predictions, strict=True)
    ]


def test_precision_recall_and_f1(best: Path, run_stage: RunStage, drawn: Drawn) -> None:
    run_stage("confusion")
    labels, predictions, _ = predicted()
    rows = table("plots/per_class.csv")
    assert [row["class"] for row in rows] == list(CLASS_NAMES)
    for number, row in enumerate(rows):
        correct = sum(label == prediction == number for label, prediction in zip(labels, predictions, strict=True))
        named, present = predictions.count(number), labels.count(number)
        assert int(row["images"]) == present
        assert float(row["precision"]) == pytest.approx(correct / named if named else 0)
        assert float(row["recall"]) == pytest.approx(correct / present)
        assert float(row["f1"]) == pytest.approx(2 * correct / (named + present))


def test_matrix_has_true_classes_in_rows(best: Path, run_stage: RunStage, drawn: Drawn) -> None:
    run_stage("confusion")
    counts = np.zeros((10, 10), int)
    labels, predictions, _ = predicted()
    np.add.at(counts, (labels, predictions), 1)
    axes = drawn["plots/confusion.png"].axes[0]
    texts = [[int(text.get_text()) for text in axes.texts][10 * row : 10 * row + 10] for row in range(10)]
    assert texts == counts.tolist()
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Predicted class", "True class")
    assert [label.get_text() for label in axes.get_yticklabels()] == list(CLASS_NAMES)


def test_colours_of_titles(best: Path, run_stage: RunStage, set_params: SetParams, drawn: Drawn) -> None:
    keep(25)
    set_params({"confusion.samples": 25})
    run_stage("confusion")
    shown = panels(drawn["plots/predictions.png"])
    assert {colour for name, truth, colour, _ in shown if name == truth} == {plots.CORRECT}
    assert {colour for name, truth, colour, _ in shown if name != truth} == {plots.WRONG}
    labels, predictions, _ = predicted()
    told = [
        (CLASS_NAMES[prediction], CLASS_NAMES[label]) for label, prediction in zip(labels, predictions, strict=True)
    ]
    assert sorted((name, truth) for name, truth, _, _ in shown) == sorted(told)


def test_titles_fit_their_images(best: Path, run_stage: RunStage, drawn: Drawn) -> None:
    run_stage("confusion")
    test = load_split(TEST)
    _, predictions, _ = predicted()
    by_image = {image.tobytes(): index for index, image in enumerate(test.images_NCHW.squeeze(1).numpy())}
    for picture in ("plots/predictions.png", "plots/mistakes.png"):
        for name, truth, _, image in panels(drawn[picture]):
            index = by_image[image.astype(np.uint8).tobytes()]
            assert (name, truth) == (CLASS_NAMES[predictions[index]], CLASS_NAMES[test.labels_N[index]])


def test_most_confident_mistakes_first(best: Path, run_stage: RunStage, set_params: SetParams, drawn: Drawn) -> None:
    set_params({"confusion.mistakes": 3})
    run_stage("confusion")
    labels, predictions, confidences = predicted()
    wrong = [index for index in range(77) if labels[index] != predictions[index]]
    wrong.sort(key=lambda index: -confidences[index])
    shown = panels(drawn["plots/mistakes.png"])
    assert [(name, truth) for name, truth, _, _ in shown] == [
        (CLASS_NAMES[predictions[index]], CLASS_NAMES[labels[index]]) for index in wrong[:3]
    ]
    assert {colour for _, _, colour, _ in shown} == {plots.WRONG}


def test_more_samples_than_images(best: Path, run_stage: RunStage, set_params: SetParams, drawn: Drawn) -> None:
    keep(12)
    set_params({"confusion.samples": 100, "confusion.mistakes": 100})
    assert run_stage("confusion").returncode == 0
    labels, predictions, _ = predicted()
    assert len(panels(drawn["plots/predictions.png"])) == 12
    assert len(panels(drawn["plots/mistakes.png"])) == sum(a != b for a, b in zip(labels, predictions, strict=True))


def test_seed_picks_the_samples(best: Path, run_stage: RunStage, set_params: SetParams, drawn: Drawn) -> None:
    seen = []
    for changes in ({}, {"seed": 43, "prepare.seed": 43}, {"confusion.seed": 43}):
        set_params(changes)
        run_stage("confusion")
        seen.append([image.tobytes() for *_, image in panels(drawn["plots/predictions.png"])])
    assert seen[0] == seen[1] != seen[2]
    assert len(set(seen[0])) == 9


class TwoCalls(nn.Module):
    """Calls one ReLU twice, as many tutorials do."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(1, 2, 3), nn.Conv2d(2, 3, 3), nn.LazyLinear(10)
        self.relu = nn.ReLU()

    def forward(self, images_NCHW: Tensor) -> Tensor:
        maps_NCHW = self.relu(self.second(self.relu(self.first(images_NCHW))))
        logits_NK: Tensor = self.last(maps_NCHW.flatten(1))
        return logits_NK


def test_layer_that_is_called_twice(best: Path, drawn: Drawn) -> None:
    model = TwoCalls()
    checkpoint = Checkpoint(model, "model_0", "linear", GREY_28, 10, {}, "contiguous", CLASS_NAMES, "synthetic", "", {})
    draw_feature_maps(checkpoint, load_split(TEST), torch.device("cpu"))
    titles = [axes.get_title() for axes in drawn["plots/feature_maps.png"].axes if "ReLU" in axes.get_title()]
    assert titles == ["relu\nReLU", "relu (2)\nReLU"]


def test_no_mistakes(best: Path, run_stage: RunStage) -> None:
    _, predictions, _ = predicted()
    set_test(replace(load_split(TEST), labels_N=torch.tensor(predictions)))
    done = run_stage("confusion")
    assert (done.returncode, done.stderr) == (0, "")
    assert "model_0: 0 mistakes in 77 images" in done.stdout
    assert (best / "plots/mistakes.png").stat().st_size > 0


def test_pictures_name_source_and_model(best: Path, run_stage: RunStage, drawn: Drawn) -> None:
    run_stage("confusion")
    assert set(drawn) == {name for name in OUTPUTS if name.endswith(".png")}
    for figure in drawn.values():
        assert "synthetic" in figure.get_suptitle()
        assert "model_0" in figure.get_suptitle()


@pytest.mark.parametrize(
    "changes",
    [{"accuracy": 12.5}, {"loss": 0.0}, {"accuracy": 100.0, "loss": 0.1}, {"model": "model_1"}, {"loss": None}],
    ids=str,
)
def test_other_than_evaluated(best: Path, stage_refusal: StageRefusal, changes: dict[str, object]) -> None:
    write_json("metrics/best.json", read_json("metrics/best.json") | changes)
    line = stage_refusal("confusion")
    assert line.startswith(f"confusion: {BEST} has {next(iter(changes))} ")
    assert f"metrics/best.json says {next(iter(changes.values()))!r}" in line
    assert "`dvc repro`" in line


def test_rounding_of_another_machine(best: Path, run_stage: RunStage, drawn: Drawn) -> None:
    reported = read_json("metrics/best.json")
    changes = {"loss": reported["loss"] * 1.00001, "accuracy": reported["accuracy"] + 0.01}
    write_json("metrics/best.json", reported | changes)
    assert run_stage("confusion").returncode == 0


def test_other_classes_than_the_data(best: Path, stage_refusal: StageRefusal) -> None:
    set_test(replace(load_split(TEST), class_names=CLASS_NAMES[::-1]))
    line = stage_refusal("confusion")
    assert "model_0" in line
    assert "other classes" in line


@pytest.mark.parametrize("missing", [BEST, "metrics/best.json", TEST])
def test_missing_input(best: Path, stage_refusal: StageRefusal, missing: str) -> None:
    (best / missing).unlink()
    assert f"{missing} is missing" in stage_refusal("confusion")
