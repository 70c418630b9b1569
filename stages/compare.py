"""Compare the evaluated models, all that params.yaml names.

Says which model is best, which differences are more than chance, how far each model can be trusted and what it costs.
Writes the tables, the charts and `models/best.safetensors`, a copy of the winner. Takes about three seconds.

Shapes: N images, K classes; U units of a layer, each a picture of H x W, in colour with C channels.
"""

import math
import sys
from argparse import ArgumentParser
from dataclasses import astuple, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stages.lib import plots
from stages.lib.base.errors import Outdated, exit_cleanly
from stages.lib.base.files import NOT_COUNTED, copy, read_json, write_csv, write_json
from stages.lib.base.inputs import Inputs
from stages.lib.base.params import load_params
from stages.lib.base.tensors import load_arrays
from stages.lib.base.versions import check_versions
from stages.lib.results.calibration import Bin, calibration_error_pct, reliability_bins
from stages.lib.results.statistics import FEW_IMAGES, holm, mcnemar_test, verdict, wilson_interval
from stages.lib.results.summary import verdicts
from stages.lib.results.tables import read_table


def main() -> None:
    """Gather, test, choose, draw; then, when nothing can be missing any more, write."""
    ArgumentParser(prog="python -m stages.compare", description="Compare the evaluated models.").parse_args()
    inputs, params = Inputs("compare"), load_params()
    names, by = list(params.models), params.compare.by
    check_versions("matplotlib", "numpy", "pandas", "pillow", "safetensors", "scipy")
    about = read_json("metrics/data.json")
    names_it = "data_set" in about and about["source"] not in ("fashion-mnist", "synthetic")
    data = {key: about[key] for key in ("source", "data_set") if key == "source" or names_it}
    outcomes = {name: read_outcome(name) for name in names}
    for name in names:
        if params.evaluate.batch_size == params.model(name).batch_size:  # then their losses are means over the same
            check_as_trained(name, outcomes[name].results)
    rows = [describe(name, outcomes[name]) for name in names]
    pairs = compare_pairs(outcomes)
    (best, *equals), chosen_on = choose(names, by)
    curves = pd.concat([read_table(f"plots/curves/{name}.csv").assign(model=name) for name in names])
    pictures = draw(rows, outcomes, curves, data.get("data_set", data["source"]))
    inputs.check_unchanged()

    write_csv("plots/compare.csv", list(rows[0]), [list(row.values()) for row in rows])
    columns = ["model", "epoch", "train_loss", "train_acc", "test_loss", "test_acc"]
    write_csv("plots/curves.csv", columns, curves[columns].astype(object).to_numpy().tolist())
    bins = [(name, *astuple(each)) for name in names for each in outcomes[name].bins]
    write_csv("plots/reliability.csv", ["model", "low", "high", "confidence_pct", "accuracy_pct", "images"], bins)
    recalls = [(name, *pair) for name in names for pair in outcomes[name].recall_pct.items()]
    write_csv("plots/recall.csv", ["model", "class", "recall_pct"], recalls)
    models = {row["model"]: {key: value for key, value in row.items() if key != "model"} for row in rows}
    decision = {"by": by, "chosen_on": chosen_on, "best": best, **({"equals": equals} if equals else {})}
    comparison = {**data, **decision, "models": models, "pairs": pairs}
    write_json("metrics/compare.json", comparison)
    write_json("metrics/best.json", {"model": best, "accuracy": models[best]["accuracy"], "loss": models[best]["loss"]})
    for path, picture in pictures.items():
        plots.save(picture, path)
    copy(f"models/{best}.safetensors", "models/best.safetensors")
    print(verdicts(comparison))
    if rare := rare_classes(outcomes[best].class_images):
        print(f"compare: warning: few test images, so their recall says little: {rare}", file=sys.stderr)


@dataclass(frozen=True)
class Outcome:
    """How a model did on each test image and class, how its confidence compares with its accuracy, and its metrics."""

    correct_N: NDArray[np.bool_]  # whether its most probable class is the true one
    bins: list[Bin]
    recall_pct: dict[str, float]  # of the test images of each class
    class_images: dict[str, int]  # test images of each class
    results: dict[str, Any]  # as evaluated, and checked against the predictions


def read_outcome(name: str) -> Outcome:
    """Work out per-image correctness and calibration bins of one model from its predictions.

    Raises:
        UserError: the file holds the predictions of another model, or they do not give the metrics of the model.
    """
    path = f"data/predictions/{name}.safetensors"
    arrays, about = load_arrays(path)
    if about.get("name") != name:
        raise Outdated(path, f"holds the predictions of {about.get('name')}, not {name}")
    probabilities_NK, labels_N = arrays["probabilities"], arrays["labels"]
    correct_N = probabilities_NK.argmax(axis=1) == labels_N
    results = read_json(f"metrics/eval/{name}.json")
    check_results(name, results, probabilities_NK, labels_N)
    per_class = {name: correct_N[labels_N == label] for label, name in enumerate(about["class_names"])}
    recall_pct = {name: float(each.mean()) * 100 if len(each) else math.nan for name, each in per_class.items()}
    class_images = {name: len(each) for name, each in per_class.items()}
    return Outcome(correct_N, reliability_bins(probabilities_NK, labels_N), recall_pct, class_images, results)


def check_results(
    name: str, results: dict[str, Any], probabilities_NK: NDArray[np.float32], labels_N: NDArray[np.int64]
) -> None:
    """Check that the metrics of a model are those of its predictions.

    Raises:
        UserError: names what differs.
    """
    images, correct = len(labels_N), results.get("correct", -1)
    likelihood_N = probabilities_NK[np.arange(images), labels_N]
    best_N1 = probabilities_NK.max(axis=1, keepdims=True)
    right_N = likelihood_N == best_N1[:, 0]
    # evaluate knew the logits: two that differ may become the same float32 probability
    undecided = int((right_N & ((probabilities_NK == best_N1).sum(axis=1) > 1)).sum())
    with np.errstate(divide="ignore"):
        loss = float(-np.log(likelihood_N, dtype=np.float64).mean())  # infinite if one is too small for a float32
    expected = {"images": images, "accuracy": correct / images * 100}
    different = [key for key, value in expected.items() if results.get(key) != value]
    if not 0 <= int(right_N.sum()) - correct <= undecided:
        different.append("correct")
    if math.isfinite(loss) and not math.isclose(results["loss"], loss, rel_tol=1e-3, abs_tol=1e-5):
        different.append("loss")
    if different:
        contradicted = f"contradicts data/predictions/{name}.safetensors in {', '.join(different)}"
        raise Outdated(f"metrics/eval/{name}.json", contradicted)


def check_as_trained(name: str, results: dict[str, Any]) -> None:
    """Check that a model was evaluated since it was trained: it then has the loss that its training ended with.

    Raises:
        UserError: it has another.
    """
    trained = read_json(f"metrics/train/{name}.json")
    watched = results if trained["watched"] == "test" else results.get("validation", results)
    if not math.isclose(watched["model_loss"], trained["test_loss"], rel_tol=1e-4, abs_tol=1e-5):
        raise Outdated(f"metrics/eval/{name}.json", f"is of another training than metrics/train/{name}.json")


def describe(name: str, outcome: Outcome) -> dict[str, Any]:
    """Return one row of the comparison: metrics on the test images, accuracy with a 95 % interval, and the costs."""
    results = outcome.results
    parameters = read_json(f"metrics/train/{name}.json")["parameters"]
    low, high = wilson_interval(results["correct"], results["images"])
    return {
        "model": name,
        "architecture": results["model_name"],
        "accuracy": results["accuracy"],
        "accuracy_low": low,
        "accuracy_high": high,
        **balanced_accuracy(outcome),
        "loss": results["loss"],
        "model_acc": results["model_acc"],
        "model_loss": results["model_loss"],
        "calibration_error_pct": calibration_error_pct(outcome.bins),
        "parameters": parameters,
        "multiply_adds": multiply_adds(name, parameters),
        "file_bytes": Path(f"models/{name}.safetensors").stat().st_size,
    }


def multiply_adds(name: str, parameters: int) -> int | None:
    """Return the multiply-adds of all layers for one image; None where some may be missing.

    Those of a layer that cannot be counted are, and those of weights that are in no layer that was called.
    """
    layers = read_table(f"plots/layers/{name}.csv")
    whole = NOT_COUNTED not in set(layers["how"]) and layers["parameters"].sum() == parameters
    return int(layers["multiply_adds"].sum()) if whole else None


def balanced_accuracy(outcome: Outcome) -> dict[str, float]:
    """Return the mean recall of the classes that have test images; nothing where it is the accuracy itself.

    It is, if all classes have as many test images. Otherwise a model that names the largest class alone has a high
    accuracy and a balanced one of 100 % divided by the number of classes.
    """
    if len(set(outcome.class_images.values())) == 1:
        return {}
    known = [recall for recall in outcome.recall_pct.values() if not math.isnan(recall)]
    return {"balanced_accuracy": math.fsum(known) / len(known)}


def rare_classes(class_images: dict[str, int]) -> str:
    """Name the classes with few test images, and how many; empty if there are none."""
    return ", ".join(f"{name} ({images})" for name, images in class_images.items() if images < FEW_IMAGES)


def compare_pairs(outcomes: dict[str, Outcome]) -> list[dict[str, Any]]:
    """Say of each two models whether they differ on the same images by more than chance, in numbers and in words."""
    pairs = list(combinations(outcomes, 2))
    tests = [mcnemar_test(outcomes[first].correct_N, outcomes[second].correct_N) for first, second in pairs]
    adjusted = holm([test.p_value for test in tests])
    return [
        {
            "first": first,
            "second": second,
            "only_first_right": test.only_first,
            "only_second_right": test.only_second,
            "p_value": test.p_value,
            "p_value_holm": p_value,
            "verdict": verdict(first, second, test, p_value),
        }
        for (first, second), test, p_value in zip(pairs, tests, adjusted, strict=True)
    ]


def choose(names: list[str], by: str) -> tuple[list[str], str]:
    """Return the models with the highest accuracy or the lowest loss, one unless they are equal, and on which images.

    With validation images the choice is made on them, so that the test images stay unseen until the final report.
    """
    results = {name: read_json(f"metrics/eval/{name}.json") for name in names}
    chosen_on = "validation" if all("validation" in result for result in results.values()) else "test"

    def merit(name: str) -> float:
        result = results[name]["validation"] if chosen_on == "validation" else results[name]
        return float(result["accuracy"] if by == "accuracy" else -result["loss"])

    most = max(map(merit, names))
    return [name for name in names if merit(name) == most], chosen_on


def draw(
    rows: list[dict[str, Any]], outcomes: dict[str, Outcome], curves: pd.DataFrame, data_set: str
) -> dict[str, Figure]:
    """Draw the charts: how well the models do, what they cost, what their first layers look for; by path."""
    names = [row["model"] for row in rows]
    accuracies = [row["accuracy"] for row in rows]
    intervals = [(row["accuracy_low"], row["accuracy_high"]) for row in rows]
    held_out = read_json(f"metrics/train/{names[0]}.json")["watched"]
    histories = {name: curves[curves["model"] == name] for name in names}
    bins = {name: pd.DataFrame(outcomes[name].bins) for name in names}
    errors = {row["model"]: row["calibration_error_pct"] for row in rows}
    costs = {
        "Parameters": [row["parameters"] for row in rows],
        "Multiply-adds per image": [row["multiply_adds"] for row in rows],
    }
    title = "Test accuracy against size"
    return {
        "plots/curves.png": plots.loss_curves(histories, "Loss and accuracy by epoch", data_set, held_out),
        "plots/accuracy.png": plots.accuracy_intervals(names, accuracies, intervals, data_set),
        "plots/reliability.png": plots.reliability(bins, errors, data_set),
        "plots/costs.png": plots.accuracy_against_costs(names, accuracies, costs, title, data_set),
        "plots/recall.png": draw_recall(outcomes, data_set),
        "plots/behaviour.png": draw_behaviour(names, data_set),
        "plots/filters.png": plots.filters(first_layers(names), data_set),
    }


def draw_recall(outcomes: dict[str, Outcome], data_set: str) -> Figure:
    """Draw the recall of each class for all models in one picture: it shows classes that a model never names."""
    class_names = list(next(iter(outcomes.values())).recall_pct)
    recalls_pct = {name: [outcome.recall_pct[each] for each in class_names] for name, outcome in outcomes.items()}
    return plots.recall(recalls_pct, class_names, data_set)


def draw_behaviour(names: list[str], data_set: str) -> Figure:
    """Draw how the accuracy of each model changes when the images do."""
    path = "plots/behaviour.csv"
    table = read_table(path)
    of_models = {name: table[table["model"] == name] for name in names}
    first = list(of_models[names[0]]["images"])
    if any(list(rows["images"]) != first for rows in of_models.values()):
        raise Outdated(path, "does not have the same rows for all models")
    return plots.behaviour({name: list(rows["accuracy"]) for name, rows in of_models.items()}, first, data_set)


def first_layers(names: list[str]) -> dict[str, tuple[str, NDArray[Any]]]:
    """Return for each model the kind of its first layer and the weights of its units as pictures.

    They are `[U, H, W]`, or `[U, 3, H, W]` where the units read colours. Left out are models whose first layer is
    neither a convolution nor connected to each pixel of the image.
    """
    shape = read_json("metrics/data.json")["shape"]
    found = {}
    for name in names:
        table = read_table(f"plots/layers/{name}.csv")
        with_weights = table[table["parameters"] > 0]
        if with_weights.empty:
            continue
        first = with_weights.iloc[0]
        weights, _ = load_arrays(f"models/{name}.safetensors")
        units = weights.get(f"{first['layer']}.weight", np.empty(0))
        if units.ndim == 2 and units.shape[1] == math.prod(shape):
            units = units.reshape(-1, *shape)
        if units.ndim == 4:
            found[name] = (first["kind"], units if units.shape[1] == 3 else units.mean(axis=1))  # over the channels
    return found


if __name__ == "__main__":
    exit_cleanly("compare", main)
