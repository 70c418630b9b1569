"""Reading the CSV files that stages write."""

import csv
from pathlib import Path

import pandas as pd

from stages.lib.errors import UserError

TEXT = {"layer": str}  # the layers of an nn.Sequential are called 0, 1.0, 1.10: no numbers


def read_table(path: str) -> pd.DataFrame:
    """A CSV file of ours, numbers as numbers.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            fields = {len(line) for line in csv.reader(file, strict=True)}  # pandas would fill up or shift the others
    except FileNotFoundError:
        raise UserError(f"{path} is missing; run `dvc repro` to make it") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is damaged ({error}); run `dvc repro` to make it again") from None
    if len(fields) != 1:
        raise UserError(f"{path} is damaged: its lines differ in length; run `dvc repro` to make it again")
    return pd.read_csv(path, dtype=TEXT, keep_default_na=False)
