"""Prepare the data: check and read the raw files, split, describe and draw them.

Writes `data/prepared/{train,validation,test}.safetensors`, `metrics/data.json` and the pictures in `plots/data`.
Takes a few seconds; images of one's own some milliseconds each, shared by all CPUs.
"""

import math
import shutil
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.datasets import FashionMNIST

from stages.lib import plots
from stages.lib.base.errors import UserError, exit_at_once, exit_cleanly
from stages.lib.base.files import sha256_of, write_json
from stages.lib.base.inputs import Inputs
from stages.lib.base.params import ImagesParams, Params, PrepareParams, load_params
from stages.lib.base.versions import check_versions
from stages.lib.data.datasets import Split, make_loader, save_split
from stages.lib.data.splitting import hold_out, part_of_each_class, repeated_images, shared_images
from stages.lib.source.idx import map_idx, unpack_images, unpack_labels
from stages.lib.source.idx_sets import (
    FASHION_MNIST,
    IDX_SETS,
    NAMES,
    PACKED,
    TEST_IMAGES,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
)
from stages.lib.source.image_sets import TEST, layout_of, packed_images
from stages.lib.source.pictures import decode_packed

RAW = Path("data/raw")
PREPARED = Path("data/prepared")
BATCH_SIZE = 32  # the lecture's, for the counts and the picture; each model has its own in params.yaml


def main() -> None:
    """Read, split, describe, draw."""
    ArgumentParser(prog="python -m stages.prepare", description="Read, check and split the images.").parse_args()
    inputs, params = Inputs("prepare"), load_params()
    check_versions("matplotlib", "numpy", "pillow", "safetensors", "scikit-learn", "torch", "torchvision")
    with raw_images(params) as (train, test, checksums):
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
    print(f"prepared {counts} images of {train.called}")
    for name in ("test", "validation"):
        if shared := description["shared_images"][f"train_{name}"]:
            print(f"prepare: warning: {shared} {name} images are in the training set too", file=sys.stderr)
    if copies := description.get("test_copies"):
        what = "intervals and tests take them for images of their own, and say more than is known"
        print(f"prepare: warning: {copies} test images are copies of others: {what}", file=sys.stderr)


@contextmanager
def raw_images(params: Params) -> Iterator[tuple[Split, Split, dict[str, str]]]:
    """Yield the training and the test images, mapped into memory, and the sha256 checksum of each raw file."""
    source = params.fetch.source
    if source == "images":
        with decoded_images(params.fetch.images, params.prepare) as (train, test):
            yield train, test, {PACKED: sha256_of(RAW / PACKED)}
    else:
        with unpacked_files() as root:
            checksums = check_source(source)
            yield read(root, source, train=True), read(root, source, train=False), checksums


@contextmanager
def decoded_images(pinned: ImagesParams, params: PrepareParams) -> Iterator[tuple[Split, Split]]:
    """Bring the images of one's own to one shape, in files mapped into memory: how many there are costs no memory.

    Raises:
        UserError: the images are not those that params.yaml pins, or one cannot be read.
    """
    root = empty_folder()
    root.mkdir(parents=True)
    brought = params.model_dump(include={"image_size", "channels", "fit"})
    shape = (params.channels, params.image_size, params.image_size)
    try:
        with packed_images(RAW / PACKED) as archive:
            names = archive.namelist()
            layout = layout_of(names)
            parts, labels = zip(*map(layout.part_and_label, names), strict=True)
            labels_N = torch.tensor(labels)
            tested_N = torch.tensor([part == TEST for part in parts])
            if not layout.is_split:
                tested_N = part_of_each_class(labels_N, pinned.test, params.seed)
            order_N = tested_N.int().argsort(stable=True)  # training images first, so that both sets are one piece
            images_NCHW = np.memmap(root / "images", dtype=np.uint8, mode="w+", shape=(len(names), *shape))
            checksum = decode_packed(archive, images_NCHW, order_N.argsort().tolist(), brought)
        if checksum != pinned.sha256:
            raise UserError(f"{RAW / PACKED} holds other images than fetch.images.sha256 says; run `dvc repro fetch`")
        images, labels_N, count = torch.from_numpy(images_NCHW), labels_N[order_N], int((~tested_N).sum())
        about = (layout.class_names, "images", pinned.name, brought)
        train, test = (Split(images[part], labels_N[part], *about) for part in (slice(count), slice(count, None)))
        yield train, test
    finally:
        shutil.rmtree(root, ignore_errors=True)


def empty_folder() -> Path:
    """Return a folder for what is unpacked: always of the same name, so that a rerun clears what a crash has left."""
    root = PREPARED.with_name(".unpacked.tmp")
    shutil.rmtree(root, ignore_errors=True)
    return root


@contextmanager
def unpacked_files() -> Iterator[Path]:
    """Check the raw files and decompress them where torchvision looks for them below the folder given.

    Raises:
        UserError: a file is missing or damaged, or there are not as many labels as images.
    """
    root = empty_folder()
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
    copies = repeated_images(test)
    return {
        "source": train.source,
        **({"data_set": train.data_set} if train.called == train.data_set else {}),
        "sha256": checksums,
        # Which of one's own images are tested on depends on parameters too; published sets bring theirs.
        **({"test_sha256": checksum_of(test)} if test.source == "images" else {}),
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
        **({"test_copies": copies} if copies else {}),
    }


def checksum_of(split: Split) -> str:
    """Return the sha256 checksum of the images and labels of a split."""
    total = sha256(split.images_NCHW.numpy().data)
    total.update(split.labels_N.numpy().data)
    return total.hexdigest()


def pixel_counts(split: Split) -> torch.Tensor:
    """Count how often each value occurs, float64 `[256]`. In parts: `bincount` widens what it counts."""
    at_once = max(1, 1_000_000 // math.prod(split.image_shape))
    parts = [part.flatten().bincount(minlength=256) for part in split.images_NCHW.split(at_once)]
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
    first = plots.first_image(train.images_NCHW[0], names[train.labels_N[0]], train.shown_as)
    plots.save(first, "plots/data/first_image.png")

    torch.manual_seed(seed)
    picks = [int(torch.randint(0, len(train), size=[1])) for _ in range(16)]
    titles = [plots.short(names[train.labels_N[pick]]) for pick in picks]
    grid = plots.image_grid(
        train.images_NCHW[picks], titles, "Sixteen random training images", train.shown_as, columns=4
    )
    plots.save(grid, "plots/data/grid.png")

    batch = next(iter(make_loader(train, BATCH_SIZE, shuffle=True)))
    torch.manual_seed(seed)
    pick = int(torch.randint(0, len(batch.labels_B), size=[1]))
    title = f"{plots.short(names[batch.labels_B[pick]])}, no. {pick + 1} of {len(batch.labels_B)}"
    one = plots.image_grid([batch.images_BCHW[pick] * 255], [title], "From the first batch", train.shown_as, columns=1)
    plots.save(one, "plots/data/first_batch.png")


if __name__ == "__main__":
    exit_cleanly("prepare", main)
    exit_at_once()
