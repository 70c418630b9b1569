"""The comparison of the models as text, from the files that the compare stage wrote."""

from typing import Any

import pandas as pd

from stages.lib.errors import UserError
from stages.lib.files import read_json


def train_seconds(name: str) -> float:
    """How long a model trained."""
    return float(read_json(f"metrics/timing/{name}.json")["train_seconds"])


def images_per_second(name: str) -> float:
    """How fast a model answered when it was evaluated.

    Raises:
        UserError: the model was not evaluated with the others.
    """
    path = "metrics/timing/inference.json"
    speeds = read_json(path)["images_per_second"]
    if name not in speeds:
        raise UserError(f"{path} does not know {name}; run `dvc repro --force evaluate`")
    return float(speeds[name])


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
            "parameters": f"{row['parameters']:,}",
            "multiply-adds": f"{row['multiply_adds']:,}",
            "train s": f"{train_seconds(name):.1f}",
            "images/s": f"{images_per_second(name):,.0f}",
        }
        for name, row in models.items()
    )
    table.index = pd.Index(models)
    best = f"best by {comparison['by']} on the {comparison['chosen_on']} images: {comparison['best']}"
    pairs = [pair_text(pair) for pair in comparison["pairs"]]
    return "\n".join([f"Test images of {comparison['source']}:", table.to_string(), "", *pairs, best])


def pair_text(pair: dict[str, Any]) -> str:
    """What the paired test says of two models, with its figures."""
    p_value = f"= {pair['p_value']:.2g}" if pair["p_value"] else "< 1e-300"  # too small for a float
    return (
        f"{pair['verdict']}: only {pair['first']} is right on {pair['only_first_right']:,} images, only "
        f"{pair['second']} on {pair['only_second_right']:,} (p {p_value})"
    )
