"""The prepared images, and loaders that read a whole batch at a time.

Shapes: N images, B images of one batch, 1 channel, H = W = 28.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from stages.lib.distributed import ALONE, World
from stages.lib.errors import UserError
from stages.lib.tensors import load_tensors, save_tensors


class Batch(NamedTuple):
    """One batch, or this process's slice of it: float32 images `[B, 1, 28, 28]` in [0, 1] and int64 labels `[B]`."""

    images_B1HW: Tensor
    labels_B: Tensor
    size: int  # of the whole batch


@dataclass(frozen=True)
class Split:
    """One split of the data: uint8 images `[N, 1, 28, 28]`, int64 labels `[N]`, and what they are."""

    images_N1HW: Tensor
    labels_N: Tensor
    class_names: tuple[str, ...]
    source: str  # fashion-mnist or synthetic

    def __len__(self) -> int:
        return len(self.labels_N)

    def to(self, device: torch.device) -> "Split":
        """The same split in the memory of `device`."""
        return Split(self.images_N1HW.to(device), self.labels_N.to(device), self.class_names, self.source)


def save_split(path: str | Path, split: Split) -> None:
    """Write a split as safetensors."""
    about: dict[str, Any] = {"class_names": list(split.class_names), "source": split.source}
    save_tensors(path, {"images": split.images_N1HW, "labels": split.labels_N}, about)


def load_split(path: str | Path) -> Split:
    """Read a split, memory-mapped.

    Raises:
        UserError: the file is missing, damaged, or holds something else.
    """
    tensors, about = load_tensors(path)
    try:
        images_N1HW, labels_N = tensors["images"], tensors["labels"]
        class_names, source = about["class_names"], about["source"]
    except KeyError as key:
        raise UserError(f"{path} has no {key}; run `dvc repro prepare` to make it again") from None
    if labels_N.dtype != torch.int64 or labels_N.ndim != 1:
        raise UserError(f"{path} does not hold int64 labels [N]; run `dvc repro prepare`")
    if images_N1HW.dtype != torch.uint8 or images_N1HW.shape != (len(labels_N), 1, 28, 28):
        raise UserError(f"{path} does not hold uint8 images [N, 1, 28, 28]; run `dvc repro prepare`")
    if not isinstance(class_names, list) or not isinstance(source, str):
        raise UserError(f"{path} does not name its classes and its source; run `dvc repro prepare`")
    if len(labels_N) and not 0 <= int(labels_N.min()) <= int(labels_N.max()) < len(class_names):
        raise UserError(f"{path} has labels outside 0 to {len(class_names) - 1}; run `dvc repro prepare`")
    return Split(images_N1HW, labels_N, tuple(class_names), source)


Slice = tuple[Tensor, int]  # int64 indices [B] of what we read of a batch, and the size of the whole batch


class ImageBatches(Dataset[Batch]):
    """Reads batches, not images."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def __getitem__(self, part: Slice) -> Batch:
        index_B, size = part
        images_B1HW = self.split.images_N1HW.index_select(0, index_B) / 255  # in float32, as ToTensor
        return Batch(images_B1HW, self.split.labels_N.index_select(0, index_B), size)


class BatchIndices(Sampler[Slice]):
    """Gives the indices of one batch after the other, on `device`: ours, where several processes share each batch.

    Shuffled, it draws from the global generator exactly as PyTorch's RandomSampler does, one seed for each pass, so
    that the same seed gives the same batches as `DataLoader(dataset, batch_size, shuffle=True)`.
    """

    def __init__(self, images: int, batch_size: int, shuffle: bool, device: torch.device, world: World) -> None:
        self.images = images
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.device = device
        self.world = world

    def __len__(self) -> int:
        return -(-self.images // self.batch_size)

    def __iter__(self) -> Iterator[Slice]:
        if self.shuffle:
            seed = int(torch.empty((), dtype=torch.int64).random_().item())
            order_N = torch.randperm(self.images, generator=torch.Generator().manual_seed(seed))
        else:
            order_N = torch.arange(self.images)
        order_N = order_N.to(self.device)
        for first in range(0, self.images, self.batch_size):
            index_B = order_N[first : first + self.batch_size]
            yield self.world.share_of(index_B), len(index_B)


def make_loader(split: Split, batch_size: int, shuffle: bool = False, world: World = ALONE) -> DataLoader[Batch]:
    """A loader over `split`, on the device that holds it. The last batch may be short.

    The loader itself draws one number from the global generator for each pass, as every DataLoader does.
    """
    indices = BatchIndices(len(split), batch_size, shuffle, split.labels_N.device, world)
    # batch_size=None: the sampler's items are whole batches, nothing is left to collate.
    return DataLoader(ImageBatches(split), sampler=indices, batch_size=None, collate_fn=_as_it_is)


def _as_it_is(batch: Any) -> Any:
    return batch
