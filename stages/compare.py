"""Compare the evaluated models: `python -m stages.compare model_0 model_1 model_2`.

Says which model is best and which differences are more than chance. Writes the tables, the charts and
`models/best.safetensors`, a copy of the winner. Takes about two seconds.
"""

import argparse
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.lib import figures
from stages.lib.comparison import comparison_text, train_seconds
from stages.lib.errors import UserError, exit_cleanly
from stages.lib.files import copy, read_json, write_csv, write_json
from stages.lib.params import load_params
from stages.lib.statistics import mcnemar_test, wilson_interval
from stages.lib.tensors import load_arrays


def main() -> None:
    """Gather, test, choose, write, draw."""
    names = parse_names()
    by = load_params().compare.by
    source = read_json("metrics/data.json")["source"]
    rows = [describe(name) for name in names]
    right = {name: right_answers(name) for name in names}
    pairs = [compare_pair(first, second, right) for first, second in combinations(names, 2)]
    best = choose(names, by)

    write_csv("plots/compare.csv", list(rows[0]), [list(row.values()) for row in rows])
    models = {row["model"]: {key: value for key, value in row.items() if key != "model"} for row in rows}
    write_json("metrics/compare.json", {"source": source, "by": by, "best": best, "models": models, "pairs": pairs})
    write_json("metrics/best.json", {"model": best, "accuracy": models[best]["accuracy"], "loss": models[best]["loss"]})
    draw(rows, source)
    copy(f"models/{best}.safetensors", "models/best.safetensors")
    print(f"\n{comparison_text()}\n")


def describe(name: str) -> dict[str, Any]:
    """One row of the comparison: figures on the test images, with a 95 % interval, and the size of the model."""
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
        "parameters": read_json(f"metrics/train/{name}.json")["parameters"],
    }


def right_answers(name: str) -> NDArray[np.bool_]:
    """Which test images the model gets right, bool `[N]`.

    Raises:
        UserError: the file holds the predictions of another model.
    """
    path = f"data/predictions/{name}.safetensors"
    arrays, about = load_arrays(path)
    if about.get("name") != name:
        raise UserError(f"{path} holds the predictions of {about.get('name')}, not {name}; run `dvc repro evaluate`")
    right_N: NDArray[np.bool_] = arrays["probabilities"].argmax(axis=1) == arrays["labels"]
    return right_N


def compare_pair(first: str, second: str, right: dict[str, NDArray[np.bool_]]) -> dict[str, Any]:
    """Whether two models differ on the same images by more than chance, in figures and in words."""
    test = mcnemar_test(right[first], right[second])
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


def choose(names: list[str], by: str) -> str:
    """The model with the highest accuracy or the lowest loss; of equals the first.

    With validation images the choice is made on them, so that the test images stay unseen until the final report.
    """

    def merit(name: str) -> float:
        results = read_json(f"metrics/eval/{name}.json")
        results = results.get("validation", results)
        return float(results["accuracy"] if by == "accuracy" else -results["loss"])

    return max(names, key=merit)


def draw(rows: list[dict[str, Any]], source: str) -> None:
    """The charts. The one of speed shows measured times, which differ from run to run, and is kept with them."""
    names = [row["model"] for row in rows]
    accuracies = [row["accuracy"] for row in rows]
    histories = {name: pd.read_csv(f"plots/curves/{name}.csv") for name in names}
    watched = read_json(f"metrics/train/{names[0]}.json")["watched"]
    curves = figures.loss_curves(histories, "Loss and accuracy by epoch", source, watched)
    figures.save(curves, "plots/curves.png")

    intervals = [(row["accuracy_low"], row["accuracy_high"]) for row in rows]
    figures.save(figures.accuracy_bars(names, accuracies, intervals, source), "plots/accuracy.png")

    seconds = [train_seconds(name) for name in names]
    speed = figures.cost_against_accuracy(names, seconds, accuracies, "Training time (s)", source)
    figures.save(speed, "metrics/timing/speed.png")


def parse_names() -> list[str]:
    """The models' names from the command line."""
    parser = argparse.ArgumentParser(prog="python -m stages.compare", description="Compare evaluated models.")
    parser.add_argument("models", nargs="+", metavar="model", help="an evaluated model, such as model_1")
    names: list[str] = parser.parse_args().models
    return names


if __name__ == "__main__":
    exit_cleanly("compare", main)
