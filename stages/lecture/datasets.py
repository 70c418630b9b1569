"""The prepared images under the lecture's `datasets.FashionMNIST`, with torchvision's arguments."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.utils.data import Dataset
from torchvision.transforms import ToTensor

from stages.lib.data.datasets import load_split

WHOLE = {True: 60_000, False: 10_000}  # images of FashionMNIST, to train on and to test on
TO_TENSOR = ToTensor()  # a PIL image becomes float32 `[1, 28, 28]` in [0, 1]


class FashionMNIST(Dataset[tuple[Any, Any]]):
    """Images and labels of one split: an item is a float32 image `[1, 28, 28]` in [0, 1] and its label.

    Attributes:
        data: uint8 images `[N, 28, 28]`.
        targets: int64 labels `[N]`.
        classes: the names that the labels stand for.
        source: fashion-mnist, or what else `fetch.source` names.
    """

    def __init__(
        self,
        root: str | Path = "data",
        train: bool = True,
        transform: Callable[[Image.Image], Any] | None = TO_TENSOR,
        target_transform: Callable[[int], Any] | None = None,
        download: bool = False,  # noqa: ARG002 - the lecture gives it
    ) -> None:
        """Read the images that `make run` has prepared; say on stderr where they are not all of FashionMNIST.

        Args:
            root: they lie in its folder `prepared`.
            train: the training images; else the test images.
            transform: what makes an item of a PIL image. None leaves it as it is.
            target_transform: what makes something else of a label.
            download: without effect, as the pipeline downloads.
        """
        path = Path(root) / "prepared" / ("train.safetensors" if train else "test.safetensors")
        split = load_split(path)
        if (split.source, len(split)) != ("fashion-mnist", WHOLE[train]):
            what = f"{path} holds {len(split):,} images of {split.called}, not the {WHOLE[train]:,} of FashionMNIST"
            print(f"warning: {what}: fetch.source and prepare in params.yaml say so", file=sys.stderr)
        self.data = split.images_NCHW.squeeze(1)
        self.targets = split.labels_N
        self.classes = list(split.class_names)
        self.source = split.source
        self.transform = transform
        self.target_transform = target_transform

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[tuple[Any, Any]]:
        """Return the images of one batch, which a DataLoader asks for. One read is faster than one for each image."""
        index = torch.tensor(indices)
        pixels, labels = self.data[index], self.targets[index].tolist()
        images: Any
        if isinstance(self.transform, ToTensor):
            images = pixels.unsqueeze(1) / 255  # the same bits
        else:
            pictures = [Image.fromarray(image.numpy()) for image in pixels]
            images = [self.transform(picture) for picture in pictures] if self.transform else pictures
        return list(zip(images, map(self.target_transform, labels) if self.target_transform else labels, strict=True))
