"""The prepared images, and loaders that read a whole batch at a time.

Shapes: N images, B images of one batch, C channels, H x W pixels.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from stages.lib.base.errors import Outdated
from stages.lib.base.tensors import load_tensors, save_tensors


class Batch(NamedTuple):
    """One batch, or this process's slice of it: float32 images `[B, C, H, W]` in [0, 1] and int64 labels `[B]`."""

    images_BCHW: Tensor
    labels_B: Tensor


@dataclass(frozen=True)
class Split:
    """One split of the data: uint8 images `[N, C, H, W]`, int64 labels `[N]`, and what they are."""

    images_NCHW: Tensor
    labels_N: Tensor
    class_names: tuple[str, ...]
    source: str  # fetch.source
    data_set: str = "FashionMNIST"  # its name for people
    # How pictures were brought to this shape (image_size, channels, fit); empty where they were published in it.
    brought: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels_N)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of every image."""
        _, channels, height, width = self.images_NCHW.shape
        return channels, height, width

    @property
    def shown_as(self) -> str:
        """What titles of pictures call the images: drawn ones `synthetic`, others by the name of their data set."""
        return self.source if self.source == "synthetic" else self.data_set

    @property
    def called(self) -> str:
        """What lines of text call the images: by their data set, those of FashionMNIST and drawn ones by the source."""
        return self.source if self.data_set == "FashionMNIST" else self.data_set

    def to(self, device: torch.device) -> "Split":
        """Return the split in the memory of `device`."""
        return replace(self, images_NCHW=self.images_NCHW.to(device), labels_N=self.labels_N.to(device))


def save_split(path: str | Path, split: Split) -> None:
    """Write a split as safetensors."""
    save_tensors(path, {"images": split.images_NCHW, "labels": split.labels_N}, about_data(split))


def about_data(split: Split) -> dict[str, Any]:
    """Return what the images of a split are, as it is written into files of images and of models."""
    return {
        "class_names": list(split.class_names),
        "source": split.source,
        "data_set": split.data_set,
        "brought": split.brought,
    }


def load_split(path: str | Path) -> Split:
    """Read a split, memory-mapped.

    Raises:
        UserError: the file is missing, damaged, or holds something else.
    """
    tensors, about = load_tensors(path)
    match {**tensors, **about}:
        case {
            "images": Tensor() as images_NCHW,
            "labels": Tensor() as labels_N,
            "class_names": [*names],
            "source": str(source),
            "data_set": str(data_set),
            "brought": dict(brought),
        }:
            pass
        case _:
            raise Outdated(path, "does not hold images, labels, class names and where they are from")
    if labels_N.dtype != torch.int64 or labels_N.ndim != 1:
        raise Outdated(path, "does not hold int64 labels [N]")
    if images_NCHW.dtype != torch.uint8 or images_NCHW.ndim != 4 or len(images_NCHW) != len(labels_N):
        raise Outdated(path, "does not hold uint8 images [N, C, H, W]")
    if len(labels_N) and not 0 <= int(labels_N.min()) <= int(labels_N.max()) < len(names):
        raise Outdated(path, f"has labels outside 0 to {len(names) - 1}")
    return Split(images_NCHW, labels_N, tuple(names), source, data_set, brought)


class ImageBatches(Dataset[Batch]):
    """Reads batches, not images: one indexed read for each."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def __getitem__(self, index_B: Tensor) -> Batch:
        images_BCHW = self.split.images_NCHW.index_select(0, index_B) / 255  # in float32, as ToTensor
        return Batch(images_BCHW, self.split.labels_N.index_select(0, index_B))


class BatchIndices(Sampler[Tensor]):
    """Yields the int64 indices `[B]` of each batch, on `device`; with several processes, the slice of this rank.

    Shuffled, it draws from the global generator exactly as PyTorch's RandomSampler does, one seed for each pass, so
    that the same seed gives the same batches as `DataLoader(dataset, batch_size, shuffle=True)`.
    """

    def __init__(
        self, images: int, batch_size: int, shuffle: bool, device: torch.device, rank: int, world_size: int
    ) -> None:
        self.images = images
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.device = device
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        return len(batch_sizes(self.images, self.batch_size))

    def __iter__(self) -> Iterator[Tensor]:
        if self.shuffle:
            seed = int(torch.empty((), dtype=torch.int64).random_().item())
            order_N = torch.randperm(self.images, generator=torch.Generator().manual_seed(seed))
            if self.rank:
                torch.manual_seed(seed + self.rank)  # no process draws the same as another, in Dropout say
        else:
            order_N = torch.arange(self.images)
        order_N = order_N.to(self.device)
        for first in range(0, self.images, self.batch_size):
            index_B = order_N[first : first + self.batch_size]
            # Of more processes than images the last get none.
            yield index_B.tensor_split(self.world_size)[self.rank] if self.world_size > 1 else index_B


def make_loader(
    split: Split, batch_size: int, shuffle: bool = False, rank: int = 0, world_size: int = 1
) -> DataLoader[Batch]:
    """Return a loader over `split`, on the device that holds it. The last batch may be short.

    The loader itself draws one number from the global generator for each pass, as every DataLoader does.

    Args:
        split: the images.
        batch_size: images in each batch.
        shuffle: whether to draw a new order for each pass.
        rank: the number of this process, from 0; it reads its slice of each batch.
        world_size: how many processes share each batch.
    """
    indices = BatchIndices(len(split), batch_size, shuffle, split.labels_N.device, rank, world_size)
    # batch_size=None: the sampler's items are whole batches, nothing is left to collate.
    return DataLoader(ImageBatches(split), sampler=indices, batch_size=None, collate_fn=_as_it_is)


def batch_sizes(images: int, batch_size: int) -> list[int]:
    """Return the number of images in each batch: `batch_size`, and in the last what is left."""
    return [min(batch_size, images - first) for first in range(0, images, batch_size)]


def _as_it_is(batch: Any) -> Any:
    return batch
