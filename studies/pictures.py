"""The pictures of the studies, in the style of all others; accuracies are in percent."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from stages.lib.plots import colour_of, marker_of, new_figure, styled, titled


@styled
def accuracies_by_seed(recipes: Mapping[str, Mapping[str, Any]], seeds: Sequence[int], data_set: str) -> Figure:
    """Draw a row for each recipe: a point for each seed, and below them the mean with its 95 % interval.

    Args:
        recipes: by name, `accuracies` and the figures of their `Spread`.
        seeds: one for each accuracy.
        data_set: what the images are, for the title.
    """
    in_a_row = list(seeds) == list(range(seeds[0], seeds[0] + len(seeds)))
    which = f"the seeds {seeds[0]} to {seeds[-1]}" if in_a_row else f"{len(seeds)} seeds"
    title = titled(f"Test accuracy with {which}", data_set)
    figure = new_figure((8, 1.4 + 0.9 * len(recipes)), title)
    axes = figure.subplots()
    heights = np.linspace(-0.32, 0.08, len(seeds))  # from the first seed to the last: none hides another
    for row, (name, recipe) in enumerate(recipes.items()):
        (colour, marker), mean, low, high = _look(name, row), recipe["mean"], recipe["low"], recipe["high"]
        axes.scatter(recipe["accuracies"], row + heights, 30, color=colour, marker=marker, alpha=0.7, linewidths=0)
        axes.plot([low, high], [row + 0.24] * 2, color=colour, linewidth=3, solid_capstyle="butt")
        axes.plot(mean, row + 0.24, color=colour, marker="|", markersize=14, markeredgewidth=2)
        text = f"{mean:.2f} % ({low:.2f} to {high:.2f})"
        axes.annotate(text, (mean, row + 0.3), xytext=(0, -14), textcoords="offset points", ha="center")
    axes.set_yticks(range(len(recipes)), list(recipes), parse_math=False)
    axes.set(xlabel="Accuracy (%); bar: mean with its 95 % interval", ylim=(len(recipes) - 0.35, -0.5))
    axes.margins(x=0.12)
    axes.grid(visible=False, axis="y")
    return figure


@styled
def accuracy_by_size(cells: Sequence[Mapping[str, Any]], data_set: str) -> Figure:
    """Draw accuracy over the number of training images: a line through the means of each model, a point each seed."""
    figure = new_figure((8, 5), titled("Test accuracy by number of training images", data_set))
    axes = figure.subplots()
    sizes = sorted({cell["train_images"] for cell in cells})
    for row, name in enumerate(dict.fromkeys(cell["model"] for cell in cells)):
        colour, marker = _look(name, row)
        points = [(cell["train_images"], cell["accuracy"]) for cell in cells if cell["model"] == name]
        means = [np.mean([accuracy for count, accuracy in points if count == size]) for size in sizes]
        axes.plot(sizes, means, color=colour, marker=marker, label=name)
        images, accuracies = zip(*points, strict=True)
        axes.scatter(images, accuracies, 14, color=colour, marker=marker, alpha=0.5, linewidths=0)
    axes.set_xscale("log")
    axes.set_xticks(sizes)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter("")
    axes.set(xlabel="Training images", ylabel="Accuracy (%)")
    axes.legend()
    return figure


@styled
def accuracy_by_parameters(
    recipes: Mapping[str, Mapping[str, Any]],
    models: Mapping[str, Mapping[str, Any]],
    published: Sequence[Mapping[str, Any]],
    data_set: str,
) -> Figure:
    """Draw accuracy over the number of parameters: a line through the means of the recipes, and other models beside it.

    Of the project's own models it shows the median: one training that fails does not move it.
    """
    figure = new_figure((8, 5), titled("Test accuracy by number of parameters", data_set))
    axes = figure.subplots()
    colour, marker = _look("recipe", 3)
    for each in recipes.values():
        counts = [each["parameters"]] * len(each["accuracies"])
        axes.scatter(counts, each["accuracies"], 14, color=colour, marker=marker, alpha=0.5, linewidths=0)
    means = sorted((each["parameters"], each["mean"]) for each in recipes.values())
    axes.plot(*zip(*means, strict=True), color=colour, marker=marker, label="this study, mean")
    for name, each in models.items():
        colour, marker = _look(name, 0)
        label = f"{name}, median of {len(each['accuracies'])}"
        axes.plot(each["parameters"], each["median"], color=colour, marker=marker, linestyle="", label=label)
    for each in published:
        axes.plot(each["parameters"], each["accuracy"], color="black", marker="x", linestyle="")
        place = (each["parameters"], each["accuracy"])
        axes.annotate(f"published: {each['source']}", place, (6, -8), textcoords="offset points", ha="right", va="top")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set(xlabel="Parameters", ylabel="Accuracy (%)")
    axes.margins(x=0.15)
    axes.legend(loc="lower right")
    return figure


def _look(name: str, row: int) -> tuple[str, str]:
    """Return colour and marker: of a model its own, of anything else those of its row."""
    model = name if name.startswith("model_") else f"model_{row}"
    return colour_of(model), marker_of(model)
