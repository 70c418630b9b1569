"""Holding images out, and finding those that two splits share."""

import pytest
import torch

from stages.lib.data.datasets import Split
from stages.lib.data.splitting import hold_out, part_of_each_class, repeated_images, shared_images
from stages.lib.source.idx_sets import CLASS_NAMES
from tests.helpers import MakeSplit, refusal


def rows(split: Split) -> list[tuple[int, ...]]:
    return [tuple(image) for image in split.images_NCHW.flatten(1).tolist()]


def with_labels(*labels: int) -> Split:
    """Images that tell their position by their first pixel."""
    images_NCHW = torch.zeros(len(labels), 1, 28, 28, dtype=torch.uint8)
    images_NCHW[:, 0, 0, 0] = torch.arange(len(labels))
    return Split(images_NCHW, torch.tensor(labels), CLASS_NAMES, "synthetic")


def test_nothing_to_hold_out(make_split: MakeSplit) -> None:
    split = make_split(100)
    kept, held_out = hold_out(split, 0, seed=42)
    assert torch.equal(kept.images_NCHW, split.images_NCHW)
    assert held_out.images_NCHW.shape == (0, 1, 28, 28)
    assert (len(kept), len(held_out), held_out.class_names, held_out.source) == (100, 0, CLASS_NAMES, "synthetic")


@pytest.mark.parametrize("count", [10, 37, 60, 290])
def test_every_image_in_one_part(make_split: MakeSplit, count: int) -> None:
    split = make_split(300)
    place = {image: index for index, image in enumerate(rows(split))}
    assert len(place) == 300
    kept, held_out = hold_out(split, count, seed=42)
    assert (len(kept), len(held_out)) == (300 - count, count)
    places = [[place[image] for image in rows(part)] for part in (kept, held_out)]
    assert sorted(places[0] + places[1]) == list(range(300))
    for part, found in zip((kept, held_out), places, strict=True):
        assert found == sorted(found)
        assert part.labels_N.tolist() == split.labels_N[found].tolist()
        assert (part.class_names, part.source) == (split.class_names, split.source)


def test_classes_in_proportion(make_split: MakeSplit) -> None:
    _, held_out = hold_out(make_split(300), 60, seed=42)
    assert held_out.labels_N.bincount().tolist() == [6] * 10


def test_seed_decides(make_split: MakeSplit) -> None:
    split = make_split(300)
    parts = [tuple(rows(hold_out(split, 60, seed)[1])) for seed in (42, 42, 43)]
    assert parts[0] == parts[1] != parts[2]


def test_global_generator_is_left_alone(make_split: MakeSplit) -> None:
    torch.manual_seed(42)
    before = torch.get_rng_state()
    hold_out(make_split(300), 60, seed=7)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("count", [1, 9, 91, 100, 101, 10_000])
def test_count_that_empties_a_class(make_split: MakeSplit, count: int) -> None:
    message = refusal(hold_out, make_split(100), count, 42)
    assert message.startswith(f"prepare.validation is {count}; ")
    assert "10 to 90" in message


@pytest.mark.parametrize("labels", [[0] * 20 + [1], [0, 1], [0] * 500 + [1] * 2], ids=["one", "each-one", "rare"])
def test_too_few_images_of_a_class(labels: list[int]) -> None:
    assert refusal(hold_out, with_labels(*labels), 2, 42).startswith("prepare.validation is 2; ")


def test_two_images_of_each_class() -> None:
    kept, held_out = hold_out(with_labels(0, 0, 1, 1), 2, seed=42)
    assert (kept.labels_N.tolist(), held_out.labels_N.tolist()) == ([0, 1], [0, 1])


@pytest.mark.parametrize(("pixel", "changed", "shared"), [((27, 27), 0, 10), ((27, 27), 7, 3), ((14, 14), 10, 0)])
def test_one_pixel_makes_another_image(pixel: tuple[int, int], changed: int, shared: int) -> None:
    first, second = with_labels(*range(10)), with_labels(*range(10))
    second.images_NCHW[:changed, 0, *pixel] = 1
    assert shared_images(first, second) == shared


def test_copies_in_the_second_split_count() -> None:
    first, second = with_labels(0), with_labels(0, 0, 0)
    second.images_NCHW[:] = first.images_NCHW
    assert (shared_images(first, second), shared_images(second, first)) == (3, 1)


def test_empty_split_shares_nothing(make_split: MakeSplit) -> None:
    assert shared_images(make_split(20), make_split(0)) == shared_images(make_split(0), make_split(20)) == 0


def test_copies_within_a_split() -> None:
    split = with_labels(0, 1, 2, 3)
    assert repeated_images(split) == 0
    split.images_NCHW[2:] = split.images_NCHW[0]
    assert repeated_images(split) == 2


def test_part_of_each_class() -> None:
    labels_N = torch.tensor([1] * 2 + [0] * 11 + [2] + [1] * 2)
    chosen_N = part_of_each_class(labels_N, 0.25, 42)
    assert (chosen_N.dtype, labels_N[chosen_N].bincount().tolist()) == (torch.bool, [2, 1, 1])


def test_part_is_drawn_from_its_seed() -> None:
    labels_N = torch.zeros(100, dtype=torch.int64)
    first, again, other = (part_of_each_class(labels_N, 0.5, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
