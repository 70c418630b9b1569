"""The lecture's data set beside torchvision's and the pipeline's."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL.Image import Transpose
from torch.utils.data import DataLoader
from torchvision.transforms import ToTensor

from stages.lecture.datasets import FashionMNIST
from stages.lib.base.errors import UserError
from stages.lib.data.datasets import Split, load_split, make_loader, save_split


@pytest.fixture
def train_data(prepared: Path) -> FashionMNIST:
    return FashionMNIST(train=True)


def test_what_torchvision_has(train_data: FashionMNIST) -> None:
    assert train_data.data.shape == (330, 28, 28)
    assert train_data.targets.shape == (330,)
    assert train_data.source == "synthetic"
    assert (train_data.classes[9], len(train_data), len(FashionMNIST(train=False))) == ("Ankle boot", 330, 77)


def test_other_images_are_called_so(prepared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    FashionMNIST(train=False)
    assert "test.safetensors holds 77 images of synthetic, not the 10,000 of FashionMNIST" in capsys.readouterr().err
    split = load_split("data/prepared/test.safetensors")
    whole = torch.arange(10_000) % len(split)
    images, labels = split.images_NCHW[whole], split.labels_N[whole]
    save_split("data/prepared/test.safetensors", Split(images, labels, split.class_names, "fashion-mnist"))
    FashionMNIST(train=False)
    assert capsys.readouterr().err == ""


def test_item_is_what_to_tensor_gives(train_data: FashionMNIST) -> None:
    image, label = train_data[7]
    assert torch.equal(image, ToTensor()(train_data.data[7].numpy()))
    assert label == 7


def test_arguments_of_torchvision(train_data: FashionMNIST) -> None:
    theirs = list(inspect.signature(torchvision.datasets.FashionMNIST).parameters)
    assert list(inspect.signature(FashionMNIST).parameters) == theirs
    as_on_the_slides = FashionMNIST(root="data", train=True, download=True, transform=ToTensor(), target_transform=None)
    image, label = as_on_the_slides[7]
    assert torch.equal(image, train_data[7][0])
    assert label == 7


def test_transforms(train_data: FashionMNIST) -> None:
    image, label = FashionMNIST(transform=None, target_transform=str)[7]
    assert (image.mode, image.size, label) == ("L", (28, 28), "7")
    assert np.array_equal(image, train_data.data[7])
    mirrored, _ = FashionMNIST(transform=lambda picture: ToTensor()(picture.transpose(Transpose.FLIP_LEFT_RIGHT)))[7]
    assert torch.equal(mirrored, train_data[7][0].flip(-1))


def test_batches_of_the_pipeline(train_data: FashionMNIST) -> None:
    torch.manual_seed(42)
    theirs = list(DataLoader(train_data, batch_size=32, shuffle=True))
    torch.manual_seed(42)
    ours = list(make_loader(load_split("data/prepared/train.safetensors"), 32, shuffle=True))
    assert [len(labels) for _, labels in theirs] == [32] * 10 + [10]
    for (images, labels), (X, y) in zip(theirs, ours, strict=True):
        assert torch.equal(images, X)
        assert torch.equal(labels, y)


def test_ends(train_data: FashionMNIST) -> None:
    with pytest.raises(IndexError):
        train_data[330]


def test_before_the_pipeline_has_run(workspace: Path) -> None:
    with pytest.raises(UserError, match=r"train\.safetensors"):
        FashionMNIST(train=True)
