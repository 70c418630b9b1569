"""The evaluate stage: each model from its file alone, its metrics, and its predictions."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from stages.lib.base.files import NOT_COUNTED, read_json, sha256_of, write_text
from stages.lib.base.tensors import load_tensors
from stages.lib.data.datasets import Split, load_split, save_split
from stages.lib.learning.models import build_model, save_checkpoint
from stages.lib.results.tables import read_table
from stages.lib.source.idx_sets import CLASS_NAMES
from tests.helpers import GREY_28, MakeSplit, RunStage, SetParams, StageRefusal, file_names, model_params, no_images

MODELS = {"model_0": "linear", "model_1": "mlp", "model_2": "tiny_vgg"}
GAPS = ["never_predicted", "undecided"]
OUTPUTS = {
    path
    for name in MODELS
    for path in (f"metrics/eval/{name}.json", f"data/predictions/{name}.safetensors", f"plots/layers/{name}.csv")
} | {"plots/behaviour.csv"}
LAYERS = ("plots/layers/model_0.csv",)  # written before the model predicts anything
OURS = """
from torch import nn

class Ours(nn.Module):
    def __init__(self, input_shape, hidden_units, num_classes):
        super().__init__()
        self.layer = nn.Linear(784, num_classes)

    def forward(self, images):
        return self.layer(images.flatten(1))

build = Ours
"""


def save_model(
    name: str, arch: str, hidden_units: int = 10, called: str = "", weight: float | None = None
) -> nn.Module:
    """Save an untrained model as models/<name>.safetensors, and its metrics as a training does.

    `called` is the name told inside; `weight`, if given, is the value of all weights.
    """
    torch.manual_seed(len(arch))
    model = build_model(arch, GREY_28, hidden_units, len(CLASS_NAMES))
    if weight is not None:
        with torch.no_grad():
            for weights in model.parameters():
                weights.fill_(weight)
    params = model_params(arch, hidden_units=hidden_units)
    save_checkpoint(f"models/{name}.safetensors", model, called or name, params, no_images())
    record_training(name, model.eval())
    return model


def record_training(name: str, model: nn.Module, watched: str = "test", batch_size: int = 32) -> None:
    """Write the metrics of a training that ended with `model`."""
    lecture = eval_as_the_lecture(model, load_split(f"data/prepared/{watched}.safetensors"), batch_size)
    text = json.dumps({"test_loss": lecture["model_loss"], "watched": watched})  # write_json refuses NaN
    write_text(f"metrics/train/{name}.json", text)


@pytest.fixture
def trained(prepared: Path) -> dict[str, nn.Module]:
    """The models by name, each with its file in the workspace."""
    return {name: save_model(name, arch) for name, arch in MODELS.items()}


@torch.inference_mode()
def eval_as_the_lecture(model: nn.Module, split: Split, batch_size: int = 32) -> dict[str, Any]:
    """Compute the lecture's result dictionary, plainly."""
    loader = DataLoader(TensorDataset(split.images_NCHW.float() / 255, split.labels_N), batch_size)
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


@torch.inference_mode()
def logits_of(model: nn.Module, split: Split) -> Tensor:
    logits_NK: Tensor = model(split.images_NCHW.float() / 255)
    return logits_NK


@pytest.mark.parametrize("batch_size", [32, 7])
def test_metrics(trained: dict[str, nn.Module], run_stage: RunStage, set_params: SetParams, batch_size: int) -> None:
    set_params({"evaluate.batch_size": batch_size})
    done = run_stage("evaluate")
    assert (done.returncode, done.stderr) == (0, "")
    test = load_split("data/prepared/test.safetensors")
    for name, model in trained.items():
        results = read_json(f"metrics/eval/{name}.json")
        assert list(results) == [
            "model_name",
            "model_loss",
            "model_acc",
            "loss",
            "accuracy",
            "correct",
            "images",
            *GAPS,
        ]
        lecture = eval_as_the_lecture(model, test, batch_size)
        assert {key: results[key] for key in lecture} == lecture

        logits_NK = logits_of(model, test)
        correct = int((logits_NK.argmax(dim=1) == test.labels_N).sum())
        assert (results["correct"], results["images"], results["accuracy"]) == (correct, 77, correct / 77 * 100)
        loss = nn.functional.cross_entropy(logits_NK.double(), test.labels_N).item()
        assert results["loss"] == pytest.approx(loss, rel=1e-6)
        assert f"{name}: {results['accuracy']:.2f}% of 77 images, loss {results['loss']:.5f}" in done.stdout


def test_accuracy_on_changed_images(trained: dict[str, nn.Module], run_stage: RunStage) -> None:
    run_stage("evaluate")
    rows = list(csv.DictReader(Path("plots/behaviour.csv").read_text().splitlines()))
    found = {(row["model"], row["images"]): float(row["accuracy"]) for row in rows}
    test = load_split("data/prepared/test.safetensors")
    for name, model in trained.items():
        assert found[name, "as they are"] == read_json(f"metrics/eval/{name}.json")["accuracy"]
        mirrored = replace(test, images_NCHW=test.images_NCHW.flip(-1))
        right = logits_of(model, mirrored).argmax(dim=1) == test.labels_N
        assert found[name, "mirrored"] == int(right.sum()) / 77 * 100


def test_classes_never_answered(trained: dict[str, nn.Module], run_stage: RunStage) -> None:
    save_model("model_1", "mlp", weight=0.0)
    printed = run_stage("evaluate").stdout
    results = read_json("metrics/eval/model_1.json")
    assert (results["never_predicted"], results["undecided"]) == (list(CLASS_NAMES[1:]), 77)
    assert f"model_1: never answers {', '.join(CLASS_NAMES[1:])}\n" in printed
    assert "77 images" in printed.split("never answers")[1]


def test_exact_metrics_for_any_batch_size(
    trained: dict[str, nn.Module], run_stage: RunStage, set_params: SetParams
) -> None:
    seen = []
    for batch_size in (32, 77):
        set_params({"evaluate.batch_size": batch_size})
        run_stage("evaluate")
        seen.append(read_json("metrics/eval/model_0.json"))
    assert seen[0]["model_acc"] != seen[1]["model_acc"]
    assert seen[0]["accuracy"] == seen[1]["accuracy"] == seen[1]["model_acc"]
    assert seen[0]["loss"] == pytest.approx(seen[1]["loss"], rel=1e-6)


@pytest.mark.parametrize("by_hand", [True, False])
def test_weights_used_by_hand(
    trained: dict[str, nn.Module], run_stage: RunStage, write_architecture: Callable[[str], None], by_hand: bool
) -> None:
    """A layer whose weights a model takes, and which it does not call, is not in the table."""
    hand = "images.flatten(1) @ self.layer.weight.T + self.layer.bias"
    write_architecture(OURS.replace("self.layer(images.flatten(1))", hand) if by_hand else OURS)
    save_model("model_1", "ours")
    assert ("model_1 may have more multiply-adds than its table says" in run_stage("evaluate").stderr) is by_hand


def test_layer_that_cannot_be_counted(
    trained: dict[str, nn.Module], run_stage: RunStage, write_architecture: Callable[[str], None]
) -> None:
    layer = OURS.replace("nn.Linear(784,", "nn.Bilinear(784, 1,")
    write_architecture(layer.replace("flatten(1))", "flatten(1), images[:, 0, 0, :1])"))
    save_model("model_1", "ours")
    assert "Bilinear cannot be counted" in run_stage("evaluate").stderr
    assert list(read_table("plots/layers/model_1.csv")["how"]) == [NOT_COUNTED]


def test_predictions_are_in_order(trained: dict[str, nn.Module], run_stage: RunStage) -> None:
    run_stage("evaluate")
    test = load_split("data/prepared/test.safetensors")
    for name, model in trained.items():
        tensors, about = load_tensors(f"data/predictions/{name}.safetensors")
        assert sorted(tensors) == ["labels", "probabilities"]
        assert (tensors["probabilities"].dtype, tensors["probabilities"].shape) == (torch.float32, (77, 10))
        torch.testing.assert_close(tensors["probabilities"].sum(dim=1), torch.ones(77))
        torch.testing.assert_close(tensors["probabilities"], logits_of(model, test).softmax(dim=1))
        assert torch.equal(tensors["labels"], test.labels_N)
        assert about == {"name": name, "class_names": list(CLASS_NAMES)}


def test_second_run_gives_the_same_bytes(prepared: Path, trained: dict[str, nn.Module], run_stage: RunStage) -> None:
    seen = []
    before = file_names(prepared)
    for _ in range(2):
        run_stage("evaluate")
        seen.append({path: (prepared / path).read_bytes() for path in OUTPUTS})
    assert seen[0] == seen[1]
    assert file_names(prepared) - before == OUTPUTS | {"metrics/timing/inference.json"}


def test_models_of_params_alone(
    prepared: Path, trained: dict[str, nn.Module], run_stage: RunStage, set_params: SetParams
) -> None:
    set_params({"model_3": model_params().model_dump(exclude_none=True)})
    save_model("model_3", "linear")
    save_model("model_4", "linear")  # a stray file
    run_stage("evaluate")
    assert {path.stem for path in prepared.glob("metrics/eval/*")} == {*MODELS, "model_3"}


def test_timing(trained: dict[str, nn.Module], run_stage: RunStage) -> None:
    run_stage("evaluate")
    timing = read_json("metrics/timing/inference.json")
    assert timing["model_sha256"] == {name: sha256_of(f"models/{name}.safetensors") for name in MODELS}
    assert timing["images_per_second"].keys() == MODELS.keys()
    assert min(timing["images_per_second"].values()) > 0


def test_model_is_built_from_its_file(
    trained: dict[str, nn.Module], run_stage: RunStage, set_params: SetParams
) -> None:
    model = save_model("model_0", "tiny_vgg", hidden_units=4)
    set_params({"model_0.arch": "mlp", "model_0.hidden_units": 99})
    run_stage("evaluate")
    results = read_json("metrics/eval/model_0.json")
    lecture = eval_as_the_lecture(model, load_split("data/prepared/test.safetensors"))
    assert {key: results[key] for key in lecture} == lecture
    assert results["model_name"] == "TinyVGG"


def test_validation_metrics(trained: dict[str, nn.Module], run_stage: RunStage, make_split: MakeSplit) -> None:
    run_stage("evaluate")
    without = read_json("metrics/eval/model_1.json")
    validation = make_split(60, seed=5)
    save_split("data/prepared/validation.safetensors", validation)
    for name, model in trained.items():
        record_training(name, model, watched="validation")
    run_stage("evaluate")
    results = read_json("metrics/eval/model_1.json")
    held_out = results.pop("validation")
    assert results == without
    assert list(held_out) == [key for key in without if key not in GAPS]
    lecture = eval_as_the_lecture(trained["model_1"], validation)
    assert {key: held_out[key] for key in lecture} == lecture
    assert held_out["images"] == 60


def test_file_of_another_model(trained: dict[str, nn.Module], stage_refusal: StageRefusal) -> None:
    save_model("model_0", "linear", called="model_2")
    assert "models/model_0.safetensors holds model_2" in stage_refusal("evaluate")


def test_weights_of_an_earlier_run(trained: dict[str, nn.Module], stage_refusal: StageRefusal) -> None:
    record_training("model_0", trained["model_1"])
    line = stage_refusal("evaluate", new=LAYERS)
    assert all(words in line for words in ("models/model_0.safetensors", "metrics/train/model_0.json", "`dvc repro`"))


def test_old_weights_under_new_code(
    prepared: Path, stage_refusal: StageRefusal, write_architecture: Callable[[str], None]
) -> None:
    write_architecture(OURS)
    save_model("model_0", "ours")
    write_architecture(OURS.replace("images.flatten(1)", "images.flatten(1) / 2"))  # whose weights still fit
    assert "models/model_0.safetensors" in stage_refusal("evaluate", new=LAYERS)


def test_model_trained_with_another_batch_size(
    trained: dict[str, nn.Module], run_stage: RunStage, set_params: SetParams
) -> None:
    set_params({"model_0.batch_size": 76})
    record_training("model_0", trained["model_0"], batch_size=76)
    assert run_stage("evaluate").returncode == 0


def test_other_classes_than_the_data(
    trained: dict[str, nn.Module], stage_refusal: StageRefusal, make_split: MakeSplit
) -> None:
    other = replace(make_split(77), class_names=tuple(reversed(CLASS_NAMES)))
    save_split("data/prepared/test.safetensors", other)
    line = stage_refusal("evaluate", new=LAYERS)
    assert "model_0" in line
    assert "other classes" in line


@pytest.mark.parametrize(
    ("missing", "new"),
    [
        ("models/model_0.safetensors", ()),
        ("data/prepared/test.safetensors", ()),
        ("metrics/train/model_0.json", LAYERS),
    ],
)
def test_missing_input(
    trained: dict[str, nn.Module], stage_refusal: StageRefusal, missing: str, new: tuple[str, ...]
) -> None:
    Path(missing).unlink()
    assert f"{missing} is missing" in stage_refusal("evaluate", new=new)


def test_damaged_model(trained: dict[str, nn.Module], stage_refusal: StageRefusal) -> None:
    path = Path("models/model_0.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    assert f"{path} is damaged" in stage_refusal("evaluate")


@pytest.mark.parametrize("weight", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(prepared: Path, stage_refusal: StageRefusal, weight: float) -> None:
    save_model("model_0", "linear", weight=weight)
    assert "model_0" in stage_refusal("evaluate", new=LAYERS)


def test_unwanted_arguments(workspace: Path, run_stage: RunStage) -> None:
    done = run_stage("evaluate", "model_0")
    assert done.returncode == 2
    assert "usage: python -m stages.evaluate" in done.stderr
