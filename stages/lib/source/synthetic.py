"""Draw garments in place of FashionMNIST: the same four files, made without a network in seconds.

The bytes depend on the seed alone. Every chunk of images has a random generator of its own, so that an image stays the
same however many are drawn after it. 7,000 images take a second or two on one core, 600,000 some minutes; memory stays
the same for any number of them.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.lib.source.canvas import blank_sheet
from stages.lib.source.garments import GARMENTS
from stages.lib.source.idx import write_idx
from stages.lib.source.idx_sets import (
    CLASS_NAMES,
    IMAGE_SHAPE,
    TEST_IMAGES,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
)

# Shape suffixes: N images of one chunk, H x W pixels.

CHUNK = 1000  # images drawn at once, a tenth of them of each class
TRAIN, TEST = 0, 1  # which stream of random numbers


def write_synthetic(target: Path, seed: int, train: int, test: int) -> None:
    """Write FashionMNIST's four files with drawn garments into the folder `target`.

    The classes are as equal in number as they can be, in both sets and in every first part of them.

    Args:
        target: the folder to write to; made if it is missing.
        seed: whole number from 0.
        train: number of training images.
        test: number of test images, drawn from a separate stream of random numbers.
    """
    for split, count, images_name, labels_name in (
        (TRAIN, train, TRAIN_IMAGES, TRAIN_LABELS),
        (TEST, test, TEST_IMAGES, TEST_LABELS),
    ):
        write_idx(target / images_name, (count, *IMAGE_SHAPE[1:]), _image_chunks(seed, split, count))
        write_idx(target / labels_name, (count,), _label_chunks(seed, split, count))


def _image_chunks(seed: int, split: int, count: int) -> Iterator[NDArray[np.uint8]]:
    for number, first in enumerate(range(0, count, CHUNK)):
        rng = _generator(seed, split, number)
        yield _draw(_labels(rng), rng)[: count - first]


def _label_chunks(seed: int, split: int, count: int) -> Iterator[NDArray[np.uint8]]:
    for number, first in enumerate(range(0, count, CHUNK)):
        yield _labels(_generator(seed, split, number))[: count - first]


def _generator(seed: int, split: int, number: int) -> np.random.Generator:
    """Return the generator of one chunk, independent of all others."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(split, number)))


def _labels(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw `[CHUNK]` labels, every ten of them the ten classes in a random order: the first draw of a chunk."""
    classes = np.arange(len(CLASS_NAMES), dtype=np.uint8)
    return rng.permuted(np.tile(classes, (CHUNK // len(classes), 1)), axis=1).reshape(-1)


def _draw(labels_N: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw the garments `[N, 28, 28]` that the labels ask for."""
    images_NHW = np.empty((len(labels_N), *IMAGE_SHAPE[1:]), np.uint8)
    for label, draw in enumerate(GARMENTS):
        where = np.flatnonzero(labels_N == label)
        sheet = blank_sheet(rng, len(where))
        draw(sheet)
        images_NHW[where] = sheet.photograph()
    return images_NHW
