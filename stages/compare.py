"""Compare the evaluated models: `python -m stages.compare model_0 model_1 model_2`.

Says which model is best, which differences are more than chance, how far each model can be trusted and what it costs.
Writes the tables, the charts and `models/best.safetensors`, a copy of the winner. Takes about three seconds.
"""

import argparse
from dataclasses import astuple, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stages.lib import figures
from stages.lib.calibration import Bin, calibration_error_pct, reliability_bins
from stages.lib.comparison import comparison_text, images_per_second, train_seconds
from stages.lib.errors import UserError, exit_cleanly
from stages.lib.files import copy, read_json, write_csv, write_json
from stages.lib.params import load_params
from stages.lib.statistics import mcnemar_test, wilson_interval
from stages.lib.tables import read_table
from stages.lib.tensors import load_arrays


def main() -> None:
    """Gather, test, choose, draw; then, when nothing can be missing any more, write."""
    names = parse_names()
    by = load_params().compare.by
    source = read_json("metrics/data.json")["source"]
    answers = {name: read_answers(name) for name in names}
    rows = [describe(name, answers[name]) for name in names]
    pairs = [compare_pair(first, second, answers) for first, second in combinations(names, 2)]
    best, chosen_on = choose(names, by)
    pictures = draw_results(rows, answers, source) | draw_costs(rows, source)
    pictures["plots/filters.png"] = figures.filters(first_layers(names), source)

    write_csv("plots/compare.csv", list(rows[0]), [list(row.values()) for row in rows])
    bins = [(name, *astuple(each)) for name in names for each in answers[name].bins]
    write_csv("plots/reliability.csv", ["model", "low", "high", "confidence_pct", "accuracy_pct", "images"], bins)
    models = {row["model"]: {key: value for key, value in row.items() if key != "model"} for row in rows}
    comparison = {"source": source, "by": by, "chosen_on": chosen_on, "best": best, "models": models, "pairs": pairs}
    write_json("metrics/compare.json", comparison)
    write_json("metrics/best.json", {"model": best, "accuracy": models[best]["accuracy"], "loss": models[best]["loss"]})
    for path, picture in pictures.items():
        figures.save(picture, path)
    copy(f"models/{best}.safetensors", "models/best.safetensors")
    print(f"\n{comparison_text()}\n")


@dataclass(frozen=True)
class Answers:
    """What a model said to the test images."""

    right_N: NDArray[np.bool_]  # whether its likeliest class is the true one
    bins: list[Bin]  # its confidence beside its accuracy


def read_answers(name: str) -> Answers:
    """The answers of a model, from its predictions.

    Raises:
        UserError: the file holds the predictions of another model, or not as many as were evaluated.
    """
    path = f"data/predictions/{name}.safetensors"
    arrays, about = load_arrays(path)
    if about.get("name") != name:
        raise UserError(f"{path} holds the predictions of {about.get('name')}, not {name}; run `dvc repro evaluate`")
    probabilities_NK, labels_N = arrays["probabilities"], arrays["labels"]
    images = read_json(f"metrics/eval/{name}.json")["images"]
    if len(labels_N) != images:
        raise UserError(f"{path} holds {len(labels_N):,} predictions, not {images:,}; run `dvc repro --force evaluate`")
    return Answers(probabilities_NK.argmax(axis=1) == labels_N, reliability_bins(probabilities_NK, labels_N))


def describe(name: str, answers: Answers) -> dict[str, Any]:
    """One row of the comparison: figures on the test images, accuracy with a 95 % interval, and the costs."""
    results = read_json(f"metrics/eval/{name}.json")
    low, high = wilson_interval(results["correct"], results["images"])
    return {
        "model": name,
        "architecture": results["model_name"],
        "accuracy": results["accuracy"],
        "accuracy_low": low,
        "accuracy_high": high,
        "loss": results["loss"],
        "model_acc": results["model_acc"],
        "model_loss": results["model_loss"],
        "calibration_error_pct": calibration_error_pct(answers.bins),
        "parameters": read_json(f"metrics/train/{name}.json")["parameters"],
        "multiply_adds": int(read_table(f"plots/layers/{name}.csv")["multiply_adds"].sum()),
        "file_bytes": Path(f"models/{name}.safetensors").stat().st_size,
    }


def compare_pair(first: str, second: str, answers: dict[str, Answers]) -> dict[str, Any]:
    """Whether two models differ on the same images by more than chance, in figures and in words."""
    test = mcnemar_test(answers[first].right_N, answers[second].right_N)
    if not test.differ:
        verdict = f"{first} and {second} cannot be told apart"
    else:
        ahead, behind = (first, second) if test.only_first > test.only_second else (second, first)
        verdict = f"{ahead} is better than {behind}"
    return {
        "first": first,
        "second": second,
        "only_first_right": test.only_first,
        "only_second_right": test.only_second,
        "p_value": test.p_value,
        "verdict": verdict,
    }


def choose(names: list[str], by: str) -> tuple[str, str]:
    """The model with the highest accuracy or the lowest loss, of equals the first; and the images it is chosen on.

    With validation images the choice is made on them, so that the test images stay unseen until the final report.
    """
    results = {name: read_json(f"metrics/eval/{name}.json") for name in names}
    chosen_on = "validation" if all("validation" in result for result in results.values()) else "test"

    def merit(name: str) -> float:
        result = results[name]["validation"] if chosen_on == "validation" else results[name]
        return float(result["accuracy"] if by == "accuracy" else -result["loss"])

    return max(names, key=merit), chosen_on


def draw_results(rows: list[dict[str, Any]], answers: dict[str, Answers], source: str) -> dict[str, Figure]:
    """The charts of how well the models do, by path."""
    names = [row["model"] for row in rows]
    histories = {name: read_table(f"plots/curves/{name}.csv") for name in names}
    watched = read_json(f"metrics/train/{names[0]}.json")["watched"]
    intervals = [(row["accuracy_low"], row["accuracy_high"]) for row in rows]
    accuracies = [row["accuracy"] for row in rows]
    errors = {row["model"]: row["calibration_error_pct"] for row in rows}
    bins = {name: pd.DataFrame(answers[name].bins) for name in names}
    return {
        "plots/curves.png": figures.loss_curves(histories, "Loss and accuracy by epoch", source, watched),
        "plots/accuracy.png": figures.accuracy_intervals(names, accuracies, intervals, source),
        "plots/reliability.png": figures.reliability(bins, errors, source),
    }


def draw_costs(rows: list[dict[str, Any]], source: str) -> dict[str, Figure]:
    """Accuracy against what can be counted, and in another picture against what is measured, by path.

    Measured times differ from run to run: their picture is kept with them.
    """
    names = [row["model"] for row in rows]
    accuracies = [row["accuracy"] for row in rows]
    counted = {
        "Parameters": [row["parameters"] for row in rows],
        "Multiply-adds per image": [row["multiply_adds"] for row in rows],
        "File size (bytes)": [row["file_bytes"] for row in rows],
    }
    measured = {
        "Training time (s)": [train_seconds(name) for name in names],
        "Test images per second": [images_per_second(name) for name in names],
    }
    costs = figures.accuracy_against_costs(names, accuracies, counted, "Test accuracy against size", source)
    speed = figures.accuracy_against_costs(names, accuracies, measured, "Test accuracy against speed", source)
    return {"plots/costs.png": costs, "metrics/timing/speed.png": speed}


def first_layers(names: list[str]) -> dict[str, tuple[str, NDArray[Any]]]:
    """For each model the kind of its first layer and the weights of its units as pictures `[U, H, W]`.

    Left out are models whose first layer is neither a convolution nor connected to each pixel of the image.
    """
    found = {}
    for name in names:
        table = read_table(f"plots/layers/{name}.csv")
        with_weights = table[table["parameters"] > 0]
        if with_weights.empty:
            continue
        first = with_weights.iloc[0]
        weights, _ = load_arrays(f"models/{name}.safetensors")
        units = weights.get(f"{first['layer']}.weight", np.empty(0))
        if units.ndim == 4:
            found[name] = (first["kind"], units.mean(axis=1))  # over the channels; the images have one
        elif units.ndim == 2 and units.shape[1] == 28 * 28:
            found[name] = (first["kind"], units.reshape(-1, 28, 28))
    return found


def parse_names() -> list[str]:
    """The models' names from the command line."""
    parser = argparse.ArgumentParser(prog="python -m stages.compare", description="Compare evaluated models.")
    parser.add_argument("models", nargs="+", metavar="model", help="an evaluated model, such as model_1")
    names: list[str] = parser.parse_args().models
    return names


if __name__ == "__main__":
    exit_cleanly("compare", main)
