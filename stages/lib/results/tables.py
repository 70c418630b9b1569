"""Reading the CSV files that stages write."""

import csv
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from stages.lib.base.errors import Outdated

TEXT = {"layer", "class"}  # names that may look like numbers: layers 0, 1.0, 1.10 of an nn.Sequential; a class 007


def read_table(path: str) -> pd.DataFrame:
    """Read a CSV file of ours, numbers as numbers.

    Not with `pandas.read_csv`, whose floats may differ from those written in the last digit, and which fills up short
    lines, such as those of a merge conflict.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file, strict=True)
        columns = zip(*rows, strict=True) if rows else [()] * len(header)
        named = zip(header, columns, strict=True)
        return pd.DataFrame({name: list(column) if name in TEXT else _numbers(column) for name, column in named})
    except FileNotFoundError:
        raise Outdated(path) from None
    except (ValueError, csv.Error) as error:  # no line at all, lines of several lengths, bad UTF-8
        raise Outdated(path, f"is damaged ({error})") from None


def _numbers(column: Sequence[str]) -> list[int] | list[float] | list[str]:
    """Return the values of a column as what all of them are."""
    for kind in (int, float):
        try:
            return [kind(value) for value in column]
        except ValueError:
            continue
    return list(column)
