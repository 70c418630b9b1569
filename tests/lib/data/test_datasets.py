"""The prepared images and the batches that are read from them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from stages.lib.data.datasets import Split, load_split, make_loader, save_split
from stages.lib.base.errors import UserError
from stages.lib.source.fashion_mnist import CLASS_NAMES
from stages.lib.base.tensors import save_tensors


class OneByOne(Dataset[tuple[Tensor, int]]):
    """The images as the lecture reads them: one at a time, scaled on the way."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.split.images_N1HW[index].float() / 255, int(self.split.labels_N[index])


def blank(images: int) -> Split:
    return Split(
        torch.zeros(images, 1, 28, 28, dtype=torch.uint8), torch.zeros(images).long(), CLASS_NAMES, "synthetic"
    )


@pytest.mark.parametrize(
    ("images", "batch_size"), [(320, 32), (330, 32), (33, 32), (10, 32), (50, 1), (50, 7), (50, 50)]
)
def test_batches_are_those_of_pytorchs_own_loader_epoch_after_epoch(
    make_split: Callable[..., Split], images: int, batch_size: int
) -> None:
    train, test = make_split(images), make_split(77, seed=1)
    batches: list[list[tuple[Tensor, Tensor]]] = []
    for make in (make_loader, lambda split, size, shuffle=False: DataLoader(OneByOne(split), size, shuffle=shuffle)):
        torch.manual_seed(42)
        train_loader, test_loader = make(train, batch_size, shuffle=True), make(test, batch_size)
        seen = []
        for _ in range(3):  # the test loader between two epochs draws from the same generator
            seen += [(batch[0], batch[1]) for batch in train_loader]
            seen += [(batch[0], batch[1]) for batch in test_loader]
        seen.append((torch.get_rng_state(), torch.empty(0)))
        batches.append(seen)
    ours, theirs = batches
    assert len(ours) == len(theirs)
    for our, their in zip(ours, theirs, strict=True):
        assert our[0].dtype == their[0].dtype
        assert our[1].dtype == their[1].dtype
        assert torch.equal(our[0], their[0])
        assert torch.equal(our[1], their[1])


def test_the_loaders_of_fashion_mnist_have_the_lectures_lengths() -> None:
    assert len(make_loader(blank(60_000), 32, shuffle=True)) == 1875
    assert len(make_loader(blank(10_000), 32)) == 313


def test_the_first_batch_has_the_lectures_shapes_and_the_last_test_batch_has_16_images() -> None:
    train = next(iter(make_loader(blank(60_000), 32, shuffle=True)))
    assert (train[0].shape, train[1].shape) == ((32, 1, 28, 28), (32,))
    assert (train[0].dtype, train[1].dtype) == (torch.float32, torch.int64)
    *_, last = make_loader(blank(10_000), 32)
    assert last[0].shape == (16, 1, 28, 28)


def test_test_images_come_in_order_and_scaled_from_0_to_1(make_split: Callable[..., Split]) -> None:
    split = make_split(77)
    split.images_N1HW[0, 0, 0, :2] = torch.tensor([0, 255])
    batches = list(make_loader(split, 32))
    images_N1HW = torch.cat([batch[0] for batch in batches])
    assert torch.equal(torch.cat([batch[1] for batch in batches]), split.labels_N)
    assert torch.equal(images_N1HW, split.images_N1HW.float() / 255)
    assert (images_N1HW.min().item(), images_N1HW.max().item()) == (0.0, 1.0)


def test_a_shuffled_pass_gives_every_image_once(make_split: Callable[..., Split]) -> None:
    split = make_split(330)
    images_N1HW = torch.cat([batch[0] for batch in make_loader(split, 32, shuffle=True)])
    given = sorted((images_N1HW * 255).round().byte().flatten(1).tolist())
    assert given == sorted(split.images_N1HW.flatten(1).tolist())


def test_two_passes_differ_and_another_seed_gives_others(make_split: Callable[..., Split]) -> None:
    loader = make_loader(make_split(330), 330, shuffle=True)
    orders = []
    for seed in (42, 43):
        torch.manual_seed(seed)
        orders += [tuple(next(iter(loader))[0][:, 0, 0, 0].tolist()) for _ in range(2)]
    assert len(set(orders)) == 4


def test_reading_batches_leaves_the_images_as_they_are(make_split: Callable[..., Split]) -> None:
    split = make_split(40)
    before = split.images_N1HW.clone()
    for batch in make_loader(split, 32):
        batch[0].mul_(0)
    assert torch.equal(split.images_N1HW, before)


def test_an_empty_split_has_no_batches() -> None:
    loader = make_loader(blank(0), 32)
    assert (len(loader), list(loader)) == (0, [])


def test_a_split_comes_back_from_its_file(tmp_path: Path, make_split: Callable[..., Split]) -> None:
    split = make_split(40, source="fashion-mnist")
    save_split(tmp_path / "train.safetensors", split)
    loaded = load_split(tmp_path / "train.safetensors")
    assert torch.equal(loaded.images_N1HW, split.images_N1HW)
    assert torch.equal(loaded.labels_N, split.labels_N)
    assert (loaded.class_names, loaded.source, len(loaded)) == (CLASS_NAMES, "fashion-mnist", 40)


def test_an_empty_split_comes_back_from_its_file(tmp_path: Path) -> None:
    save_split(tmp_path / "validation.safetensors", blank(0))
    assert len(load_split(tmp_path / "validation.safetensors")) == 0


def test_moving_a_split_keeps_what_it_is(make_split: Callable[..., Split]) -> None:
    split = make_split(12)
    moved = split.to(torch.device("cpu"))
    assert torch.equal(moved.images_N1HW, split.images_N1HW)
    assert torch.equal(moved.labels_N, split.labels_N)
    assert (moved.class_names, moved.source) == (split.class_names, split.source)


def test_images_and_labels_of_a_split_move_to_a_device_together(make_split: Callable[..., Split]) -> None:
    moved = make_split(12).to(torch.device("meta"))
    assert (moved.images_N1HW.device.type, moved.labels_N.device.type) == ("meta", "meta")


@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_are_read_on_the_device_that_holds_the_split(make_split: Callable[..., Split], shuffle: bool) -> None:
    (batch,) = make_loader(make_split(12).to(torch.device("meta")), 12, shuffle=shuffle)
    assert (batch.images_B1HW.device.type, batch.images_B1HW.shape) == ("meta", (12, 1, 28, 28))


def test_a_split_of_one_class_comes_back_from_its_file(tmp_path: Path) -> None:
    save_split(tmp_path / "test.safetensors", replace(blank(3), labels_N=torch.tensor([9, 9, 9])))
    assert load_split(tmp_path / "test.safetensors").labels_N.tolist() == [9, 9, 9]


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_split(path)
    message = str(caught.value)
    assert message.startswith(f"{path} ")
    assert "`dvc repro" in message
    assert "\n" not in message
    return message


def test_a_missing_split_is_named(tmp_path: Path) -> None:
    assert "is missing" in refusal(tmp_path / "train.safetensors")


@pytest.mark.parametrize("missing", ["images", "labels", "class_names", "source"])
def test_a_file_that_lacks_something_is_refused(tmp_path: Path, make_split: Callable[..., Split], missing: str) -> None:
    split = make_split(20)
    tensors = {"images": split.images_N1HW, "labels": split.labels_N}
    about = {"class_names": list(CLASS_NAMES), "source": "synthetic"}
    tensors.pop(missing, None)
    about.pop(missing, None)
    save_tensors(tmp_path / "train.safetensors", tensors, about)
    assert f"has no '{missing}'" in refusal(tmp_path / "train.safetensors")


@pytest.mark.parametrize(
    "alter",
    [
        lambda split: replace(split, images_N1HW=split.images_N1HW.float()),
        lambda split: replace(split, images_N1HW=split.images_N1HW.to(torch.int8)),
        lambda split: replace(split, images_N1HW=split.images_N1HW.squeeze(1)),
        lambda split: replace(split, images_N1HW=split.images_N1HW[:, :, :27].contiguous()),
        lambda split: replace(split, images_N1HW=split.images_N1HW[:19]),
        lambda split: replace(split, labels_N=split.labels_N[:19]),
        lambda split: replace(split, labels_N=split.labels_N.float()),
        lambda split: replace(split, labels_N=split.labels_N.int()),
        lambda split: replace(split, labels_N=split.labels_N[:, None]),
        lambda split: replace(split, labels_N=torch.tensor(20)),
        lambda split: replace(split, labels_N=split.labels_N + 1),
        lambda split: replace(split, labels_N=split.labels_N - 1),
        lambda split: replace(split, class_names=CLASS_NAMES[:9]),
        lambda split: replace(split, class_names=()),
    ],
    ids=[
        "float-images",
        "signed-images",
        "no-channel",
        "not-square",
        "fewer-images",
        "fewer-labels",
        "float-labels",
        "int32-labels",
        "labels-in-columns",
        "one-label",
        "label-10",
        "label-below-0",
        "nine-classes",
        "no-classes",
    ],
)
def test_a_file_that_holds_something_else_is_refused(
    tmp_path: Path, make_split: Callable[..., Split], alter: Callable[[Split], Split]
) -> None:
    save_split(tmp_path / "train.safetensors", alter(make_split(20)))
    refusal(tmp_path / "train.safetensors")


def test_a_label_beyond_the_classes_is_refused_with_the_range_they_have(tmp_path: Path) -> None:
    save_split(tmp_path / "test.safetensors", replace(blank(2), labels_N=torch.tensor([3, 10])))
    assert "has labels outside 0 to 9;" in refusal(tmp_path / "test.safetensors")


@pytest.mark.parametrize(
    "about", [{"class_names": 10}, {"class_names": None}, {"class_names": "0123456789"}, {"source": 5}]
)
def test_a_file_that_misnames_what_it_holds_is_refused(
    tmp_path: Path, make_split: Callable[..., Split], about: dict[str, object]
) -> None:
    split = make_split(20)
    known = {"class_names": list(CLASS_NAMES), "source": "synthetic"}
    tensors = {"images": split.images_N1HW, "labels": split.labels_N}
    save_tensors(tmp_path / "train.safetensors", tensors, known | about)
    refusal(tmp_path / "train.safetensors")
