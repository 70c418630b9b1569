"""The comparison of the models as text, from the files that the compare stage wrote."""

from typing import Any

import pandas as pd

from stages.lib.files import read_json


def train_seconds(name: str) -> float:
    """How long a model trained. Read as it is: a time that were a dependency would never be up to date."""
    return float(read_json(f"metrics/timing/{name}.json")["train_seconds"])


def comparison_text() -> str:
    """The table of the models, what the paired tests say, and the best model.

    Raises:
        UserError: the comparison has not been made yet.
    """
    comparison = read_json("metrics/compare.json")
    models: dict[str, dict[str, Any]] = comparison["models"]
    table = pd.DataFrame(
        {
            "architecture": row["architecture"],
            "accuracy %": f"{row['accuracy']:.2f}",
            "95 % interval": f"{row['accuracy_low']:.2f} to {row['accuracy_high']:.2f}",
            "loss": f"{row['loss']:.4f}",
            "train s": f"{train_seconds(name):.1f}",
            "parameters": f"{row['parameters']:,}",
        }
        for name, row in models.items()
    )
    table.index = pd.Index(models)
    verdicts = [
        f"{pair['verdict']}: only {pair['first']} is right on {pair['only_first_right']:,} images, only "
        f"{pair['second']} on {pair['only_second_right']:,} (p = {pair['p_value']:.2g})"
        for pair in comparison["pairs"]
    ]
    best = f"best by {comparison['by']}: {comparison['best']}"
    return "\n".join([f"Test images of {comparison['source']}:", table.to_string(), "", *verdicts, best])
