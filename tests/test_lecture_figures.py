"""The lecture's figures on the real FashionMNIST, by the real scripts. Takes a minute where the machine is idle."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure

from stages import prepare
from stages.lib.learning.models import build_model
from stages.lib import plots
from stages.lib.data.datasets import Split, load_split, make_loader
from stages.lib.source.fashion_mnist import RAW_FILES
from stages.lib.base.params import load_params
from stages.lib.learning.training import fit

PROJECT = Path(__file__).parents[1]
MIRROR = os.environ.get("FASHION_MNIST_MIRROR", "")
HAVE_FILES = bool(MIRROR) and all((Path(MIRROR) / file.name).is_file() for file in RAW_FILES)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not HAVE_FILES, reason="FASHION_MNIST_MIRROR does not name a folder with the four files of FashionMNIST"
    ),
]


@dataclass(frozen=True)
class Row:
    """One epoch as the lecture prints it; `accuracy` is that of all 10,000 test images."""

    train_loss: float
    test_loss: float
    test_acc: float
    accuracy: float
    train_acc: float | None = None


LECTURE = {
    "model_0": [
        Row(0.59039, 0.50954, 82.04, 82.03),
        Row(0.47633, 0.47989, 83.20, 83.18),
        Row(0.45503, 0.47664, 83.43, 83.41),
    ],
    "model_1": [
        Row(1.09199, 0.95636, 65.00, 64.98, train_acc=61.34),
        Row(0.78101, 0.72227, 73.91, 73.89, train_acc=71.93),
        Row(0.67027, 0.68500, 75.02, 75.00, train_acc=75.94),
    ],
}
PARAMETERS = {"model_0": 7960, "model_1": 7960, "model_2": 7740}
LOSS, PERCENT = 1e-5, 0.01  # as far as a printed figure may be off


def run(folder: Path, stage: str, *arguments: str) -> str:
    """Run a stage's script in `folder` and give what it printed."""
    done = subprocess.run(
        [sys.executable, "-Bm", f"stages.{stage}", *arguments],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(PROJECT),
            "FASHION_MNIST_MIRROR": str(Path(MIRROR).absolute()),
            "XDG_CACHE_HOME": str(folder / "cache"),
        },
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which everything up to the evaluation has run with the project's settings, on the CPU."""
    folder = tmp_path_factory.mktemp("lecture")
    text = (PROJECT / "params.yaml").read_text()
    assert text.count("device: auto") == 1
    (folder / "params.yaml").write_text(text.replace("device: auto", "device: cpu "))
    run(folder, "fetch")
    run(folder, "prepare")
    for name in PARAMETERS:
        run(folder, "train", name)
    run(folder, "evaluate", *PARAMETERS)
    return folder


@pytest.fixture(scope="module")
def train(done: Path) -> Split:
    return load_split(done / "data/prepared/train.safetensors")


@pytest.fixture(scope="module")
def test(done: Path) -> Split:
    return load_split(done / "data/prepared/test.safetensors")


@pytest.fixture
def threads(done: Path, name: str) -> Iterator[None]:
    """As many threads as the model's stage has: sums round differently with others."""
    before = torch.get_num_threads()
    torch.set_num_threads(load_params(done / "params.yaml").threads(name))
    yield
    torch.set_num_threads(before)


def curve(folder: Path, name: str) -> list[dict[str, float]]:
    rows = csv.DictReader((folder / f"plots/curves/{name}.csv").read_text().splitlines())
    return [{key: float(value) for key, value in row.items()} for row in rows]


def results(folder: Path, name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder / f"metrics/eval/{name}.json").read_text())
    return value


def test_there_are_60000_training_and_10000_test_images_of_28_by_28(train: Split, test: Split) -> None:
    assert (len(train.images_N1HW), len(train.labels_N)) == (60_000, 60_000)
    assert (len(test.images_N1HW), len(test.labels_N)) == (10_000, 10_000)
    assert train.images_N1HW[0].shape == (1, 28, 28)
    assert train.labels_N.bincount().tolist() == [6000] * 10
    assert test.labels_N.bincount().tolist() == [1000] * 10


def test_the_ten_classes_have_the_lectures_names(train: Split) -> None:
    assert train.class_names == (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"
    )  # fmt: skip
    assert train.source == "fashion-mnist"


def test_the_loaders_have_the_lectures_lengths_and_shapes(train: Split, test: Split) -> None:
    train_loader, test_loader = make_loader(train, 32, shuffle=True), make_loader(test, 32)
    assert (len(train_loader), len(test_loader)) == (1875, 313)
    batch = next(iter(train_loader))
    assert (batch[0].shape, batch[1].shape) == ((32, 1, 28, 28), (32,))
    assert 0 <= batch[0].min() < batch[0].max() <= 1


def test_the_description_of_the_data_agrees(done: Path) -> None:
    about = json.loads((done / "metrics/data.json").read_text())
    assert about["source"] == "fashion-mnist"
    assert about["sha256"] == {file.name: file.sha256 for file in RAW_FILES}
    assert about["counts"] == {"train": 60_000, "validation": 0, "test": 10_000}
    assert about["batches"] == {"train": 1875, "validation": 0, "test": 313}
    assert about["shape"] == [1, 28, 28]
    assert (about["mean"], about["std"]) == (pytest.approx(0.2860, abs=1e-4), pytest.approx(0.3530, abs=1e-4))


def test_the_pictures_show_the_lectures_images(train: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, Figure] = {}
    monkeypatch.setattr(figures, "save", lambda figure, path: drawn.update({Path(path).name: figure}))
    prepare.draw(train, seed=42)
    assert drawn["first_image.png"].get_suptitle() == "First training image: Ankle boot"
    assert len(drawn["grid.png"].axes) == 16
    (axes,) = drawn["first_batch.png"].axes
    assert axes.get_title().startswith("Shirt, ")  # label 6


@pytest.mark.parametrize("name", LECTURE)
def test_every_epoch_has_the_lectures_losses_and_accuracies(done: Path, name: str) -> None:
    for row, lecture in zip(curve(done, name), LECTURE[name], strict=True):
        assert row["train_loss"] == pytest.approx(lecture.train_loss, abs=LOSS)
        assert row["test_loss"] == pytest.approx(lecture.test_loss, abs=LOSS)
        assert row["test_acc"] == pytest.approx(lecture.test_acc, abs=PERCENT)
        if lecture.train_acc is not None:
            assert row["train_acc"] == pytest.approx(lecture.train_acc, abs=PERCENT)


@pytest.mark.parametrize("name", LECTURE)
def test_after_every_epoch_the_same_number_of_test_images_is_right(
    done: Path, train: Split, test: Split, threads: None, name: str
) -> None:
    params = load_params(done / "params.yaml")
    torch.manual_seed(params.seed)
    model = build_model(params.model(name).arch, params.model(name).hidden_units, 10)
    torch.manual_seed(params.seed)
    correct = [epoch.correct for epoch in fit(model, params.model(name), train, test)]
    assert correct == [round(lecture.accuracy * 100) for lecture in LECTURE[name]]


@pytest.mark.parametrize("name", LECTURE)
def test_the_evaluation_agrees_with_the_lecture(done: Path, name: str) -> None:
    evaluated, lecture = results(done, name), LECTURE[name][-1]
    assert evaluated["correct"] == round(lecture.accuracy * 100)
    assert (evaluated["images"], evaluated["accuracy"]) == (10_000, evaluated["correct"] / 100)
    assert evaluated["model_loss"] == pytest.approx(lecture.test_loss, abs=LOSS)
    assert evaluated["model_acc"] == pytest.approx(lecture.test_acc, abs=PERCENT)


def test_the_lectures_result_dictionaries_come_out(done: Path) -> None:
    for name, loss, accuracy in (
        ("model_0", 0.47664403915405273, 83.4301282051282),
        ("model_1", 0.6850000023841858, 75.01923076923077),
    ):
        evaluated = results(done, name)
        assert evaluated["model_loss"] == pytest.approx(loss, abs=LOSS)
        assert evaluated["model_acc"] == pytest.approx(accuracy, abs=PERCENT)


def test_the_convolutional_network_ends_where_the_course_does_and_is_the_best(done: Path) -> None:
    accuracies = {name: results(done, name)["accuracy"] for name in PARAMETERS}
    assert 87.3 <= accuracies["model_2"] <= 89.0
    assert accuracies["model_2"] > accuracies["model_0"] > accuracies["model_1"]


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_evaluation_of_the_saved_model_is_that_of_the_trained_one(done: Path, name: str) -> None:
    trained = json.loads((done / f"metrics/train/{name}.json").read_text())
    evaluated = results(done, name)
    assert evaluated["model_loss"] == pytest.approx(trained["test_loss"], rel=1e-5)
    assert evaluated["model_acc"] == pytest.approx(trained["test_acc"], abs=PERCENT)
    assert trained["parameters"] == PARAMETERS[name]
