"""Every picture, drawn with matplotlib's object interface (importing pyplot costs more and keeps global state).

Functions return a `Figure`; `save` writes it, the same bytes for the same figure. Images are arrays `[28, 28]`, losses
are in nats, accuracies in percent. A picture of synthetic data says so in its title.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from stages.lib.files import replacing

RIGHT, WRONG = "#007a3d", "#c1121f"  # green and red, both dark enough to read on white
# Okabe and Ito's palette, told apart with any colour vision: https://jfly.uni-koeln.de/color/
MODEL_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")

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

History = Any  # columns by name, as in plots/curves/model_N.csv: a dictionary of lists or a data frame


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
    lines = max((text.count("\n") for text in titles), default=0) + 1
    figure = _figure((max(1.9 * columns, 3.2), (1.75 + 0.19 * lines) * rows + 0.5), titled(title, source))
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for index, axes in enumerate(grid):
        axes.axis("off")
        if index < len(images):
            _show(axes, images[index])
            axes.set_title(titles[index], fontsize=9, color=colours[index] if colours else "black")
    return figure


def loss_curves(histories: Mapping[str, History], title: str, source: str, watched: str = "test") -> Figure:
    """Loss and accuracy by epoch, one colour for each model; dashed on the training images, solid on `watched`."""
    figure = _figure((11, 4.5), titled(title, source))
    panels = zip(figure.subplots(1, 2), (("loss", "Loss (nats)"), ("acc", "Accuracy (%)")), strict=True)
    for axes, (column, label) in panels:
        for name, history in histories.items():
            style: dict[str, Any] = {"color": colour_of(name), "marker": "o", "markersize": 4}
            axes.plot(history["epoch"], history[f"train_{column}"], linestyle="--", alpha=0.7, **style)
            axes.plot(history["epoch"], history[f"test_{column}"], label=name, **style)
        axes.set(xlabel="Epoch", title=label)
        axes.xaxis.get_major_locator().set_params(integer=True)
    first = figure.axes[0]
    first.plot([], [], color="grey", linestyle="--", label="on training images")
    first.plot([], [], color="grey", label=f"on {watched} images")
    figure.legend(*first.get_legend_handles_labels(), loc="outside lower center", ncols=len(histories) + 2)
    return figure


def accuracy_bars(
    names: Sequence[str], accuracies: Sequence[float], intervals: Sequence[tuple[float, float]], source: str
) -> Figure:
    """Accuracy of each model with its 95 % confidence interval."""
    figure = _figure((7, 1.4 + 0.6 * len(names)), titled("Test accuracy with 95 % confidence interval", source))
    axes = figure.subplots()
    below = [accuracy - low for accuracy, (low, _) in zip(accuracies, intervals, strict=True)]
    above = [high - accuracy for accuracy, (_, high) in zip(accuracies, intervals, strict=True)]
    bars = axes.barh(
        names, accuracies, xerr=[below, above], capsize=4, color=[colour_of(name) for name in names], height=0.6
    )
    axes.bar_label(bars, [f"{accuracy:.2f} %" for accuracy in accuracies], label_type="center", color="white")
    axes.set(xlabel="Accuracy (%)", xlim=(0, 100))
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    return figure


def cost_against_accuracy(
    names: Sequence[str], costs: Sequence[float], accuracies: Sequence[float], cost_label: str, source: str
) -> Figure:
    """Accuracy of each model over what it costs, on a logarithmic axis."""
    figure = _figure((7, 4), titled(f"{cost_label.split(' (')[0]} against test accuracy", source))
    axes = figure.subplots()
    for name, cost, accuracy in zip(names, costs, accuracies, strict=True):
        axes.scatter(cost, accuracy, s=90, color=colour_of(name), zorder=3)
        axes.annotate(name, (cost, accuracy), xytext=(9, 5), textcoords="offset points")
    axes.set(xscale="log", xlabel=cost_label, ylabel="Accuracy (%)")
    axes.margins(x=0.25, y=0.2)
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


def _show(axes: Axes, image_HW: ArrayLike, cmap: str = "gray") -> None:
    axes.imshow(image_HW, cmap=cmap, vmin=0, vmax=255)
    axes.axis("off")
