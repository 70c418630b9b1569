"""The prepared images as the lecture's `datasets.FashionMNIST(..., transform=ToTensor())` shows them."""

from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from stages.lib.data.datasets import load_split


class FashionMNIST(Dataset[tuple[Tensor, int]]):
    """Images and labels of one split: an item is a float32 image `[1, 28, 28]` in [0, 1] and its label.

    Attributes:
        data: uint8 images `[N, 28, 28]`.
        targets: int64 labels `[N]`.
        classes: the names that the labels stand for.
        source: fashion-mnist or synthetic.
    """

    def __init__(self, train: bool, folder: str | Path = "data/prepared") -> None:
        """Read the training or the test images that `make run` has prepared in `folder`."""
        split = load_split(Path(folder) / ("train.safetensors" if train else "test.safetensors"))
        self.data = split.images_N1HW.squeeze(1)
        self.targets = split.labels_N
        self.classes = list(split.class_names)
        self.source = split.source

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, int]]:
        """Return the images of one batch, which a DataLoader asks for. One read is faster than one for each image."""
        index = torch.tensor(indices)
        images = self.data[index].unsqueeze(1) / 255
        return list(zip(images, self.targets[index].tolist(), strict=True))
