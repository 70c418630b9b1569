"""The evaluate stage: each model from its file alone, its figures, and its predictions."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from stages.lib.learning.models import build_model
from stages.lib.learning.models import save_checkpoint
from stages.lib.data.datasets import Split, load_split, save_split
from stages.lib.source.fashion_mnist import CLASS_NAMES
from stages.lib.base.params import ModelParams
from stages.lib.base.tensors import load_tensors

RunStage = Callable[..., CompletedProcess[str]]
SetParams = Callable[[dict[str, Any]], None]
MODELS = {"model_0": "linear", "model_1": "mlp", "model_2": "tiny_vgg"}


def save_model(folder: Path, name: str, arch: str, hidden_units: int = 10, called: str = "") -> nn.Module:
    """Save an untrained model as models/<name>.safetensors; `called` is the name told inside."""
    torch.manual_seed(len(arch))
    model = build_model(arch, hidden_units, len(CLASS_NAMES))
    params = ModelParams(arch, hidden_units, epochs=3, batch_size=32, lr=0.1)
    save_checkpoint(folder / f"models/{name}.safetensors", model, called or name, params, CLASS_NAMES)
    return model.eval()


@pytest.fixture
def trained(prepared: Path) -> dict[str, nn.Module]:
    """The models by name, each with its file in the workspace."""
    return {name: save_model(prepared, name, arch) for name, arch in MODELS.items()}


def read_json(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text())
    return value


@torch.inference_mode()
def eval_as_the_lecture(model: nn.Module, split: Split, batch_size: int) -> dict[str, Any]:
    """The lecture's result dictionary, computed plainly."""
    loader = DataLoader(TensorDataset(split.images_N1HW.float() / 255, split.labels_N), batch_size)
    loss_function = nn.CrossEntropyLoss()
    loss, accuracy = torch.tensor(0.0), 0.0
    for images, labels in loader:
        logits = model(images)
        loss += loss_function(logits, labels)
        accuracy += torch.eq(labels, logits.argmax(dim=1)).sum().item() / len(labels) * 100
    return {
        "model_name": model.__class__.__name__,
        "model_loss": (loss / len(loader)).item(),
        "model_acc": accuracy / len(loader),
    }


def logits_of(model: nn.Module, split: Split) -> Tensor:
    with torch.inference_mode():
        logits_NK: Tensor = model(split.images_N1HW.float() / 255)
    return logits_NK


def refusal(run_stage: RunStage, *names: str) -> str:
    done = run_stage("evaluate", *names)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("evaluate: ")
    return line


@pytest.mark.parametrize("batch_size", [32, 7])
def test_each_model_has_the_lectures_result_dictionary_and_the_exact_figures(
    prepared: Path, trained: dict[str, nn.Module], run_stage: RunStage, set_params: SetParams, batch_size: int
) -> None:
    set_params({"evaluate.batch_size": batch_size})
    done = run_stage("evaluate", *MODELS)
    assert (done.returncode, done.stderr) == (0, "")
    test = load_split(prepared / "data/prepared/test.safetensors")
    for name, model in trained.items():
        results = read_json(prepared / f"metrics/eval/{name}.json")
        assert list(results)[:7] == ["model_name", "model_loss", "model_acc", "loss", "accuracy", "correct", "images"]
        lecture = eval_as_the_lecture(model, test, batch_size)
        assert {key: results[key] for key in lecture} == lecture

        logits_NK = logits_of(model, test)
        correct = int((logits_NK.argmax(dim=1) == test.labels_N).sum())
        assert (results["correct"], results["images"], results["accuracy"]) == (correct, 77, correct / 77 * 100)
        loss = nn.functional.cross_entropy(logits_NK.double(), test.labels_N).item()
        assert results["loss"] == pytest.approx(loss, rel=1e-6)
        assert f"{name}: {results['accuracy']:.2f}% of 77 images, loss {results['loss']:.5f}" in done.stdout


def test_the_exact_figures_do_not_depend_on_the_batches(
    prepared: Path, trained: dict[str, nn.Module], run_stage: RunStage, set_params: SetParams
) -> None:
    seen = []
    for batch_size in (32, 77):
        set_params({"evaluate.batch_size": batch_size})
        run_stage("evaluate", "model_0")
        seen.append(read_json(prepared / "metrics/eval/model_0.json"))
    assert seen[0]["model_acc"] != seen[1]["model_acc"]
    assert seen[0]["accuracy"] == seen[1]["accuracy"] == seen[1]["model_acc"]
    assert seen[0]["loss"] == pytest.approx(seen[1]["loss"], rel=1e-6)


def test_predictions_are_probabilities_of_every_test_image_in_order(
    prepared: Path, trained: dict[str, nn.Module], run_stage: RunStage
) -> None:
    run_stage("evaluate", *MODELS)
    test = load_split(prepared / "data/prepared/test.safetensors")
    for name, model in trained.items():
        tensors, about = load_tensors(prepared / f"data/predictions/{name}.safetensors")
        assert sorted(tensors) == ["labels", "probabilities"]
        assert (tensors["probabilities"].dtype, tensors["probabilities"].shape) == (torch.float32, (77, 10))
        torch.testing.assert_close(tensors["probabilities"].sum(dim=1), torch.ones(77))
        torch.testing.assert_close(tensors["probabilities"], logits_of(model, test).softmax(dim=1))
        assert torch.equal(tensors["labels"], test.labels_N)
        assert (about["name"], about["class_names"]) == (name, list(CLASS_NAMES))


def test_a_second_run_writes_the_same_bytes(prepared: Path, trained: dict[str, nn.Module], run_stage: RunStage) -> None:
    seen = []
    for _ in range(2):
        run_stage("evaluate", *MODELS)
        files = [*(prepared / "metrics/eval").iterdir(), *(prepared / "data/predictions").iterdir()]
        seen.append({file.name: file.read_bytes() for file in files})
    assert seen[0] == seen[1]
    assert len(seen[0]) == 6


def test_a_model_is_built_from_its_file_and_not_from_the_settings(
    prepared: Path, run_stage: RunStage, set_params: SetParams
) -> None:
    model = save_model(prepared, "model_0", "tiny_vgg", hidden_units=4)
    set_params({"model_0.arch": "mlp", "model_0.hidden_units": 99})
    assert run_stage("evaluate", "model_0").returncode == 0
    results = read_json(prepared / "metrics/eval/model_0.json")
    test = load_split(prepared / "data/prepared/test.safetensors")
    lecture = eval_as_the_lecture(model, test, 32)
    assert {key: results[key] for key in lecture} == lecture
    assert results["model_name"] == "TinyVGG"


def test_without_validation_images_there_are_no_figures_of_them(
    prepared: Path, trained: dict[str, nn.Module], run_stage: RunStage
) -> None:
    run_stage("evaluate", "model_0")
    assert "validation" not in read_json(prepared / "metrics/eval/model_0.json")


def test_with_validation_images_their_figures_stand_beside_those_of_the_test_images(
    prepared: Path, trained: dict[str, nn.Module], run_stage: RunStage, make_split: Callable[..., Split]
) -> None:
    run_stage("evaluate", "model_1")
    before = read_json(prepared / "metrics/eval/model_1.json")
    validation = make_split(60, seed=5)
    save_split(prepared / "data/prepared/validation.safetensors", validation)
    run_stage("evaluate", "model_1")
    results = read_json(prepared / "metrics/eval/model_1.json")
    figures = results.pop("validation")
    assert results == before
    assert list(figures) == list(before)
    lecture = eval_as_the_lecture(trained["model_1"], validation, 32)
    assert {key: figures[key] for key in lecture} == lecture
    assert figures["images"] == 60


def test_a_file_that_holds_another_model_is_refused(prepared: Path, run_stage: RunStage) -> None:
    save_model(prepared, "model_0", "linear", called="model_2")
    line = refusal(run_stage, "model_0")
    assert line == "evaluate: models/model_0.safetensors holds model_2, not model_0; run `dvc repro train_model_0`"
    assert not (prepared / "metrics/eval/model_0.json").exists()


def test_a_model_of_other_classes_than_the_data_is_refused(
    prepared: Path, trained: dict[str, nn.Module], run_stage: RunStage, make_split: Callable[..., Split]
) -> None:
    other = replace(make_split(77), class_names=tuple(reversed(CLASS_NAMES)))
    save_split(prepared / "data/prepared/test.safetensors", other)
    line = refusal(run_stage, "model_0")
    assert line == "evaluate: model_0 was trained for other classes than the data has; run `dvc repro`"


def test_a_missing_model_is_named(prepared: Path, run_stage: RunStage) -> None:
    line = refusal(run_stage, "model_3")
    assert line == "evaluate: models/model_3.safetensors is missing; run `dvc repro` to make it"


def test_a_damaged_model_is_named(prepared: Path, trained: dict[str, nn.Module], run_stage: RunStage) -> None:
    path = prepared / "models/model_1.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert "models/model_1.safetensors is damaged" in refusal(run_stage, "model_1")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_model_whose_weights_are_no_numbers_is_refused_by_name(
    prepared: Path, run_stage: RunStage, value: float
) -> None:
    model = save_model(prepared, "model_0", "linear")
    with torch.no_grad():
        for weights in model.parameters():
            weights.fill_(value)
    params = ModelParams("linear", 10, epochs=3, batch_size=32, lr=0.1)
    save_checkpoint(prepared / "models/model_0.safetensors", model, "model_0", params, CLASS_NAMES)
    assert "model_0" in refusal(run_stage, "model_0")
    assert not (prepared / "metrics/eval/model_0.json").exists()


def test_missing_test_images_are_named(prepared: Path, trained: dict[str, nn.Module], run_stage: RunStage) -> None:
    (prepared / "data/prepared/test.safetensors").unlink()
    assert "data/prepared/test.safetensors is missing" in refusal(run_stage, "model_0")


def test_without_a_model_the_usage_is_shown(workspace: Path, run_stage: RunStage) -> None:
    done = run_stage("evaluate")
    assert done.returncode == 2
    assert "usage: python -m stages.evaluate" in done.stderr
