"""Fetch the raw files of FashionMNIST, or draw synthetic ones instead.

Writes the four files of `data/raw`, each as published to the last byte. A download is 30 MB, once per user: it is kept
in the user's download cache. Takes seconds, or none if the files are there already.
"""

from argparse import ArgumentParser
from pathlib import Path

from stages.lib.base.errors import UserError, exit_cleanly
from stages.lib.base.files import sha256_of
from stages.lib.base.inputs import Inputs
from stages.lib.base.params import FetchParams, SyntheticParams, load_params
from stages.lib.base.versions import check_versions
from stages.lib.source.idx_sets import IDX_SETS, NAMES

RAW = Path("data/raw")


def main() -> None:
    """Fetch or draw, then say what there is."""
    ArgumentParser(prog="python -m stages.fetch", description="Fetch or draw the four files of raw data.").parse_args()
    params, inputs = load_params().fetch, Inputs("fetch")
    check_versions("numpy")
    origin = draw(params.synthetic) if params.source == "synthetic" else fetch(params)
    describe(origin)
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


def draw(params: SyntheticParams) -> str:
    """Draw the synthetic files into `data/raw`. Returns what they were drawn from.

    Raises:
        UserError: `data/raw` is a link: others may rely on the files that it leads to.
    """
    from stages.lib.source.synthetic import write_synthetic

    if RAW.is_symlink():
        where = RAW.resolve()
        raise UserError(f"{RAW} is a link, and drawn images would replace the files in {where}; remove the link first")
    write_synthetic(RAW, params.seed, params.train, params.test)
    return f"drawn with seed {params.seed}"


def describe(origin: str) -> None:
    """Print name, size and checksum of each file, and where they came from."""
    for name in NAMES:
        path = RAW / name
        print(f"{name:<28} {path.stat().st_size:>11,} bytes  sha256 {sha256_of(path)[:12]}")
    print(f"{RAW}: {origin}")


if __name__ == "__main__":
    exit_cleanly("fetch", main)
