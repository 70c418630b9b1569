"""The prepare stage, on small raw files of our own."""

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from stages import prepare
from stages.lib.base.files import read_json, sha256_of
from stages.lib.data.datasets import load_split
from stages.lib.plots import LONGEST_NAME
from stages.lib.source.idx import write_idx
from stages.lib.source.idx_sets import (
    CLASS_NAMES,
    FASHION_MNIST,
    IDX_SETS,
    MNIST,
    RAW_FILES,
    TEST_IMAGES,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
)
from stages.lib.source.pictures import bring
from tests.helpers import MakeSplit, RunStage, SetParams, StageRefusal, file_names, write_photos

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
Drawn = dict[str, Figure]


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


def titles(figure: Figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def test_outputs(raw: Path, run_stage: RunStage) -> None:
    before = file_names(raw)
    seen = []
    for _ in range(2):
        done = run_stage("prepare")
        assert (done.returncode, done.stderr) == (0, "")
        assert file_names(raw) - before == OUTPUTS
        seen.append({name: (raw / name).read_bytes() for name in OUTPUTS})
    assert seen[0] == seen[1]
    assert all(words in done.stdout for words in ("120 train", "0 validation", "60 test", "synthetic"))
    for name in OUTPUTS:
        if name.endswith(".png"):
            with Image.open(raw / name) as picture:
                assert picture.info.keys() <= {"dpi"}  # no version, no date
                assert len(picture.convert("L").getcolors() or range(256)) > 50  # not blank


def test_splits_hold_the_raw_images(raw: Path, run_stage: RunStage, drawn: Drawn) -> None:
    run_stage("prepare")
    for name, images_NHW in (("train", random_images(TRAIN, 0)), ("test", random_images(TEST, 1))):
        split = load_split(raw / f"data/prepared/{name}.safetensors")
        assert np.array_equal(split.images_NCHW.squeeze(1).numpy(), images_NHW)
        assert split.labels_N.tolist() == [index % 10 for index in range(len(images_NHW))]
        assert split.labels_N.dtype == torch.int64
        assert (split.class_names, split.source) == (CLASS_NAMES, "synthetic")
    assert len(load_split(raw / "data/prepared/validation.safetensors")) == 0


def test_description(raw: Path, run_stage: RunStage, drawn: Drawn) -> None:
    run_stage("prepare")
    about = read_json("metrics/data.json")
    assert list(about) == [
        "source", "sha256", "counts", "shape", "batch_size", "batches", "per_class", "mean", "std", "shared_images"
    ]  # fmt: skip
    assert about["source"] == "synthetic"
    assert about["sha256"] == {
        name: sha256_of(raw / "data/raw" / name) for name in (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)
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


def test_validation_images_leave_training(raw: Path, run_stage: RunStage, set_params: SetParams, drawn: Drawn) -> None:
    set_params({"prepare.validation": 30})
    done = run_stage("prepare")
    assert all(words in done.stdout for words in ("90 train", "30 validation", "60 test"))
    splits = {name: load_split(raw / f"data/prepared/{name}.safetensors") for name in ("train", "validation", "test")}
    assert splits["validation"].labels_N.bincount().tolist() == [3] * 10
    together = torch.cat([splits["train"].images_NCHW, splits["validation"].images_NCHW]).flatten(1).tolist()
    assert sorted(together) == sorted(random_images(TRAIN, 0).reshape(TRAIN, -1).tolist())
    assert np.array_equal(splits["test"].images_NCHW.squeeze(1).numpy(), random_images(TEST, 1))
    about = read_json("metrics/data.json")
    assert about["counts"] == {"train": 90, "validation": 30, "test": 60}
    assert about["batches"] == {"train": 3, "validation": 1, "test": 2}
    kept = splits["train"].images_NCHW.double() / 255
    assert about["mean"] == pytest.approx(kept.mean().item(), rel=1e-12)  # of what is trained on


def test_fewer_training_images(raw: Path, run_stage: RunStage, set_params: SetParams, drawn: Drawn) -> None:
    set_params({"prepare.validation": 30, "prepare.train_images": 20})
    run_stage("prepare")
    train, validation = (load_split(raw / f"data/prepared/{name}.safetensors") for name in ("train", "validation"))
    assert train.labels_N.bincount().tolist() == [2] * 10
    assert len(validation) == 30
    assert read_json("metrics/data.json")["shared_images"]["train_validation"] == 0


def test_more_training_images_than_there_are(raw: Path, stage_refusal: StageRefusal, set_params: SetParams) -> None:
    set_params({"prepare.train_images": 120})
    assert "prepare.train_images is 120" in stage_refusal("prepare")


@pytest.mark.parametrize("validation", [-1, 119])
def test_wrong_number_of_validation_images(
    raw: Path, stage_refusal: StageRefusal, set_params: SetParams, validation: int
) -> None:
    set_params({"prepare.validation": validation})
    assert f"prepare.validation is {validation}" in stage_refusal("prepare")


def test_seed_of_split_and_pictures(raw: Path, run_stage: RunStage, set_params: SetParams, drawn: Drawn) -> None:
    splits, pictures = [], []
    for changes in ({"prepare.validation": 30}, {"seed": 43, "confusion.seed": 43}, {"prepare.seed": 43}):
        set_params(changes)
        run_stage("prepare")
        splits.append((raw / "data/prepared/validation.safetensors").read_bytes())
        pictures.append(
            [np.asarray(axes.images[0].get_array()).tobytes() for axes in drawn["plots/data/grid.png"].axes]
        )
    assert splits[0] == splits[1] != splits[2]
    assert pictures[0] == pictures[1] != pictures[2]


def test_shared_images_are_counted(raw: Path, run_stage: RunStage, drawn: Drawn) -> None:
    images_NHW = random_images(TEST, 1)
    images_NHW[[5, 17, 40]] = random_images(TRAIN, 0)[[0, 0, 119]]
    write_images(TEST_IMAGES, images_NHW)
    done = run_stage("prepare")
    assert done.returncode == 0
    line, _ = done.stderr.splitlines()  # two of them are copies of each other too
    assert "warning: 3 test images" in line
    assert read_json("metrics/data.json")["shared_images"]["train_test"] == 3


def test_copies_among_test_images(raw: Path, run_stage: RunStage, drawn: Drawn) -> None:
    images_NHW = random_images(TEST, 1)
    images_NHW[[5, 17, 40]] = images_NHW[0]
    write_images(TEST_IMAGES, images_NHW)
    (line,) = run_stage("prepare").stderr.splitlines()
    assert "warning: 3 test images are copies of others" in line
    assert read_json("metrics/data.json")["test_copies"] == 3


def test_validation_images_that_are_trained_on(
    raw: Path, run_stage: RunStage, drawn: Drawn, set_params: SetParams
) -> None:
    images_NHW = random_images(TRAIN, 0)
    images_NHW[:] = images_NHW[0]
    write_images(TRAIN_IMAGES, images_NHW)
    set_params({"prepare.validation": 20})
    (line,) = run_stage("prepare").stderr.splitlines()
    assert "warning: 20 validation images" in line


@pytest.mark.parametrize(("name", "count", "split"), [(TRAIN_LABELS, TRAIN, "train"), (TEST_LABELS, TEST, "test")])
def test_class_without_an_image(raw: Path, stage_refusal: StageRefusal, name: str, count: int, split: str) -> None:
    write_labels(name, [min(index % 10, 7) for index in range(count)])
    line = stage_refusal("prepare")
    assert f"the {split} images" in line
    assert "Bag, Ankle boot" in line


@pytest.mark.parametrize(("images", "labels"), [(TRAIN_IMAGES, TRAIN_LABELS), (TEST_IMAGES, TEST_LABELS)])
def test_other_number_of_labels(raw: Path, stage_refusal: StageRefusal, images: str, labels: str) -> None:
    write_labels(labels, [index % 10 for index in range(59)])
    line = stage_refusal("prepare")
    assert f"data/raw/{images}" in line
    assert f"data/raw/{labels} 59 labels" in line
    assert "dvc repro" in line


def test_missing_raw_file(raw: Path, stage_refusal: StageRefusal) -> None:
    (raw / "data/raw" / TEST_LABELS).unlink()
    assert f"data/raw/{TEST_LABELS} is missing" in stage_refusal("prepare")


def test_label_out_of_range(raw: Path, stage_refusal: StageRefusal) -> None:
    write_labels(TRAIN_LABELS, [*range(10)] * 11 + [*range(1, 11)])
    line = stage_refusal("prepare")
    assert TRAIN_LABELS in line
    assert "10 at position 119" in line


def test_old_library(raw: Path, stage_refusal: StageRefusal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.lib.base.versions.version", lambda name: "0.11" if name == "torch" else version(name))
    assert "torch 0.11 is too old" in stage_refusal("prepare")


def test_leftovers_of_a_crash(raw: Path, run_stage: RunStage, drawn: Drawn) -> None:
    before = file_names(raw)
    with prepare.unpacked_files() as root:
        left = root / "MappedFashionMNIST" / "raw" / "left-behind"
    left.parent.mkdir(parents=True)
    left.write_text("by kill -9")
    assert run_stage("prepare").returncode == 0
    assert file_names(raw) - before == {name for name in OUTPUTS if not name.endswith(".png")}


def test_refusal_keeps_earlier_results(
    raw: Path, run_stage: RunStage, stage_refusal: StageRefusal, drawn: Drawn
) -> None:
    run_stage("prepare")
    (raw / "data/raw" / TRAIN_IMAGES).write_bytes(b"damaged")
    assert TRAIN_IMAGES in stage_refusal("prepare")  # which changes no file


@pytest.mark.parametrize(("source", "mark"), [("synthetic", " (synthetic data)"), ("fashion-mnist", "")])
def test_titles_of_synthetic_data(
    raw: Path,
    run_stage: RunStage,
    set_params: SetParams,
    drawn: Drawn,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    mark: str,
) -> None:
    set_params({"fetch.source": source})
    if source == "fashion-mnist":
        files = [replace(file, sha256=sha256_of(raw / "data/raw" / file.name)) for file in RAW_FILES]
        monkeypatch.setitem(IDX_SETS, "fashion-mnist", replace(FASHION_MNIST, files=tuple(files)))
    assert run_stage("prepare").stdout.endswith(f"images of {source}\n")
    assert read_json("metrics/data.json")["source"] == source
    assert {path: figure.get_suptitle() for path, figure in drawn.items()} == {
        "plots/data/first_image.png": f"First training image: T-shirt/top{mark}",
        "plots/data/grid.png": f"Sixteen random training images{mark}",
        "plots/data/first_batch.png": f"From the first batch{mark}",
    }


def test_mnist(
    raw: Path, run_stage: RunStage, set_params: SetParams, drawn: Drawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_params({"fetch.source": "mnist"})
    files = [replace(file, sha256=sha256_of(raw / "data/raw" / file.name)) for file in MNIST.files]
    monkeypatch.setitem(IDX_SETS, "mnist", replace(MNIST, files=tuple(files)))
    assert run_stage("prepare").returncode == 0
    train, about = load_split("data/prepared/train.safetensors"), read_json("metrics/data.json")
    assert (train.source, train.data_set, train.class_names[7]) == ("mnist", "MNIST", "7 - seven")
    assert (about["data_set"], about["per_class"]["test"]["7 - seven"]) == ("MNIST", 6)
    set_params({"fetch.source": "fashion-mnist"})
    refused = run_stage("prepare").stderr
    assert f"{TRAIN_IMAGES} is MNIST, but fetch.source is fashion-mnist" in refused


@pytest.mark.parametrize("name", [TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS])
def test_files_that_are_not_the_published_ones(
    raw: Path, stage_refusal: StageRefusal, set_params: SetParams, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    set_params({"fetch.source": "fashion-mnist"})
    files = [
        file if file.name == name else replace(file, sha256=sha256_of(Path("data/raw", file.name)))
        for file in RAW_FILES
    ]
    monkeypatch.setitem(IDX_SETS, "fashion-mnist", replace(FASHION_MNIST, files=tuple(files)))
    line = stage_refusal("prepare")
    assert name in line
    assert "fashion-mnist" in line


def test_published_files_called_synthetic(
    raw: Path, stage_refusal: StageRefusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [replace(file, sha256=sha256_of(Path("data/raw", file.name))) for file in RAW_FILES]
    monkeypatch.setitem(IDX_SETS, "fashion-mnist", replace(FASHION_MNIST, files=tuple(files)))
    assert "synthetic" in stage_refusal("prepare")


def test_first_image_in_colours_and_grey(raw: Path, run_stage: RunStage, drawn: Drawn) -> None:
    run_stage("prepare")
    axes = drawn["plots/data/first_image.png"].axes
    assert [one.images[0].get_cmap().name for one in axes] == ["viridis", "gray"]
    for one in axes:
        assert np.array_equal(np.asarray(one.images[0].get_array()), random_images(TRAIN, 0)[0])


def test_random_images_are_the_lectures(make_split: MakeSplit, drawn: Drawn) -> None:
    train = make_split(330)
    prepare.draw(train, seed=42)

    torch.manual_seed(42)  # the lecture: a grid of 4 x 4, then the first batch, then one image of it
    picks = [int(torch.randint(0, 330, size=[1]).item()) for _ in range(16)]
    grid = drawn["plots/data/grid.png"]
    assert titles(grid) == [CLASS_NAMES[train.labels_N[pick]] for pick in picks]
    shown = [np.asarray(axes.images[0].get_array()) for axes in grid.axes]
    assert all(np.array_equal(image, train.images_NCHW[pick, 0]) for image, pick in zip(shown, picks, strict=True))

    loader = DataLoader(TensorDataset(torch.arange(330)), batch_size=32, shuffle=True)
    batch = next(iter(loader))[0].tolist()
    torch.manual_seed(42)
    place = int(torch.randint(0, 32, size=[1]).item())
    picture = drawn["plots/data/first_batch.png"]
    assert titles(picture) == [f"{CLASS_NAMES[train.labels_N[batch[place]]]}, no. {place + 1} of 32"]
    image = np.asarray(picture.axes[0].images[0].get_array())
    np.testing.assert_allclose(image, train.images_NCHW[batch[place], 0], atol=1e-3)


@pytest.fixture
def photos(workspace: Path, run_stage: RunStage, set_params: SetParams) -> Path:
    """The workspace with 30 images of one's own in three classes, fetched, to be brought to 12 x 12 in colour."""
    write_photos(workspace / "pets", per_class=10)
    set_params({"prepare.image_size": 12, "prepare.channels": 3})
    for stage in (("commands.use_images", "pets"), ("fetch",)):
        assert run_stage(*stage).returncode == 0
    return workspace


def test_images_of_ones_own(photos: Path, run_stage: RunStage) -> None:
    before = file_names(photos)
    done = run_stage("prepare")
    assert (done.returncode, done.stderr) == (0, "")
    assert file_names(photos) - before == OUTPUTS
    assert "24 train, 0 validation, 6 test images of pets" in done.stdout
    train, test = (load_split(photos / f"data/prepared/{name}.safetensors") for name in ("train", "test"))
    assert train.image_shape == test.image_shape == (3, 12, 12)
    assert (train.source, train.data_set, train.class_names) == ("images", "pets", ("Hose", "Kleid", "靴"))
    assert train.brought == {"image_size": 12, "channels": 3, "fit": "pad"}
    assert (train.labels_N.bincount().tolist(), test.labels_N.bincount().tolist()) == ([8] * 3, [2] * 3)
    about = read_json("metrics/data.json")
    assert (about["data_set"], about["shape"], about["per_class"]["test"]["靴"]) == ("pets", [3, 12, 12], 2)
    assert about["sha256"] == {"images.zip": sha256_of("data/raw/images.zip")}


def test_long_class_name(workspace: Path, run_stage: RunStage, drawn: Drawn) -> None:
    write_photos(workspace / "pets", 2, ["a" * 200, "b" * 200])
    for stage in (("commands.use_images", "pets"), ("fetch",), ("prepare",)):
        assert run_stage(*stage).returncode == 0
    assert max(map(len, titles(drawn["plots/data/grid.png"]))) == LONGEST_NAME
    assert titles(drawn["plots/data/first_batch.png"])[0].endswith(", no. 1 of 2")


def test_every_image_has_its_own_label(photos: Path, run_stage: RunStage, drawn: Drawn) -> None:
    run_stage("prepare")
    expected = []
    for label, name in enumerate(("Hose", "Kleid", "靴")):
        for path in (photos / "pets" / name).iterdir():
            with Image.open(path) as picture:
                expected.append((label, bring(picture, 12, 3, "pad").tobytes()))
    splits = [load_split(f"data/prepared/{name}.safetensors") for name in ("train", "test")]
    found = [
        (int(label), image.numpy().tobytes())
        for split in splits
        for image, label in zip(split.images_NCHW, split.labels_N, strict=True)
    ]
    assert sorted(found) == sorted(expected)


def test_images_with_train_and_test(workspace: Path, run_stage: RunStage, drawn: Drawn) -> None:
    for part, count in (("train", 6), ("test", 3)):
        write_photos(workspace / "pets" / part, count)
    for stage in (("commands.use_images", "pets"), ("fetch",)):
        assert run_stage(*stage).returncode == 0
    assert "18 train, 0 validation, 9 test" in run_stage("prepare").stdout
    assert load_split("data/prepared/train.safetensors").image_shape == (1, 28, 28)


def test_part_held_out_depends_on_the_seed(
    photos: Path, run_stage: RunStage, set_params: SetParams, drawn: Drawn
) -> None:
    contents = []
    for seed in (42, 42, 43):
        set_params({"prepare.seed": seed})
        run_stage("prepare")
        content = (photos / "data/prepared/test.safetensors").read_bytes()
        contents.append((content, read_json("metrics/data.json")["test_sha256"]))
    assert contents[0] == contents[1]
    assert all(before != after for before, after in zip(contents[1], contents[2], strict=True))


def test_other_images_than_pinned(photos: Path, stage_refusal: StageRefusal, set_params: SetParams) -> None:
    set_params({"fetch.images.sha256": "0" * 64})
    assert "dvc repro fetch" in stage_refusal("prepare")


def test_damaged_pack(photos: Path, stage_refusal: StageRefusal) -> None:
    path = photos / "data/raw/images.zip"
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    assert "data/raw/images.zip" in stage_refusal("prepare")


def test_images_not_fetched(photos: Path, stage_refusal: StageRefusal) -> None:
    (photos / "data/raw/images.zip").unlink()
    assert "images.zip is missing" in stage_refusal("prepare")


def test_shape_of_published_images_is_native(
    raw: Path, run_stage: RunStage, set_params: SetParams, drawn: Drawn
) -> None:
    set_params({"prepare.image_size": 64, "prepare.channels": 3})
    assert run_stage("prepare").returncode == 0
    train = load_split("data/prepared/train.safetensors")
    assert (train.image_shape, train.brought) == ((1, 28, 28), {})
