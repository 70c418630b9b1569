"""The prepare stage, on small raw files of our own."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from stages import prepare
from stages.lib import plots
from stages.lib.data.datasets import Split, load_split
from stages.lib.source.fashion_mnist import CLASS_NAMES, TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS
from stages.lib.source.idx import write_idx

RunStage = Callable[..., CompletedProcess[str]]
SetParams = Callable[[dict[str, Any]], None]
OUTPUTS = {
    "data/prepared/train.safetensors",
    "data/prepared/validation.safetensors",
    "data/prepared/test.safetensors",
    "metrics/data.json",
    "plots/data/first_image.png",
    "plots/data/grid.png",
    "plots/data/first_batch.png",
}
TRAIN, TEST = 120, 60


def write_images(name: str, images_NHW: NDArray[np.uint8]) -> None:
    write_idx(Path("data/raw") / name, images_NHW.shape, [images_NHW])


def write_labels(name: str, labels: list[int]) -> None:
    write_idx(Path("data/raw") / name, (len(labels),), [np.array(labels, np.uint8)])


def random_images(count: int, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 28, 28), np.uint8)


@pytest.fixture
def raw(workspace: Path, set_params: SetParams) -> Path:
    """The workspace with raw files: 120 training and 60 test images, as many of each class."""
    set_params({"fetch.source": "synthetic"})
    write_images(TRAIN_IMAGES, random_images(TRAIN, 0))
    write_labels(TRAIN_LABELS, [index % 10 for index in range(TRAIN)])
    write_images(TEST_IMAGES, random_images(TEST, 1))
    write_labels(TEST_LABELS, [index % 10 for index in range(TEST)])
    return workspace


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Figure]:
    """The figures by path, kept instead of rendered: that takes most of the time."""
    kept: dict[str, Figure] = {}
    monkeypatch.setattr(figures, "save", lambda figure, path: kept.update({str(path): figure}))
    return kept


def written(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and path.parent != folder / "data/raw" and path.name != "params.yaml"
    }


def titles(figure: Figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def suptitle(figure: Figure) -> str:
    return figure.get_suptitle()


def refusal(run_stage: RunStage, folder: Path) -> str:
    """The error of the stage, checked to be one line and to leave nothing behind."""
    done = run_stage("prepare")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("prepare: ")
    assert written(folder) == set()
    return line


def test_it_writes_its_outputs_and_nothing_else_and_the_same_bytes_again(raw: Path, run_stage: RunStage) -> None:
    done = run_stage("prepare")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "prepared 120 train, 0 validation, 60 test images of synthetic\n"
    assert written(raw) == OUTPUTS
    first = {name: (raw / name).read_bytes() for name in OUTPUTS}
    for name in OUTPUTS:
        (raw / name).unlink()
    assert run_stage("prepare").returncode == 0
    assert {name: (raw / name).read_bytes() for name in OUTPUTS} == first
    for name in OUTPUTS:
        if name.endswith(".png"):
            with Image.open(raw / name) as picture:
                assert picture.info.keys() <= {"dpi"}  # no version, no date
                assert len(picture.convert("L").getcolors() or range(256)) > 50  # not blank


def test_images_and_labels_are_those_of_the_raw_files(raw: Path, run_stage: RunStage, drawn: dict[str, Figure]) -> None:
    run_stage("prepare")
    for name, images_NHW in (("train", random_images(TRAIN, 0)), ("test", random_images(TEST, 1))):
        split = load_split(raw / f"data/prepared/{name}.safetensors")
        assert np.array_equal(split.images_N1HW.squeeze(1).numpy(), images_NHW)
        assert split.labels_N.tolist() == [index % 10 for index in range(len(images_NHW))]
        assert split.labels_N.dtype == torch.int64
        assert (split.class_names, split.source) == (CLASS_NAMES, "synthetic")
    assert len(load_split(raw / "data/prepared/validation.safetensors")) == 0


def test_the_description_says_what_there_is(raw: Path, run_stage: RunStage, drawn: dict[str, Figure]) -> None:
    run_stage("prepare")
    about = json.loads((raw / "metrics/data.json").read_text())
    assert list(about) == [
        "source", "sha256", "counts", "shape", "batch_size", "batches", "per_class", "mean", "std", "shared_images"
    ]  # fmt: skip
    assert about["source"] == "synthetic"
    assert about["sha256"] == {
        name: hashlib.sha256((raw / "data/raw" / name).read_bytes()).hexdigest()
        for name in (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)
    }
    assert about["counts"] == {"train": 120, "validation": 0, "test": 60}
    assert about["shape"] == [1, 28, 28]
    assert (about["batch_size"], about["batches"]) == (32, {"train": 4, "validation": 0, "test": 2})
    assert about["per_class"]["train"] == dict.fromkeys(CLASS_NAMES, 12)
    assert about["per_class"]["validation"] == dict.fromkeys(CLASS_NAMES, 0)
    assert about["per_class"]["test"] == dict.fromkeys(CLASS_NAMES, 6)
    pixels = random_images(TRAIN, 0) / 255
    assert about["mean"] == pytest.approx(pixels.mean(), rel=1e-12)
    assert about["std"] == pytest.approx(pixels.std(), rel=1e-12)
    assert about["shared_images"] == {"train_test": 0, "train_validation": 0}


def test_validation_images_are_taken_out_of_the_training_images(
    raw: Path, run_stage: RunStage, set_params: SetParams, drawn: dict[str, Figure]
) -> None:
    set_params({"prepare.validation": 30})
    done = run_stage("prepare")
    assert done.stdout == "prepared 90 train, 30 validation, 60 test images of synthetic\n"
    splits = {name: load_split(raw / f"data/prepared/{name}.safetensors") for name in ("train", "validation", "test")}
    assert splits["validation"].labels_N.bincount().tolist() == [3] * 10
    together = torch.cat([splits["train"].images_N1HW, splits["validation"].images_N1HW]).flatten(1).tolist()
    assert sorted(together) == sorted(random_images(TRAIN, 0).reshape(TRAIN, -1).tolist())
    assert np.array_equal(splits["test"].images_N1HW.squeeze(1).numpy(), random_images(TEST, 1))
    about = json.loads((raw / "metrics/data.json").read_text())
    assert about["counts"] == {"train": 90, "validation": 30, "test": 60}
    assert about["batches"] == {"train": 3, "validation": 1, "test": 2}
    kept = splits["train"].images_N1HW.double() / 255
    assert about["mean"] == pytest.approx(kept.mean().item(), rel=1e-12)  # of what is trained on


def test_too_many_validation_images_are_refused(raw: Path, run_stage: RunStage, set_params: SetParams) -> None:
    set_params({"prepare.validation": 119})
    assert "prepare.validation is 119; of 120 images it must take 0, or 10 to 110" in refusal(run_stage, raw)


def test_test_images_that_are_in_the_training_set_too_are_said_aloud_and_counted(
    raw: Path, run_stage: RunStage, drawn: dict[str, Figure]
) -> None:
    images_NHW = random_images(TEST, 1)
    images_NHW[[5, 17, 40]] = random_images(TRAIN, 0)[[0, 0, 119]]
    write_images(TEST_IMAGES, images_NHW)
    done = run_stage("prepare")
    assert done.returncode == 0
    assert done.stderr == "prepare: warning: 3 test images are in the training set too\n"
    assert json.loads((raw / "metrics/data.json").read_text())["shared_images"]["train_test"] == 3


@pytest.mark.parametrize(("name", "count", "split"), [(TRAIN_LABELS, TRAIN, "training"), (TEST_LABELS, TEST, "test")])
def test_a_class_without_a_single_image_is_refused_by_name(
    raw: Path, run_stage: RunStage, name: str, count: int, split: str
) -> None:
    write_labels(name, [min(index % 10, 7) for index in range(count)])
    line = refusal(run_stage, raw)
    assert "hold none of: Bag, Ankle boot; " in line
    assert split[:5] in line


@pytest.mark.parametrize(
    ("images", "labels", "kind"), [(TRAIN_IMAGES, TRAIN_LABELS, "train"), (TEST_IMAGES, TEST_LABELS, "t10k")]
)
def test_more_or_fewer_labels_than_images_are_refused(
    raw: Path, run_stage: RunStage, images: str, labels: str, kind: str
) -> None:
    write_labels(labels, [index % 10 for index in range(59)])
    line = refusal(run_stage, raw)
    count = TRAIN if kind == "train" else TEST
    assert f"data/raw/{images} holds {count} images but data/raw/{labels} 59 labels; " in line
    assert "`dvc repro fetch`" in line


def test_a_missing_raw_file_is_named(raw: Path, run_stage: RunStage) -> None:
    (raw / "data/raw" / TEST_LABELS).unlink()
    assert refusal(run_stage, raw) == f"prepare: data/raw/{TEST_LABELS} is missing; run `dvc repro fetch` to get it"


def test_a_label_out_of_range_is_refused(raw: Path, run_stage: RunStage) -> None:
    write_labels(TRAIN_LABELS, [*range(10)] * 11 + [*range(1, 11)])
    line = refusal(run_stage, raw)
    assert TRAIN_LABELS in line
    assert "has 10 at position 119; labels are 0 to 9" in line


def test_a_wrong_setting_stops_it_before_any_work(raw: Path, run_stage: RunStage, set_params: SetParams) -> None:
    set_params({"prepare.validation": -1})
    assert "prepare.validation is -1; it must be a whole number from 0" in refusal(run_stage, raw)


def test_an_old_library_stops_it_before_any_work(
    raw: Path, run_stage: RunStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.lib.base.versions.version", lambda library: "0.11")
    assert "torch 0.11 is too old" in refusal(run_stage, raw)


def test_what_a_crash_left_unpacked_is_cleared_away(raw: Path, run_stage: RunStage, drawn: dict[str, Figure]) -> None:
    with prepare.unpacked_files() as root:
        left = root / "MappedFashionMNIST" / "raw" / "left-behind"
    left.parent.mkdir(parents=True)
    left.write_text("by kill -9")
    assert run_stage("prepare").returncode == 0
    assert written(raw) == {name for name in OUTPUTS if not name.endswith(".png")}


def test_a_refused_run_leaves_the_earlier_results(raw: Path, run_stage: RunStage, drawn: dict[str, Figure]) -> None:
    run_stage("prepare")
    before = {name: (raw / name).read_bytes() for name in written(raw)}
    (raw / "data/raw" / TRAIN_IMAGES).write_bytes(b"damaged")
    assert run_stage("prepare").returncode == 1
    assert {name: (raw / name).read_bytes() for name in written(raw)} == before


@pytest.mark.parametrize(("source", "mark"), [("synthetic", " (synthetic data)"), ("fashion-mnist", "")])
def test_every_picture_of_synthetic_data_says_so(
    raw: Path, run_stage: RunStage, set_params: SetParams, drawn: dict[str, Figure], source: str, mark: str
) -> None:
    set_params({"fetch.source": source})
    assert run_stage("prepare").stdout.endswith(f"images of {source}\n")
    assert json.loads((raw / "metrics/data.json").read_text())["source"] == source
    assert {path: suptitle(figure) for path, figure in drawn.items()} == {
        "plots/data/first_image.png": f"First training image: T-shirt/top{mark}",
        "plots/data/grid.png": f"Sixteen random training images{mark}",
        "plots/data/first_batch.png": f"From the first batch{mark}",
    }


def test_the_first_image_is_shown_in_colours_and_in_grey(
    raw: Path, run_stage: RunStage, drawn: dict[str, Figure]
) -> None:
    run_stage("prepare")
    axes = drawn["plots/data/first_image.png"].axes
    assert [one.images[0].get_cmap().name for one in axes] == ["viridis", "gray"]
    for one in axes:
        assert np.array_equal(np.asarray(one.images[0].get_array()), random_images(TRAIN, 0)[0])


def test_the_random_images_are_those_that_the_lectures_draws_pick(
    make_split: Callable[..., Split], drawn: dict[str, Figure]
) -> None:
    train = make_split(330)
    prepare.draw(train, seed=42)

    torch.manual_seed(42)  # the lecture: a grid of 4 x 4, then the first batch, then one image of it
    picks = [int(torch.randint(0, 330, size=[1]).item()) for _ in range(16)]
    grid = drawn["plots/data/grid.png"]
    assert titles(grid) == [CLASS_NAMES[train.labels_N[pick]] for pick in picks]
    shown = [np.asarray(axes.images[0].get_array()) for axes in grid.axes]
    assert all(np.array_equal(image, train.images_N1HW[pick, 0]) for image, pick in zip(shown, picks, strict=True))

    loader = DataLoader(TensorDataset(torch.arange(330)), batch_size=32, shuffle=True)
    batch = next(iter(loader))[0].tolist()
    torch.manual_seed(42)
    place = int(torch.randint(0, 32, size=[1]).item())
    picture = drawn["plots/data/first_batch.png"]
    assert titles(picture) == [f"{CLASS_NAMES[train.labels_N[batch[place]]]}, no. {place + 1} of 32"]
    image = np.asarray(picture.axes[0].images[0].get_array())
    np.testing.assert_allclose(image, train.images_N1HW[batch[place], 0], atol=1e-3)
