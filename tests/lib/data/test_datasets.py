"""The prepared images and the batches that are read from them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from stages.lib.base.tensors import save_tensors
from stages.lib.data.datasets import Split, batch_sizes, load_split, make_loader, save_split
from stages.lib.source.idx_sets import CLASS_NAMES
from tests.helpers import MakeSplit, refusal


class OneByOne(Dataset[tuple[Tensor, int]]):
    """The images as the lecture reads them: one at a time, scaled on the way."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.split.images_NCHW[index].float() / 255, int(self.split.labels_N[index])


def blank(images: int) -> Split:
    images_NCHW = torch.zeros(images, 1, 28, 28, dtype=torch.uint8)
    return Split(images_NCHW, torch.zeros(images).long(), CLASS_NAMES, "synthetic")


def check_refused(path: Path) -> str:
    message = refusal(load_split, path)
    assert message.startswith(f"{path} ")
    assert "`dvc repro`" in message
    return message


@pytest.mark.parametrize(
    ("images", "batch_size"), [(320, 32), (330, 32), (33, 32), (10, 32), (50, 1), (50, 7), (50, 50)]
)
def test_batches_of_pytorchs_loader(make_split: MakeSplit, images: int, batch_size: int) -> None:
    train, test = make_split(images), make_split(77, seed=1)
    batches: list[list[tuple[Tensor, Tensor]]] = []
    for make in (make_loader, lambda split, size, shuffle=False: DataLoader(OneByOne(split), size, shuffle=shuffle)):
        torch.manual_seed(42)
        train_loader, test_loader = make(train, batch_size, shuffle=True), make(test, batch_size)
        seen = []
        for _ in range(3):  # the test loader between two epochs draws from the same generator
            seen += [
                (images_BCHW, labels_B) for loader in (train_loader, test_loader) for images_BCHW, labels_B in loader
            ]
        seen.append((torch.get_rng_state(), torch.empty(0)))
        batches.append(seen)
    for pair in zip(*batches, strict=True):
        for ours, theirs in zip(*pair, strict=True):
            assert ours.dtype == theirs.dtype
            assert torch.equal(ours, theirs)


def test_lecture_shapes() -> None:
    train_loader, test_loader = make_loader(blank(60_000), 32, shuffle=True), make_loader(blank(10_000), 32)
    assert (len(train_loader), len(test_loader)) == (1875, 313)
    images_BCHW, labels_B = next(iter(train_loader))
    assert (images_BCHW.shape, images_BCHW.dtype) == ((32, 1, 28, 28), torch.float32)
    assert (labels_B.shape, labels_B.dtype) == ((32,), torch.int64)


@pytest.mark.parametrize(("images", "sizes"), [(10_000, [32] * 312 + [16]), (64, [32, 32]), (5, [5]), (0, [])])
def test_short_last_batch(images: int, sizes: list[int]) -> None:
    assert batch_sizes(images, 32) == sizes
    assert [len(labels_B) for _, labels_B in make_loader(blank(images), 32)] == sizes


def test_images_scaled_and_in_order(make_split: MakeSplit) -> None:
    split = make_split(77)
    split.images_NCHW[0, 0, 0, :2] = torch.tensor([0, 255])
    batches = list(make_loader(split, 32))
    images_NCHW = torch.cat([batch.images_BCHW for batch in batches])
    assert torch.equal(torch.cat([batch.labels_B for batch in batches]), split.labels_N)
    assert torch.equal(images_NCHW, split.images_NCHW.float() / 255)
    assert (images_NCHW.min().item(), images_NCHW.max().item()) == (0.0, 1.0)


def test_shuffled_pass_has_every_image_once(make_split: MakeSplit) -> None:
    split = make_split(330)
    images_NCHW = torch.cat([images_BCHW for images_BCHW, _ in make_loader(split, 32, shuffle=True)])
    given = sorted((images_NCHW * 255).round().byte().flatten(1).tolist())
    assert given == sorted(split.images_NCHW.flatten(1).tolist())


def test_orders_of_passes_and_seeds_differ(make_split: MakeSplit) -> None:
    loader = make_loader(make_split(330), 330, shuffle=True)
    orders = []
    for seed in (42, 43):
        torch.manual_seed(seed)
        orders += [tuple(next(iter(loader)).images_BCHW[:, 0, 0, 0].tolist()) for _ in range(2)]
    assert len(set(orders)) == 4


def test_batches_are_copies(make_split: MakeSplit) -> None:
    split = make_split(40)
    before = split.images_NCHW.clone()
    for images_BCHW, _ in make_loader(split, 32):
        images_BCHW.mul_(0)
    assert torch.equal(split.images_NCHW, before)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(("images", "world_size"), [(66, 4), (65, 2), (33, 3)])  # last batches of 2 and of 1
def test_slices_of_all_ranks_make_the_batch(make_split: MakeSplit, images: int, world_size: int, shuffle: bool) -> None:
    split = make_split(images)

    def batches(**place: int) -> list[Tensor]:
        torch.manual_seed(42)
        return [images_BCHW for images_BCHW, _ in make_loader(split, 32, shuffle, **place)]

    ranks = [batches(rank=rank, world_size=world_size) for rank in range(world_size)]
    for whole, *slices in zip(batches(), *ranks, strict=True):
        assert torch.equal(torch.cat(slices), whole)
        sizes = {len(each) for each in slices}
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(("images", "source"), [(40, "fashion-mnist"), (0, "synthetic")])
def test_split_comes_back(tmp_path: Path, make_split: MakeSplit, images: int, source: str) -> None:
    split = make_split(images, source=source)
    save_split(tmp_path / "train.safetensors", split)
    loaded = load_split(tmp_path / "train.safetensors")
    assert torch.equal(loaded.images_NCHW, split.images_NCHW)
    assert torch.equal(loaded.labels_N, split.labels_N)
    assert (loaded.class_names, loaded.source, len(loaded)) == (CLASS_NAMES, source, images)


def test_split_of_colour_images(tmp_path: Path) -> None:
    images_NCHW = torch.arange(2 * 3 * 5 * 7, dtype=torch.uint8).reshape(2, 3, 5, 7)
    colours = replace(blank(2), images_NCHW=images_NCHW, data_set="pets", brought={"image_size": 7})
    save_split(tmp_path / "test.safetensors", colours)
    loaded = load_split(tmp_path / "test.safetensors")
    assert torch.equal(loaded.images_NCHW, images_NCHW)
    assert (loaded.image_shape, loaded.data_set, loaded.brought) == ((3, 5, 7), "pets", {"image_size": 7})


def test_split_of_one_class(tmp_path: Path) -> None:
    save_split(tmp_path / "test.safetensors", replace(blank(3), labels_N=torch.tensor([9, 9, 9])))
    assert load_split(tmp_path / "test.safetensors").labels_N.tolist() == [9, 9, 9]


def test_split_moves_to_a_device(make_split: MakeSplit) -> None:
    split = make_split(12)
    moved = split.to(torch.device("meta"))
    assert (moved.images_NCHW.device.type, moved.labels_N.device.type) == ("meta", "meta")
    assert (moved.class_names, moved.source) == (split.class_names, split.source)


@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_on_the_device_of_the_split(make_split: MakeSplit, shuffle: bool) -> None:
    (batch,) = make_loader(make_split(12).to(torch.device("meta")), 12, shuffle=shuffle)
    assert (batch.images_BCHW.device.type, batch.images_BCHW.shape) == ("meta", (12, 1, 28, 28))


def test_missing_split(tmp_path: Path) -> None:
    assert "is missing" in check_refused(tmp_path / "train.safetensors")


@pytest.mark.parametrize(
    "changes",
    [
        {"images": None},
        {"labels": None},
        {"class_names": None},
        {"source": None},
        {"class_names": 10},
        {"class_names": "0123456789"},
        {"source": 5},
        {"data_set": None},
        {"brought": None},
    ],
    ids=str,
)
def test_incomplete_split(tmp_path: Path, make_split: MakeSplit, changes: dict[str, object]) -> None:
    split = make_split(20)
    parts: dict[str, Any] = {
        "images": split.images_NCHW,
        "labels": split.labels_N,
        "class_names": list(CLASS_NAMES),
        "source": "synthetic",
        "data_set": "FashionMNIST",
        "brought": {},
        **changes,
    }
    tensors = {key: value for key, value in parts.items() if isinstance(value, Tensor)}
    about = {key: value for key, value in parts.items() if value is not None and key not in tensors}
    save_tensors(tmp_path / "train.safetensors", tensors, about)
    assert "does not hold images, labels" in check_refused(tmp_path / "train.safetensors")


@pytest.mark.parametrize(
    ("alter", "words"),
    [
        (lambda split: replace(split, images_NCHW=split.images_NCHW.float()), "uint8 images"),
        (lambda split: replace(split, images_NCHW=split.images_NCHW.to(torch.int8)), "uint8 images"),
        (lambda split: replace(split, images_NCHW=split.images_NCHW.squeeze(1)), "uint8 images"),
        (lambda split: replace(split, images_NCHW=split.images_NCHW[:19]), "uint8 images"),
        (lambda split: replace(split, labels_N=split.labels_N[:19]), "uint8 images"),
        (lambda split: replace(split, labels_N=split.labels_N.float()), "int64 labels"),
        (lambda split: replace(split, labels_N=split.labels_N.int()), "int64 labels"),
        (lambda split: replace(split, labels_N=split.labels_N[:, None]), "int64 labels"),
        (lambda split: replace(split, labels_N=torch.tensor(20)), "int64 labels"),
        (lambda split: replace(split, labels_N=split.labels_N + 1), "0 to 9"),
        (lambda split: replace(split, labels_N=split.labels_N - 1), "0 to 9"),
        (lambda split: replace(split, class_names=CLASS_NAMES[:9]), "0 to 8"),
        (lambda split: replace(split, class_names=()), "0 to -1"),
    ],
    ids=[
        *("float-images", "signed-images", "no-channel", "fewer-images", "fewer-labels", "float-labels"),
        *("int32-labels", "labels-in-columns", "one-label", "label-10", "label-below-0", "nine-classes", "no-classes"),
    ],
)
def test_something_else_in_place_of_a_split(
    tmp_path: Path, make_split: MakeSplit, alter: Callable[[Split], Split], words: str
) -> None:
    save_split(tmp_path / "train.safetensors", alter(make_split(20)))
    assert words in check_refused(tmp_path / "train.safetensors")


def test_label_beyond_the_classes(tmp_path: Path) -> None:
    save_split(tmp_path / "test.safetensors", replace(blank(2), labels_N=torch.tensor([3, 10])))
    assert "0 to 9" in check_refused(tmp_path / "test.safetensors")
