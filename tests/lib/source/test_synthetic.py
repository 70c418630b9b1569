"""Drawn garments: the same for the same seed, and fit to stand in for FashionMNIST."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from stages.lib.source.idx import unpack_images, unpack_labels
from stages.lib.source.idx_sets import CLASS_NAMES, RAW_FILES, TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS
from stages.lib.source.synthetic import write_synthetic
from tests.helpers import GREY_28, model_params


def images_in(folder: Path, name: str) -> NDArray[np.uint8]:
    return np.frombuffer(gzip.decompress((folder / name).read_bytes()), np.uint8, offset=16).reshape(-1, 28, 28)


def labels_in(folder: Path, name: str) -> NDArray[np.uint8]:
    return np.frombuffer(gzip.decompress((folder / name).read_bytes()), np.uint8, offset=8)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    write_synthetic(folder, seed=42, train=1200, test=300)
    return folder


def test_same_seed_same_bytes(drawn: Path, tmp_path: Path) -> None:
    write_synthetic(tmp_path, seed=42, train=1200, test=300)
    for file in RAW_FILES:
        assert (tmp_path / file.name).read_bytes() == (drawn / file.name).read_bytes()


def test_another_seed(drawn: Path, tmp_path: Path) -> None:
    write_synthetic(tmp_path, seed=7, train=1200, test=300)
    for name in (TRAIN_IMAGES, TEST_IMAGES):
        assert (tmp_path / name).read_bytes() != (drawn / name).read_bytes()


def test_first_images_do_not_depend_on_later_ones(drawn: Path, tmp_path: Path) -> None:
    write_synthetic(tmp_path, seed=42, train=150, test=10)
    assert np.array_equal(images_in(tmp_path, TRAIN_IMAGES), images_in(drawn, TRAIN_IMAGES)[:150])
    assert np.array_equal(labels_in(tmp_path, TRAIN_LABELS), labels_in(drawn, TRAIN_LABELS)[:150])


def test_classes_are_equally_frequent(drawn: Path) -> None:
    assert np.bincount(labels_in(drawn, TRAIN_LABELS)).tolist() == [120] * 10
    assert np.bincount(labels_in(drawn, TEST_LABELS)).tolist() == [30] * 10


def test_random_order_of_classes(drawn: Path) -> None:
    labels = labels_in(drawn, TRAIN_LABELS).astype(int)
    assert len(set(np.diff(labels[:100]).tolist())) > 5


def test_light_on_black(drawn: Path) -> None:
    images = images_in(drawn, TRAIN_IMAGES)
    assert np.median(images[:, 0, 0]) == 0
    assert (images.max(axis=(1, 2)) > 30).all()
    assert 0.2 < (images > 0).mean() < 0.7


def test_no_image_twice(drawn: Path) -> None:
    train = {image.tobytes() for image in images_in(drawn, TRAIN_IMAGES)}
    assert len(train) == 1200
    assert not train & {image.tobytes() for image in images_in(drawn, TEST_IMAGES)}


def test_torchvision_reads_them(drawn: Path, tmp_path: Path) -> None:
    from torchvision.datasets import FashionMNIST

    for file in RAW_FILES:
        unpack = unpack_images if "images" in file.name else unpack_labels
        count = unpack(drawn / file.name, tmp_path / "FashionMNIST" / "raw" / file.name.removesuffix(".gz"))
        assert count == (1200 if "train" in file.name else 300)
    for is_train, images, labels in ((True, TRAIN_IMAGES, TRAIN_LABELS), (False, TEST_IMAGES, TEST_LABELS)):
        read = FashionMNIST(tmp_path, train=is_train)
        assert np.array_equal(read.data.numpy(), images_in(drawn, images))
        assert np.array_equal(read.targets.numpy(), labels_in(drawn, labels))


@pytest.mark.slow
def test_order_of_the_three_models(tmp_path: Path) -> None:
    import torch

    from stages.lib.data.datasets import Split
    from stages.lib.learning.models import build_model
    from stages.lib.learning.training import Training

    write_synthetic(tmp_path, seed=42, train=6000, test=1000)

    def split(images: str, labels: str) -> Split:
        images_NCHW = torch.from_numpy(images_in(tmp_path, images).copy()).unsqueeze(1)
        return Split(images_NCHW, torch.from_numpy(labels_in(tmp_path, labels).copy()).long(), CLASS_NAMES, "synthetic")

    train, test = split(TRAIN_IMAGES, TRAIN_LABELS), split(TEST_IMAGES, TEST_LABELS)
    accuracy = {}
    for arch in ("linear", "mlp", "tiny_vgg"):
        torch.manual_seed(42)
        model = build_model(arch, GREY_28, 10, 10)
        torch.manual_seed(42)
        accuracy[arch] = [epoch.test_acc for epoch in Training(model, model_params(arch), train, test).run()][-1]
    assert accuracy["tiny_vgg"] > accuracy["linear"] + 5
    assert accuracy["linear"] > accuracy["mlp"]
