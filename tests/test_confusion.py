"""The confusion stage: the best model looked at closely."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from stages.lib.learning.models import build_model
from stages.lib import plots
from stages.lib.learning.models import load_checkpoint, save_checkpoint
from stages.lib.data.datasets import load_split, save_split
from stages.lib.source.fashion_mnist import CLASS_NAMES
from stages.lib.base.params import ModelParams
from stages.lib.learning.training import fit

RunStage = Callable[..., CompletedProcess[str]]
SetParams = Callable[[dict[str, Any]], None]
OUTPUTS = {
    "plots/confusion.csv",
    "plots/confusion.png",
    "plots/per_class.csv",
    "plots/predictions.png",
    "plots/mistakes.png",
}
GREEN, RED = plots.RIGHT, plots.WRONG


@pytest.fixture
def best(prepared: Path, run_stage: RunStage) -> Path:
    """The workspace with a best model that is right on most images, and its figures as evaluate and compare say."""
    train, test = (load_split(prepared / f"data/prepared/{name}.safetensors") for name in ("train", "test"))
    labels_N = test.labels_N.clone()
    labels_N[::7] = (labels_N[::7] + 3) % 10  # what no model can know
    save_split(prepared / "data/prepared/test.safetensors", replace(test, labels_N=labels_N))
    params = ModelParams("linear", 10, epochs=4, batch_size=32, lr=0.1)
    torch.manual_seed(42)
    model = build_model("linear", 10, 10)
    list(fit(model, params, train, test))
    save_checkpoint(prepared / "models/model_0.safetensors", model, "model_0", params, CLASS_NAMES)
    (prepared / "models/best.safetensors").write_bytes((prepared / "models/model_0.safetensors").read_bytes())
    assert run_stage("evaluate", "model_0").returncode == 0
    set_best(prepared)
    return prepared


def set_best(folder: Path, **changes: Any) -> None:
    """Write metrics/best.json from the evaluation, with `changes`."""
    results = json.loads((folder / "metrics/eval/model_0.json").read_text())
    about = {"model": "model_0", "accuracy": results["accuracy"], "loss": results["loss"]} | changes
    (folder / "metrics/best.json").write_text(json.dumps(about))


def keep(folder: Path, images: int, run_stage: RunStage) -> None:
    """Leave only the first test images, and evaluate again."""
    path = folder / "data/prepared/test.safetensors"
    test = load_split(path)
    fewer = replace(test, images_N1HW=test.images_N1HW[:images].clone(), labels_N=test.labels_N[:images].clone())
    save_split(path, fewer)
    run_stage("evaluate", "model_0")
    set_best(folder)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Figure]:
    """The figures by path, kept instead of rendered."""
    kept: dict[str, Figure] = {}
    monkeypatch.setattr(plots, "save", lambda figure, path: kept.update({str(path): figure}))
    return kept


def answers(folder: Path) -> tuple[list[int], list[int], list[float]]:
    """True classes, predicted classes and confidences of the test images."""
    test = load_split(folder / "data/prepared/test.safetensors")
    model = load_checkpoint(folder / "models/best.safetensors").model
    with torch.inference_mode():
        confidence_N, predictions_N = model(test.images_N1HW.float() / 255).softmax(dim=1).max(dim=1)
    return test.labels_N.tolist(), predictions_N.tolist(), confidence_N.tolist()


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def panels(figure: Figure) -> list[tuple[str, str, str, np.ndarray[Any, Any]]]:
    """Predicted class, true class, colour of the title, and image of each panel that shows something."""
    shown = []
    for axes in figure.axes:
        if axes.images:
            prediction, truth = axes.get_title().split("\n")
            predicted = prediction.removeprefix("Pred: ").rpartition(" (")[0]
            shown.append(
                (
                    predicted,
                    truth.removeprefix("Truth: "),
                    to_hex(axes.title.get_color()),
                    np.asarray(axes.images[0].get_array()),
                )
            )
    return shown


def refusal(run_stage: RunStage, folder: Path) -> str:
    done = run_stage("confusion")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("confusion: ")
    assert not (folder / "plots/confusion.csv").exists()
    return line


def test_it_writes_its_outputs_and_the_same_bytes_again(best: Path, run_stage: RunStage) -> None:
    seen = []
    for _ in range(2):
        done = run_stage("confusion")
        assert (done.returncode, done.stderr) == (0, "")
        seen.append({name: (best / name).read_bytes() for name in OUTPUTS})
    assert seen[0] == seen[1]
    labels, predictions, _ = answers(best)
    mistakes = sum(label != prediction for label, prediction in zip(labels, predictions, strict=True))
    assert 0 < mistakes < 40
    assert done.stdout == f"model_0: {mistakes} mistakes in 77 images; the reloaded model scores as it did before\n"


def test_the_table_has_every_image_with_its_true_and_predicted_class(
    best: Path, run_stage: RunStage, drawn: dict[str, Figure]
) -> None:
    run_stage("confusion")
    labels, predictions, _ = answers(best)
    assert table(best / "plots/confusion.csv") == [
        {"actual": CLASS_NAMES[label], "predicted": CLASS_NAMES[prediction]}
        for label, prediction in zip(labels, predictions, strict=True)
    ]


def test_precision_recall_and_f1_are_those_of_the_table(
    best: Path, run_stage: RunStage, drawn: dict[str, Figure]
) -> None:
    run_stage("confusion")
    labels, predictions, _ = answers(best)
    rows = table(best / "plots/per_class.csv")
    assert [row["class"] for row in rows] == list(CLASS_NAMES)
    for number, row in enumerate(rows):
        right = sum(label == prediction == number for label, prediction in zip(labels, predictions, strict=True))
        named, present = predictions.count(number), labels.count(number)
        assert int(row["images"]) == present
        assert float(row["precision"]) == pytest.approx(right / named if named else 0)
        assert float(row["recall"]) == pytest.approx(right / present)
        assert float(row["f1"]) == pytest.approx(2 * right / (named + present))


def test_the_matrix_in_the_picture_counts_true_classes_in_rows(
    best: Path, run_stage: RunStage, drawn: dict[str, Figure]
) -> None:
    run_stage("confusion")
    counts = np.zeros((10, 10), int)
    labels, predictions, _ = answers(best)
    np.add.at(counts, (labels, predictions), 1)
    axes = drawn["plots/confusion.png"].axes[0]
    texts = [[int(text.get_text()) for text in axes.texts][10 * row : 10 * row + 10] for row in range(10)]
    assert texts == counts.tolist()
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Predicted class", "True class")
    assert [label.get_text() for label in axes.get_yticklabels()] == list(CLASS_NAMES)


def test_titles_are_green_where_the_model_is_right_and_red_where_it_is_wrong(
    best: Path, run_stage: RunStage, set_params: SetParams, drawn: dict[str, Figure]
) -> None:
    keep(best, 25, run_stage)
    set_params({"confusion.samples": 25})
    run_stage("confusion")
    shown = panels(drawn["plots/predictions.png"])
    assert len(shown) == 25
    assert {colour for predicted, truth, colour, _ in shown if predicted == truth} == {GREEN}
    assert {colour for predicted, truth, colour, _ in shown if predicted != truth} == {RED}
    labels, predictions, _ = answers(best)
    told = sorted(
        (CLASS_NAMES[prediction], CLASS_NAMES[label]) for label, prediction in zip(labels, predictions, strict=True)
    )
    assert sorted((predicted, truth) for predicted, truth, _, _ in shown) == told


def test_each_panel_shows_the_image_that_its_title_is_about(
    best: Path, run_stage: RunStage, drawn: dict[str, Figure]
) -> None:
    run_stage("confusion")
    test = load_split(best / "data/prepared/test.safetensors")
    _, predictions, _ = answers(best)
    by_image = {image.tobytes(): index for index, image in enumerate(test.images_N1HW.squeeze(1).numpy())}
    for picture in ("plots/predictions.png", "plots/mistakes.png"):
        for predicted, truth, _, image in panels(drawn[picture]):
            index = by_image[image.astype(np.uint8).tobytes()]
            assert (predicted, truth) == (CLASS_NAMES[predictions[index]], CLASS_NAMES[test.labels_N[index]])


def test_mistakes_are_shown_with_the_most_confident_first(
    best: Path, run_stage: RunStage, set_params: SetParams, drawn: dict[str, Figure]
) -> None:
    set_params({"confusion.mistakes": 3})
    run_stage("confusion")
    labels, predictions, confidences = answers(best)
    wrong = [index for index in range(77) if labels[index] != predictions[index]]
    wrong.sort(key=lambda index: -confidences[index])
    shown = panels(drawn["plots/mistakes.png"])
    assert [(predicted, truth) for predicted, truth, _, _ in shown] == [
        (CLASS_NAMES[predictions[index]], CLASS_NAMES[labels[index]]) for index in wrong[:3]
    ]
    assert {colour for _, _, colour, _ in shown} == {RED}


def test_more_samples_than_images_shows_them_all(
    best: Path, run_stage: RunStage, set_params: SetParams, drawn: dict[str, Figure]
) -> None:
    keep(best, 12, run_stage)
    set_params({"confusion.samples": 100, "confusion.mistakes": 100})
    assert run_stage("confusion").returncode == 0
    labels, predictions, _ = answers(best)
    assert len(panels(drawn["plots/predictions.png"])) == 12
    assert len(panels(drawn["plots/mistakes.png"])) == sum(a != b for a, b in zip(labels, predictions, strict=True))


def test_the_seed_decides_which_samples_are_shown(
    best: Path, run_stage: RunStage, set_params: SetParams, drawn: dict[str, Figure]
) -> None:
    seen = []
    for seed in (42, 42, 43):
        set_params({"seed": seed})
        run_stage("confusion")
        seen.append([image.tobytes() for *_, image in panels(drawn["plots/predictions.png"])])
    assert seen[0] == seen[1] != seen[2]
    assert len(set(seen[0])) == 9


def test_a_model_without_mistakes_has_an_empty_picture_of_them(best: Path, run_stage: RunStage) -> None:
    test = load_split(best / "data/prepared/test.safetensors")
    _, predictions, _ = answers(best)
    save_split(best / "data/prepared/test.safetensors", replace(test, labels_N=torch.tensor(predictions)))
    run_stage("evaluate", "model_0")
    set_best(best)
    done = run_stage("confusion")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("model_0: 0 mistakes in 77 images; ")
    assert (best / "plots/mistakes.png").stat().st_size > 0


def test_every_picture_of_synthetic_data_says_so(best: Path, run_stage: RunStage, drawn: dict[str, Figure]) -> None:
    run_stage("confusion")
    assert set(drawn) == {name for name in OUTPUTS if name.endswith(".png")}
    assert all("synthetic" in figure.get_suptitle() for figure in drawn.values())
    assert all("model_0" in figure.get_suptitle() for figure in drawn.values())


@pytest.mark.parametrize("changes", [{"accuracy": 12.5}, {"loss": 0.0}, {"accuracy": 100.0, "loss": 0.1}])
def test_a_best_model_that_does_not_score_as_it_was_evaluated_is_refused(
    best: Path, run_stage: RunStage, changes: dict[str, float]
) -> None:
    set_best(best, **changes)
    line = refusal(run_stage, best)
    assert line.startswith("confusion: models/best.safetensors scores ")
    assert "but model_0 was evaluated at " in line
    assert line.endswith("run `dvc repro --force evaluate compare`")


def test_another_model_in_the_place_of_the_best_is_refused(best: Path, run_stage: RunStage) -> None:
    torch.manual_seed(1)
    params = ModelParams("mlp", 10, epochs=3, batch_size=32, lr=0.1)
    save_checkpoint(best / "models/best.safetensors", build_model("mlp", 10, 10), "model_1", params, CLASS_NAMES)
    refusal(run_stage, best)


def test_a_best_model_of_another_name_than_reported_is_refused(best: Path, run_stage: RunStage) -> None:
    set_best(best, model="model_1")
    assert "model_1" in refusal(run_stage, best)


def test_rounding_on_another_machine_is_no_reason_to_refuse(
    best: Path, run_stage: RunStage, drawn: dict[str, Figure]
) -> None:
    results = json.loads((best / "metrics/eval/model_0.json").read_text())
    set_best(best, loss=results["loss"] * 1.00001, accuracy=results["accuracy"] + 0.01)
    assert run_stage("confusion").returncode == 0


@pytest.mark.parametrize(
    "content", ["{}", '{"model": "model_0"}', "[]", "", '{"model": 1, "accuracy": "a", "loss": null}']
)
def test_a_damaged_report_of_the_best_model_is_named(best: Path, run_stage: RunStage, content: str) -> None:
    (best / "metrics/best.json").write_text(content)
    assert "metrics/best.json" in refusal(run_stage, best)


@pytest.mark.parametrize("missing", ["models/best.safetensors", "metrics/best.json", "data/prepared/test.safetensors"])
def test_a_missing_input_is_named(best: Path, run_stage: RunStage, missing: str) -> None:
    (best / missing).unlink()
    assert refusal(run_stage, best) == f"confusion: {missing} is missing; run `dvc repro` to make it"
