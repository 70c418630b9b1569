"""Fetch the raw files of FashionMNIST, or draw synthetic ones in their stead.

Writes the four files of `data/raw`, each as published to the last byte. A download is 30 MB, once per user: it is kept
in the user's download cache. Takes seconds, or none if the files are there already.
"""

from argparse import ArgumentParser
from pathlib import Path

from stages.lib.errors import exit_cleanly
from stages.lib.fashion_mnist import RAW_FILES
from stages.lib.files import sha256_of
from stages.lib.params import FetchParams, Params, load_params

RAW = Path("data/raw")


def main() -> None:
    """Fetch or draw, then say what there is."""
    ArgumentParser(prog="python -m stages.fetch", description="Fetch or draw the four files of raw data.").parse_args()
    params = load_params()
    how = draw(params) if params.fetch.source == "synthetic" else fetch(params.fetch)
    describe(how)


def fetch(params: FetchParams) -> str:
    """Have the published files in `data/raw`; gives how they got there."""
    from stages.lib.mirrors import all_whole, fetch_from_mirrors, mirrors_in_order

    if all_whole(RAW_FILES, RAW):
        return "whole already, nothing to fetch"
    return "fetched from " + fetch_from_mirrors(RAW_FILES, mirrors_in_order(params.mirrors), RAW)


def draw(params: Params) -> str:
    """Draw the synthetic files into `data/raw`; gives how they got there."""
    from stages.lib.synthetic import write_synthetic

    write_synthetic(RAW, params.seed, params.fetch.synthetic.train, params.fetch.synthetic.test)
    return f"drawn with seed {params.seed}"


def describe(how: str) -> None:
    """Print name, size and sum of each file, and how they got there."""
    for file in RAW_FILES:
        path = RAW / file.name
        print(f"{file.name:<28} {path.stat().st_size:>11,} bytes  sha256 {sha256_of(path)[:12]}")
    print(f"{RAW}: {how}")


if __name__ == "__main__":
    exit_cleanly("fetch", main)
