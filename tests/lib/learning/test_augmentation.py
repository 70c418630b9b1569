"""Images varied at random: what each kind does, and the same on any number of processes."""

import pytest
import torch
from torch import Tensor

from stages.lib.learning.augmentation import ERASED, SHIFT, VARY, Augmentation
from stages.lib.learning.distributed import World

IMAGES = 400


@pytest.fixture
def images_BCHW() -> Tensor:  # noqa: N802 - a fixture is called as its value
    """Images in two channels whose pixels all differ, none of them black."""
    return torch.arange(1, IMAGES * 2 * 20 * 16 + 1, dtype=torch.float32).reshape(IMAGES, 2, 20, 16)


def vary(images_BCHW: Tensor, *kinds: str, seed: int = 42, rank: int = 0, processes: int = 1) -> Tensor:
    slice_BCHW = images_BCHW.tensor_split(processes)[rank]
    return Augmentation(kinds, seed, World(rank, processes))(slice_BCHW, len(images_BCHW))


def test_nothing_to_vary(images_BCHW: Tensor) -> None:
    assert torch.equal(vary(images_BCHW), images_BCHW)


def test_flip_mirrors_every_other_image(images_BCHW: Tensor) -> None:
    varied = vary(images_BCHW, "flip")
    mirrored = (varied == images_BCHW.flip(3)).flatten(1).all(dim=1)
    assert torch.equal(varied[~mirrored], images_BCHW[~mirrored])
    assert 0.4 * IMAGES < int(mirrored.sum()) < 0.6 * IMAGES


def test_shift_moves_whole_images(images_BCHW: Tensor) -> None:
    seen = set()
    for before, after in zip(images_BCHW, vary(images_BCHW, "shift"), strict=True):
        (row, column) = (after[0] == before[0, 10, 8]).nonzero()[0].tolist()
        down, right = row - 10, column - 8
        seen.add((down, right))
        expected = torch.zeros_like(before)
        rows, columns = (slice(max(0, by), min(side, side + by)) for by, side in ((down, 20), (right, 16)))
        came_from = tuple(slice(max(0, -by), min(side, side - by)) for by, side in ((down, 20), (right, 16)))
        expected[:, rows, columns] = before[:, *came_from]
        assert torch.equal(after, expected)
    steps = range(-SHIFT, SHIFT + 1)
    assert seen == {(down, right) for down in steps for right in steps}


def test_erase_blackens_a_square_of_every_other_image(images_BCHW: Tensor) -> None:
    black = vary(images_BCHW, "erase") == 0
    erased = black.flatten(1).any(dim=1)
    assert 0.4 * IMAGES < int(erased.sum()) < 0.6 * IMAGES
    assert set(black[erased].flatten(1).sum(dim=1).tolist()) == {2 * ERASED**2}
    assert black[:, :, 0, 0].any()
    assert black[:, :, -1, -1].any()
    first_rows, first_columns = (black[erased, 0].any(dim=dim).int().argmax(dim=1) for dim in (2, 1))
    assert not torch.equal(first_rows, first_columns)  # squares lie beside the diagonal too


@pytest.mark.parametrize(("height", "width", "black"), [(8, 8, 16), (5, 20, 16), (2, 2, 1)])
def test_erase_leaves_most_of_a_small_image(height: int, width: int, black: int) -> None:
    erased = (vary(torch.ones(IMAGES, 1, height, width), "erase") == 0).flatten(1).sum(dim=1)
    assert set(erased.tolist()) == {0, black}


@pytest.mark.parametrize("kind", VARY)
def test_same_seed_same_images(images_BCHW: Tensor, kind: str) -> None:
    assert torch.equal(vary(images_BCHW, kind), vary(images_BCHW, kind))
    assert not torch.equal(vary(images_BCHW, kind), vary(images_BCHW, kind, seed=43))


def test_processes_share_a_batch(images_BCHW: Tensor) -> None:
    kinds = ["flip", "shift", "erase"]
    together = [vary(images_BCHW, *kinds, rank=rank, processes=3) for rank in range(3)]
    assert torch.equal(torch.cat(together), vary(images_BCHW, *kinds))


def test_no_image_in_a_slice(images_BCHW: Tensor) -> None:
    assert len(vary(images_BCHW[:1], "flip", "shift", "erase", rank=1, processes=2)) == 0
