"""The changed images: what changes, and what stays."""

import math

import pytest
import torch

from stages.lib.data.datasets import Split
from stages.lib.learning.behaviour import changed_images
from tests.helpers import MakeSplit


@pytest.fixture
def split(make_split: MakeSplit) -> Split:
    return make_split(20)


def test_labels_shapes_and_types_stay(split: Split) -> None:
    for _, changed in changed_images(split):
        assert changed.labels_N is split.labels_N
        assert changed.images_NCHW.dtype == torch.uint8
        assert changed.images_NCHW.shape == split.images_NCHW.shape
        assert not torch.equal(changed.images_NCHW, split.images_NCHW)


def test_shifts_by_one_pixel(split: Split) -> None:
    changed, images = dict(changed_images(split)), split.images_NCHW
    right, down = (changed[f"a pixel {where}"].images_NCHW for where in ("to the right", "down"))
    assert torch.equal(right[..., 1:], images[..., :-1])
    assert torch.equal(down[..., 1:, :], images[..., :-1, :])
    assert right[..., 0].sum() == down[..., 0, :].sum() == 0


def test_mirrored_twice_is_as_before(split: Split) -> None:
    mirrored = dict(changed_images(split))["mirrored"]
    assert torch.equal(dict(changed_images(mirrored))["mirrored"].images_NCHW, split.images_NCHW)


def test_brightness() -> None:
    images = torch.tensor([0, 100, 171, 255], dtype=torch.uint8).reshape(1, 1, 2, 2)
    changed = dict(changed_images(Split(images, torch.zeros(1, dtype=torch.int64), ("Bag",), "synthetic")))
    assert changed["darker by half"].images_NCHW.flatten().tolist() == [0, 50, 85, 127]
    assert changed["brighter by half"].images_NCHW.flatten().tolist() == [0, 150, 255, 255]


def test_noise_of_a_tenth_of_the_range() -> None:
    """On black only what the noise adds is seen: half of a normal distribution with a deviation of 25."""
    black = Split(torch.zeros(50, 1, 28, 28, dtype=torch.uint8), torch.zeros(50).long(), ("Bag",), "synthetic")
    noise = dict(changed_images(black))["with noise"].images_NCHW.double()
    assert noise.mean() == pytest.approx(25 / math.sqrt(2 * math.pi), rel=0.02)
    assert noise.max() < 130


def test_same_noise_each_time(split: Split) -> None:
    torch.manual_seed(1)
    first = dict(changed_images(split))["with noise"].images_NCHW
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert torch.equal(dict(changed_images(split))["with noise"].images_NCHW, first)
    assert torch.equal(torch.get_rng_state(), state)
