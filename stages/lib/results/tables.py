"""Reading the CSV files that stages write."""

import pandas as pd

from stages.lib.base.errors import Outdated

TEXT = {"layer": str}  # the layers of an nn.Sequential are called 0, 1.0, 1.10: no numbers


def read_table(path: str) -> pd.DataFrame:
    """Read a CSV file of ours, numbers as numbers and to their last digit.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        return pd.read_csv(path, dtype=TEXT, keep_default_na=False, float_precision="round_trip")
    except FileNotFoundError:
        raise Outdated(path) from None
    except ValueError as error:  # also what pandas says of bad CSV, and of bad UTF-8
        raise Outdated(path, f"is damaged ({' '.join(str(error).split())})") from None
