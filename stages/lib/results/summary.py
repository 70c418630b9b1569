"""The comparison of the models as text, from the files that the compare stage wrote."""

from typing import Any

import pandas as pd

from stages.lib.base.files import read_json
from stages.lib.base.timing import images_per_second, train_seconds

ABOUT = "This holds for these trained models, on images like these. With another seed it may not: see `make studies`."


def summary() -> str:
    """Return the table of the models, what the paired tests say, and the best model.

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
            **({"balanced %": f"{row['balanced_accuracy']:.2f}"} if "balanced_accuracy" in row else {}),
            "loss": f"{row['loss']:.4f}",
            "parameters": f"{row['parameters']:,}",
            "multiply-adds": number_text(row["multiply_adds"], ","),
            "train s": number_text(train_seconds(name), ".1f"),
            "images/s": number_text(images_per_second(name), ",.0f"),
        }
        for name, row in models.items()
    )
    table.index = pd.Index(models)
    data_set = comparison.get("data_set", comparison["source"])
    return f"Test images of {data_set}:\n{table.to_string()}\n\n{verdicts(comparison)}"


def verdicts(comparison: dict[str, Any]) -> str:
    """Return what the paired tests say, and of what, and the best model: a line for each."""
    best = f"best by {comparison['by']} on the {comparison['chosen_on']} images: {comparison['best']}"
    if equals := comparison.get("equals"):
        best += f", the first of those that are equal: {', '.join(equals)} too"
    about = [ABOUT] if comparison["pairs"] else []
    return "\n".join([*(pair_text(pair) for pair in comparison["pairs"]), *about, best])


def pair_text(pair: dict[str, Any]) -> str:
    """Say what the paired test says of two models, with its numbers; the p-value is Holm's, for all pairs together."""
    p_value = f"= {pair['p_value_holm']:.2g}" if pair["p_value_holm"] else "< 1e-300"  # too small for a float
    return (
        f"{pair['verdict']}: only {pair['first']} is right on {pair['only_first_right']:,} images, only "
        f"{pair['second']} on {pair['only_second_right']:,} (p {p_value} by Holm)"
    )


def number_text(value: float | None, form: str) -> str:
    """Format a number; a dash where it is not known, such as a time not measured for this model on this machine."""
    return "-" if value is None else f"{value:{form}}"
