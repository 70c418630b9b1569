"""Holding images out of a training set, and finding images that two splits share.

Shapes: N images, C channels, H x W pixels.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from stages.lib.base.errors import UserError
from stages.lib.data.datasets import Split


def hold_out(split: Split, count: int, seed: int, key: str = "prepare.validation") -> tuple[Split, Split]:
    """Take `count` images out of `split`, stratified by class and drawn from `seed`; both parts keep their order.

    Args:
        split: the images to take from.
        count: how many to take; 0 takes none.
        seed: whole number from 0.
        key: the parameter that `count` comes from, for the error.

    Returns:
        The images kept and the images held out; with `count` 0 the second is empty.

    Raises:
        UserError: so many would leave a class empty on either side.
    """
    everything = torch.arange(len(split))
    if not count:
        return split, _part(split, everything[:0])
    classes, counts = split.labels_N.unique(return_counts=True)
    if not len(classes) <= count <= len(split) - len(classes) or counts.min() < 2:
        raise _unfair(split, count, len(classes), key)
    from sklearn.model_selection import train_test_split  # 1.3 s to import: only where it is used

    kept, held_out = train_test_split(
        everything.numpy(), test_size=count, random_state=seed, stratify=split.labels_N.numpy()
    )
    kept.sort()
    held_out.sort()
    parts = _part(split, torch.from_numpy(kept)), _part(split, torch.from_numpy(held_out))
    if any(len(part.labels_N.unique()) < len(classes) for part in parts):  # a rare class is easily left out
        raise _unfair(split, count, len(classes), key)
    return parts


def part_of_each_class(labels_N: Tensor, part: float, seed: int) -> Tensor:
    """Choose `part` of the images of each class, at least one, drawn from `seed`. Returns bool `[N]`."""
    draw = torch.Generator().manual_seed(seed)
    chosen_N = torch.zeros(len(labels_N), dtype=torch.bool)
    for label in labels_N.unique():
        of_class = torch.nonzero(labels_N == label).flatten()
        order = torch.randperm(len(of_class), generator=draw)
        chosen_N[of_class[order[: max(1, math.floor(part * len(of_class)))]]] = True
    return chosen_N


def shared_images(first: Split, second: Split) -> int:
    """Count the images of `second` that are, byte for byte, in `first` too. Remembers `second`: give the smaller."""
    wanted = Counter(_digests(second.images_NCHW))
    return sum(wanted.pop(digest, 0) for digest in _digests(first.images_NCHW))


def repeated_images(split: Split) -> int:
    """Count the images that are, byte for byte, an earlier one of the same split."""
    return len(split) - len(set(_digests(split.images_NCHW)))


def _unfair(split: Split, count: int, classes: int, key: str) -> UserError:
    return UserError(
        f"{key} is {count}; of {len(split):,} images it must take 0, or {classes} to "
        f"{len(split) - classes:,}, so that every class is on both sides"
    )


def _part(split: Split, index: Tensor) -> Split:
    return replace(split, images_NCHW=split.images_NCHW[index], labels_N=split.labels_N[index])


def _digests(images_NCHW: Tensor) -> Iterator[bytes]:
    return (hashlib.blake2b(image, digest_size=16).digest() for image in images_NCHW.numpy())
