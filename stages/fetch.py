"""Fetch the raw files of FashionMNIST or MNIST, or images of one's own, or draw synthetic ones instead.

Writes the four files of `data/raw`, each as published to the last byte. A download is 30 MB, once per user: it is kept
in the user's download cache. Takes seconds, or none if the files are there already. Images of one's own become one file
`data/raw/images.zip`.
"""

import os
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from stages.lib.base.errors import UserError, exit_cleanly
from stages.lib.base.files import copy, replacing, sha256_of
from stages.lib.base.inputs import Inputs
from stages.lib.base.params import FetchParams, ImagesParams, SyntheticParams, load_params
from stages.lib.base.versions import check_versions
from stages.lib.source.download import local_path, scheme_of, shown
from stages.lib.source.idx_sets import IDX_SETS, NAMES, PACKED

RAW = Path("data/raw")


def main() -> None:
    """Fetch or draw, then say what there is."""
    ArgumentParser(prog="python -m stages.fetch", description="Fetch or draw the raw data.").parse_args()
    inputs, params = Inputs("fetch"), load_params().fetch
    check_versions("numpy")
    check_link(params.source)
    names: Sequence[str] = NAMES
    if params.source == "images":
        names, origin = (PACKED,), take_images(params.images)
    else:
        origin = draw(params.synthetic) if params.source == "synthetic" else fetch(params)
    remove_others(names)
    describe(names, origin)
    inputs.check_unchanged()


def fetch(params: FetchParams) -> str:
    """Make sure the published files are in `data/raw`. Returns where they came from."""
    from stages.lib.source.mirrors import all_whole, fetch_from_mirrors, mirrors_in_order, variable_of

    data_set, variable = IDX_SETS[params.source], variable_of(params.source)
    if all_whole(data_set.files, RAW):
        return "whole already, nothing to fetch"
    # Files of the same names lie on the mirrors of params.yaml, which are those of FashionMNIST.
    mirrors = data_set.mirrors or params.mirrors
    return "fetched from " + fetch_from_mirrors(data_set.files, mirrors_in_order(mirrors, variable), RAW, variable)


def check_link(source: str) -> None:
    """Check that no files but published ones would go where a link leads to: others may rely on what is there.

    Raises:
        UserError: they would.
    """
    if RAW.is_symlink() and source not in IDX_SETS:
        where, what = RAW.resolve(), "drawn images" if source == "synthetic" else "your images"
        raise UserError(f"{RAW} is a link, and {what} would replace the files in {where}; remove the link first")


def draw(params: SyntheticParams) -> str:
    """Draw the synthetic files into `data/raw`. Returns what they were drawn from."""
    from stages.lib.source.synthetic import write_synthetic

    write_synthetic(RAW, params.seed, params.train, params.test)
    return f"drawn with seed {params.seed}"


def take_images(params: ImagesParams) -> str:
    """Pack the images of a folder or zip into `data/raw`. Returns where they came from.

    Raises:
        UserError: they are not there, or not those that params.yaml pins.
    """
    from stages.lib.source.image_sets import LOOK, PROJECT, changed, find_images, opened, pack, packed_checksum

    if not (params.path and params.sha256):
        raise UserError(f"fetch.source is images, but fetch.images does not say which; run `{LOOK} PATH`")
    project = Path(os.environ.get(PROJECT, "."))
    if packed_checksum(RAW / PACKED) == params.sha256:
        return "whole already, nothing to fetch"
    if PROJECT in os.environ and packed_checksum(project / RAW / PACKED) == params.sha256:
        copy(project / RAW / PACKED, RAW / PACKED)
        return f"taken from {project / RAW}"
    source = params.path if scheme_of(params.path) else str(project / local_path(params.path))
    with opened(source, RAW.with_name(".unpacked-images.tmp")) as folder, replacing(RAW / PACKED) as temporary:
        if pack(find_images(folder), temporary) != params.sha256:
            raise changed(params.path)
    return f"taken from {shown(params.path)}"


def remove_others(names: Sequence[str]) -> None:
    """Remove the files of other sources than the one that wrote `names`, which would be taken for part of it."""
    for name in {*NAMES, PACKED} - {*names}:
        if not RAW.is_symlink():
            (RAW / name).unlink(missing_ok=True)


def describe(names: Sequence[str], origin: str) -> None:
    """Print name, size and checksum of each file, and where they came from."""
    for name in names:
        path = RAW / name
        print(f"{name:<28} {path.stat().st_size:>11,} bytes  sha256 {sha256_of(path)[:12]}")
    print(f"{RAW}: {origin}")


if __name__ == "__main__":
    exit_cleanly("fetch", main)
