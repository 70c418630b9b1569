"""Prepare the data: check and read the raw files, split, describe and draw them.

Writes `data/prepared/{train,validation,test}.safetensors`, `metrics/data.json` and the pictures in `plots/data`.
Takes a few seconds.
"""

import shutil
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torchvision.datasets import FashionMNIST

from stages.lib import plots
from stages.lib.base.errors import UserError, exit_at_once, exit_cleanly
from stages.lib.base.files import sha256_of, write_json
from stages.lib.base.inputs import Inputs
from stages.lib.base.params import load_params
from stages.lib.base.versions import check_versions
from stages.lib.data.datasets import Split, make_loader, save_split
from stages.lib.data.splitting import hold_out, shared_images
from stages.lib.source.idx import map_idx, unpack_images, unpack_labels
from stages.lib.source.idx_sets import (
    FASHION_MNIST,
    IDX_SETS,
    NAMES,
    TEST_IMAGES,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
)

RAW = Path("data/raw")
PREPARED = Path("data/prepared")
BATCH_SIZE = 32  # the lecture's, for the counts and the picture; each model has its own in params.yaml


def main() -> None:
    """Read, split, describe, draw."""
    ArgumentParser(prog="python -m stages.prepare", description="Read, check and split the images.").parse_args()
    params, inputs = load_params(), Inputs("prepare")
    check_versions("matplotlib", "numpy", "pillow", "safetensors", "scikit-learn", "torch", "torchvision")
    with unpacked_files() as root:
        checksums = check_source(params.fetch.source)
        train = read(root, params.fetch.source, train=True)
        test = read(root, params.fetch.source, train=False)
        kept, held_out = hold_out(train, params.prepare.validation, params.prepare.seed)
        if params.prepare.train_images:
            _, kept = hold_out(kept, params.prepare.train_images, params.prepare.seed, "prepare.train_images")
        splits = {"train": kept, "validation": held_out, "test": test}
        check_classes(splits)

        for name, split in splits.items():
            save_split(PREPARED / f"{name}.safetensors", split)
        description = describe(splits, checksums)
        draw(kept, params.prepare.seed)
    write_json("metrics/data.json", description)
    inputs.check_unchanged()

    counts = ", ".join(f"{count:,} {name}" for name, count in description["counts"].items())
    print(f"prepared {counts} images of {train.source}")
    shared = description["shared_images"]["train_test"]
    if shared:
        print(f"prepare: warning: {shared} test images are in the training set too", file=sys.stderr)


@contextmanager
def unpacked_files() -> Iterator[Path]:
    """Check the raw files and decompress them where torchvision looks for them below the folder given.

    Raises:
        UserError: a file is missing or damaged, or there are not as many labels as images.
    """
    root = PREPARED.with_name(".unpacked.tmp")  # always the same name: a rerun clears what a crash has left
    shutil.rmtree(root, ignore_errors=True)
    target = root / MappedFashionMNIST.__name__ / "raw"
    try:
        for images_name, labels_name in ((TRAIN_IMAGES, TRAIN_LABELS), (TEST_IMAGES, TEST_LABELS)):
            images = unpack_images(RAW / images_name, target / Path(images_name).stem)
            labels = unpack_labels(RAW / labels_name, target / Path(labels_name).stem)
            if images != labels:
                raise UserError(
                    f"{RAW / images_name} holds {images:,} images but {RAW / labels_name} {labels:,} labels; "
                    "delete both and run `dvc repro fetch`"
                )
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


def check_source(source: str) -> dict[str, str]:
    """Return the sha256 checksum of each raw file, after a check that they come from where params.yaml says.

    Raises:
        UserError: published files are called drawn, or drawn or edited ones published.
    """
    checksums = {name: sha256_of(RAW / name) for name in NAMES}
    published = {file.sha256: key for key, data_set in IDX_SETS.items() for file in data_set.files}
    for name, checksum in checksums.items():
        found = published.get(checksum, "synthetic")
        if found != source:
            what = IDX_SETS[found].name if found in IDX_SETS else "not the published file"
            raise UserError(
                f"{RAW / name} is {what}, but fetch.source is {source}; run `dvc repro fetch`, and "
                "`dvc unfreeze fetch` before it if that stage is frozen"
            )
    return checksums


class MappedFashionMNIST(FashionMNIST):  # type: ignore[misc]  # torchvision has no types
    """torchvision's FashionMNIST, its files read by us: mapped into memory, pages are read when they are touched."""

    def _load_data(self) -> tuple[torch.Tensor, torch.Tensor]:
        split = "train" if self.train else "t10k"
        images_NHW = map_idx(Path(self.raw_folder) / f"{split}-images-idx3-ubyte")
        labels_N = map_idx(Path(self.raw_folder) / f"{split}-labels-idx1-ubyte")
        return torch.from_numpy(images_NHW), torch.from_numpy(labels_N).long()


def read(root: Path, source: str, train: bool) -> Split:
    """Read the training or the test images with torchvision."""
    dataset = MappedFashionMNIST(root, train=train)
    known = IDX_SETS.get(source, FASHION_MNIST)  # the garments that are drawn are its ten
    return Split(dataset.data.unsqueeze(1), dataset.targets, known.class_names, source, known.name)


def check_classes(splits: dict[str, Split]) -> None:
    """Refuse a training or test set without a single image of some class.

    Raises:
        UserError: names the split and the classes.
    """
    for name, split in splits.items():
        absent = [split.class_names[index] for index, count in enumerate(class_counts(split)) if not count]
        if absent and (name != "validation" or len(split)):
            raise UserError(f"the {name} images hold none of: {', '.join(absent)}; delete data/raw and fetch again")


def describe(splits: dict[str, Split], checksums: dict[str, str]) -> dict[str, Any]:
    """Describe the data; mean and standard deviation are those of the training pixels in [0, 1]."""
    train, validation, test = splits["train"], splits["validation"], splits["test"]
    pixels = pixel_counts(train)
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = (pixels @ values) / pixels.sum()
    return {
        "source": train.source,
        **({} if train.data_set == FASHION_MNIST.name else {"data_set": train.data_set}),
        "sha256": checksums,
        "counts": {name: len(split) for name, split in splits.items()},
        "shape": list(train.images_NCHW.shape[1:]),
        "batch_size": BATCH_SIZE,
        "batches": {name: len(make_loader(split, BATCH_SIZE)) for name, split in splits.items()},
        "per_class": {
            name: dict(zip(split.class_names, class_counts(split), strict=True)) for name, split in splits.items()
        },
        "mean": mean.item(),
        "std": ((pixels @ (values - mean) ** 2) / pixels.sum()).sqrt().item(),
        "shared_images": {
            "train_test": shared_images(train, test),
            "train_validation": shared_images(train, validation),
        },
    }


def pixel_counts(split: Split) -> torch.Tensor:
    """Count how often each grey value occurs, float64 `[256]`. In parts: `bincount` widens what it counts."""
    parts = [part.flatten().bincount(minlength=256) for part in split.images_NCHW.split(1000)]
    return torch.stack(parts).sum(dim=0).double()


def class_counts(split: Split) -> list[int]:
    """Count the images of each class."""
    counts: list[int] = split.labels_N.bincount(minlength=len(split.class_names)).tolist()
    return counts


def draw(train: Split, seed: int) -> None:
    """Draw the lecture's pictures: the first image, sixteen random ones, one of the first shuffled batch.

    The order of the random draws is the lecture's, so that seed 42 shows its images.
    """
    names = train.class_names
    images_NHW = train.images_NCHW.squeeze(1)
    first = plots.first_image(images_NHW[0], names[train.labels_N[0]], train.source)
    plots.save(first, "plots/data/first_image.png")

    torch.manual_seed(seed)
    picks = [int(torch.randint(0, len(train), size=[1])) for _ in range(16)]
    titles = [names[train.labels_N[pick]] for pick in picks]
    grid = plots.image_grid(images_NHW[picks], titles, "Sixteen random training images", train.source, columns=4)
    plots.save(grid, "plots/data/grid.png")

    batch = next(iter(make_loader(train, BATCH_SIZE, shuffle=True)))
    torch.manual_seed(seed)
    pick = int(torch.randint(0, len(batch.labels_B), size=[1]))
    title = f"{names[batch.labels_B[pick]]}, no. {pick + 1} of {len(batch.labels_B)}"
    one = plots.image_grid(batch.images_BCHW[pick] * 255, [title], "From the first batch", train.source, columns=1)
    plots.save(one, "plots/data/first_batch.png")


if __name__ == "__main__":
    exit_cleanly("prepare", main)
    exit_at_once()
