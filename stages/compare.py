"""Compare the evaluated models: `python -m stages.compare model_0 model_1 model_2`.

Says which model is best and whether the differences are more than chance. Writes the table, the charts and
`models/best.safetensors`, a copy of the winner. Takes about two seconds.
"""

import argparse
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.lib import figures
from stages.lib.errors import UserError, exit_cleanly
from stages.lib.files import copy, read_json, write_csv, write_json
from stages.lib.params import load_params
from stages.lib.statistics import mcnemar_test, wilson_interval
from stages.lib.tensors import load_arrays

# Training times differ from run to run. They are read as they are and shown, but are no dependency of this stage, and
# what shows them is kept apart from the reproducible outputs.
TIMING = "metrics/timing"


def main() -> None:
    """Read, test, choose, write, draw."""
    names = parse_names()
    by = load_params().compare.by
    source = read_json("metrics/data.json")["source"]
    rows = {name: row_of(name) for name in names}
    pairs = [compare_pair(*pair) for pair in combinations(names, 2)]
    best = choose(rows, by)

    table = pd.DataFrame(rows.values())
    write_csv("plots/compare.csv", list(table.columns), table.itertuples(index=False))
    write_json("metrics/compare.json", {"source": source, "by": by, "best": best, "models": rows, "pairs": pairs})
    write_json(
        "metrics/best.json", {"model": best, "accuracy": rows[best]["accuracy"], "loss": rows[best]["loss"]}
    )
    copy(f"models/{best}.safetensors", "models/best.safetensors")
    draw(rows, source)
