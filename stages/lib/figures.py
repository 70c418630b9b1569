"""Every picture, drawn with matplotlib's object interface (importing pyplot costs more and keeps global state).

Functions return a `Figure`; `save` writes it, the same bytes for the same figure. Images are arrays `[28, 28]`, losses
are in nats, accuracies in percent. A picture of synthetic data says so in its title.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator
from numpy.typing import ArrayLike, NDArray

from stages.lib.files import replacing

RIGHT, WRONG = "#007a3d", "#c1121f"  # green and red, both dark enough to read on white
# Okabe and Ito's palette, told apart with any colour vision: https://jfly.uni-koeln.de/color/
MODEL_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
MODEL_MARKERS = "osD^vP"

mpl.rcParams.update(
    {
        "axes.grid": True,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlesize": "medium",
        "figure.dpi": 100,
        "figure.titlesize": "large",
        "font.family": "DejaVu Sans",  # ships with matplotlib: the same picture on every machine
        "grid.alpha": 0.3,
        "legend.frameon": False,
        "savefig.dpi": 100,
    }
)

Table = Any  # columns by name, as in plots/curves/model_N.csv: a dictionary of lists or a data frame


def save(figure: Figure, path: str | Path) -> None:
    """Write `figure` as PNG, without the version and date that matplotlib would put in."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


def titled(title: str, source: str) -> str:
    """`title`, marked when the data are synthetic."""
    return f"{title} (synthetic data)" if source == "synthetic" else title


def colour_of(name: str) -> str:
    """The colour of a model: the same in every picture."""
    return MODEL_COLOURS[int(name.rpartition("_")[2]) % len(MODEL_COLOURS)]


def marker_of(name: str) -> str:
    """The marker of a model. Of models that share a colour, the seventh and the first say, each has another."""
    number = int(name.rpartition("_")[2])
    return MODEL_MARKERS[(number + number // len(MODEL_COLOURS)) % len(MODEL_MARKERS)]


def first_image(image_HW: ArrayLike, class_name: str, source: str) -> Figure:
    """One image twice: in matplotlib's colour map and in grey."""
    figure = _figure((7, 4), titled(f"First training image: {class_name}", source))
    for axes, cmap in zip(figure.subplots(1, 2), ("viridis", "gray"), strict=True):
        _show(axes, image_HW, cmap=cmap)
        axes.set_title({"viridis": "matplotlib's colour map", "gray": "in grey"}[cmap])
    return figure


def image_grid(
    images_NHW: ArrayLike,
    titles: Sequence[str],
    title: str,
    source: str,
    columns: int,
    colours: Sequence[str] | None = None,
) -> Figure:
    """A grid of grey images, each under its title; `colours` are those of the titles."""
    images = list(images_NHW)  # type: ignore[arg-type]
    columns = max(1, min(columns, len(images)))
    rows = max(1, -(-len(images) // columns))
    lines = [line for text in titles for line in text.split("\n")]
    below = max((text.count("\n") for text in titles), default=0) + 1
    title = titled(title, source)
    # inches: as wide as the longest line of any title, about 0.078 for each letter of 9 points and 0.105 of 12
    width = max(columns * max(1.9, *(0.078 * len(line) for line in lines), 0), 0.105 * len(title))
    figure = _figure((width, (1.75 + 0.19 * below) * rows + 0.5), title)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for index, axes in enumerate(grid):
        axes.axis("off")
        if index < len(images):
            _show(axes, images[index])
            axes.set_title(titles[index], fontsize=9, color=colours[index] if colours else "black")
    if not images:
        grid[0].text(0.5, 0.5, "none", ha="center")
    return figure


def loss_curves(histories: Mapping[str, Table], title: str, source: str, watched: str = "test") -> Figure:
    """Loss and accuracy by epoch, one colour for each model; dashed on the training images, solid on `watched`."""
    figure = _figure((11, 4.5), titled(title, source))
    panels = zip(figure.subplots(1, 2), (("loss", "Loss (nats)"), ("acc", "Accuracy (%)")), strict=True)
    for axes, (column, label) in panels:
        for name, history in histories.items():
            style: dict[str, Any] = {"color": colour_of(name), "marker": marker_of(name), "markersize": 4}
            axes.plot(history["epoch"], history[f"train_{column}"], linestyle="--", alpha=0.7, **style)
            axes.plot(history["epoch"], history[f"test_{column}"], label=name, **style)
        axes.set(xlabel="Epoch", title=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))  # whole epochs, even of a single one
    first = figure.axes[0]
    first.plot([], [], color="grey", linestyle="--", label="on training images")
    first.plot([], [], color="grey", label=f"on {watched} images")
    _legend_below(figure, first)
    return figure


def accuracy_intervals(
    names: Sequence[str], accuracies: Sequence[float], intervals: Sequence[tuple[float, float]], source: str
) -> Figure:
    """Accuracy of each model with its 95 % confidence interval, on a scale that shows how far the intervals reach."""
    figure = _figure((7, 1.5 + 0.6 * len(names)), titled("Test accuracy with 95 % confidence interval", source))
    axes = figure.subplots()
    for row, (name, accuracy, (low, high)) in enumerate(zip(names, accuracies, intervals, strict=True)):
        axes.plot([low, high], [row, row], color=colour_of(name), linewidth=3, solid_capstyle="butt")
        axes.plot(accuracy, row, color=colour_of(name), marker=marker_of(name), markersize=9)
        text = f"{accuracy:.2f} %  ({low:.2f} to {high:.2f})"
        axes.annotate(text, (accuracy, row), xytext=(0, 9), textcoords="offset points", ha="center")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="Accuracy (%)", ylim=(len(names) - 0.4, -0.7))
    axes.margins(x=0.2)  # room for the text of the first and the last
    axes.grid(visible=False, axis="y")
    return figure


def accuracy_against_costs(
    names: Sequence[str],
    accuracies: Sequence[float],
    costs: Mapping[str, Sequence[float]],
    title: str,
    source: str,
) -> Figure:
    """One panel for each kind of cost, with the accuracy of each model over what it costs.

    Args:
        names: the models.
        accuracies: of each model, in percent.
        costs: the label of each panel and, for each model, the cost; none below 0.
        title: of the whole.
        source: of the data.
    """
    figure = _figure((max(3.6 * len(costs), 6), 4.2), titled(title, source))
    panels = figure.subplots(1, len(costs), squeeze=False, sharey=True)[0]
    for axes, (label, values) in zip(panels, costs.items(), strict=True):
        for name, cost, accuracy in zip(names, values, accuracies, strict=True):
            style: dict[str, Any] = {"color": colour_of(name), "marker": marker_of(name)}
            axes.plot(cost, accuracy, markersize=10, linestyle="", label=name, zorder=3, **style)
        if min(values) > 0 and max(values) >= 5 * min(values):
            axes.set_xscale("log")
            axes.set_xlim(min(values) / 2, max(values) * 2)
            few = max(values) < 30 * min(values)  # there may be but one power of ten between them
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
            axes.xaxis.set_minor_formatter("")
        else:  # from 0, so that what hardly differs does not look as if it did
            axes.set_xlim(0, max(*values, 1) * 1.25)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set_xlabel(label)
    panels[0].set_ylabel("Accuracy (%)")
    panels[0].margins(y=0.2)
    _legend_below(figure, panels[0])
    return figure


def reliability(bins: Mapping[str, Table], errors_pct: Mapping[str, float], source: str) -> Figure:
    """Accuracy over confidence for each model, and below it how many images have that confidence.

    Args:
        bins: for each model the columns confidence_pct, accuracy_pct and images, in order of confidence.
        errors_pct: expected calibration error of each model.
        source: of the data.
    """
    figure = _figure((7, 7), titled("Is a model right as often as it is confident?", source))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot([0, 100], [0, 100], color="grey", linestyle=":", label="as confident as right")
    for name, table in bins.items():
        style: dict[str, Any] = {"color": colour_of(name), "marker": marker_of(name), "markersize": 5}
        label = f"{name}: {errors_pct[name]:.1f} % apart on average"
        above.plot(table["confidence_pct"], table["accuracy_pct"], label=label, **style)
        below.plot(table["confidence_pct"], table["images"], **style)
    above.set(ylabel="Accuracy (%)", ylim=(-2, 102))  # room for the marks at 0 and at 100
    above.legend(loc="upper left")
    below.set(xlabel="Confidence (%)", ylabel="Images", xlim=(0, 102), yscale="log")
    return figure


def filters(layers: Mapping[str, tuple[str, NDArray[Any]]], source: str, most: int = 10) -> Figure:
    """The weights of each model's first layer as pictures: what its units look for.

    Args:
        layers: for each model what to call its first layer, and the weights of that layer's units `[U, H, W]`.
        source: of the data.
        most: units shown of each model.
    """
    title = titled("First-layer weights: blue below 0, white 0, red above", source)
    columns = min(most, max((len(weights_UHW) for _, weights_UHW in layers.values()), default=1))
    rows = max(len(layers), 1)
    figure = _figure((max(2 + 0.9 * columns, 6), 0.7 + 1.0 * rows), title)
    axes_of_rows = figure.subplots(rows, squeeze=False)[:, 0]
    for axes, (name, (label, weights_UHW)) in zip(axes_of_rows, layers.items(), strict=False):
        shown_UHW = weights_UHW[:columns]
        largest = float(np.abs(shown_UHW).max()) or 1.0  # each model on a scale of its own
        for number, weights_HW in enumerate(shown_UHW):
            axes.imshow(weights_HW, cmap="RdBu_r", vmin=-largest, vmax=largest, extent=(number, number + 0.88, 0, 0.88))
        axes.set(xlim=(0, columns), ylim=(0, 0.88))
        count = f"{len(shown_UHW)} of {len(weights_UHW)} units"
        axes.text(-0.15, 0.44, f"{name}\n{label}\n{count}", ha="right", va="center")
    for axes in axes_of_rows:
        axes.axis("off")
    if not layers:
        axes_of_rows[0].text(0.5, 0.5, "no first layer whose weights make a picture", ha="center")
    return figure


def confusion(counts_KK: NDArray[Any], class_names: Sequence[str], title: str, source: str) -> Figure:
    """Confusion matrix, rows true and columns predicted; shaded by the share of the row, counts written in."""
    figure = _figure((8, 7.4), titled(title, source))
    axes = figure.subplots()
    shares_KK = counts_KK / counts_KK.sum(axis=1, keepdims=True).clip(min=1)
    axes.imshow(shares_KK, cmap="Blues", vmin=0, vmax=1)
    for row in range(len(class_names)):
        for column in range(len(class_names)):
            colour = "white" if shares_KK[row, column] > 0.5 else "black"
            axes.text(column, row, f"{counts_KK[row, column]}", ha="center", va="center", color=colour, fontsize=9)
    axes.set_xticks(range(len(class_names)), class_names, rotation=45, ha="right")
    axes.set_yticks(range(len(class_names)), class_names)
    axes.set(xlabel="Predicted class", ylabel="True class")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    return figure


def regression(
    train_x: ArrayLike, train_y: ArrayLike, test_x: ArrayLike, test_y: ArrayLike, predictions: ArrayLike | None = None
) -> Figure:
    """Scatter of a regression: training data blue, test data green, predictions for the test data red; all `[N]`."""
    figure = _figure((8, 5), "Training data, test data and predictions")
    axes = figure.subplots()
    axes.scatter(train_x, train_y, c="tab:blue", s=12, label="Training data")
    axes.scatter(test_x, test_y, c="tab:green", s=12, label="Test data")
    if predictions is not None:
        axes.scatter(test_x, predictions, c="tab:red", s=12, label="Predictions")
    axes.legend()
    return figure


def _figure(size: tuple[float, float], title: str) -> Figure:
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title)
    return figure


def _legend_below(figure: Figure, axes: Axes) -> None:
    """What stands for what in `axes`, under the whole figure, in as many columns as its width has room for."""
    handles, labels = axes.get_legend_handles_labels()
    columns = min(len(labels), int(figure.get_figwidth() / 1.7))  # inches for an entry such as "on training images"
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def _show(axes: Axes, image_HW: ArrayLike, cmap: str = "gray") -> None:
    axes.imshow(np.asarray(image_HW), cmap=cmap, vmin=0, vmax=255)
    axes.axis("off")
