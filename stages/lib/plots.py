"""Every picture, drawn with matplotlib's object interface (importing pyplot costs more and keeps global state).

Functions return a `Figure`; `save` writes it, the same bytes for the same figure. Losses are in nats, accuracies in
percent. A picture of synthetic data says so in its title, one of another data set than FashionMNIST names it.

Shapes: N images, C channels (1 or 3), H x W pixels, K classes, U units.
"""

import math
import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator
from numpy.typing import ArrayLike, NDArray

from stages.lib.base.files import replacing

CORRECT, WRONG = "#007a3d", "#c1121f"  # green and red, both dark enough to read on white
# Okabe and Ito's palette, told apart with any colour vision: https://jfly.uni-koeln.de/color/
MODEL_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
MODEL_MARKERS = "osD^vP"
CHANNELS = ("red", "green", "blue")
PIXELS_PER_INCH = 150
LONGEST_NAME = 32  # letters of a class's name; from a longer one the middle is left out
FEW_CLASSES = 10  # with more, confusion matrix and recall grow, and their text shrinks

STYLE = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": "medium",
    "figure.dpi": PIXELS_PER_INCH,
    "figure.titlesize": "large",
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same picture on every machine
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "savefig.dpi": PIXELS_PER_INCH,
}
# For drawing and saving alone, not for the whole process. "default" first: a matplotlibrc of the user changes nothing.
styled = style.context(["default", STYLE])

Table = Any  # columns by name, as in plots/curves/model_N.csv: a dictionary of lists or a data frame


@styled
def save(figure: Figure, path: str | Path) -> None:
    """Write `figure` as PNG, without the version and date that matplotlib would put in."""
    with replacing(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a name from outside may have letters that the font lacks
        figure.savefig(temporary, format="png", metadata={"Software": None})


def titled(title: str, data_set: str) -> str:
    """Say in `title` which data set it is, unless it is FashionMNIST, and that synthetic data are synthetic."""
    if data_set in ("", "fashion-mnist", "FashionMNIST"):
        return title
    return f"{title} ({'synthetic data' if data_set == 'synthetic' else short(data_set)})"


def short(name: str, most: int = LONGEST_NAME) -> str:
    """Leave out the middle of a name of more than `most` letters."""
    return name if len(name) <= most else f"{name[: most // 2]}…{name[-(most - most // 2 - 1) :]}"


def _width(text: str) -> int:
    """Return how many letters of usual width a text takes: Chinese ones are twice as wide."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def colour_of(name: str) -> str:
    """Return the colour of a model: the same in every picture."""
    return MODEL_COLOURS[int(name.rpartition("_")[2]) % len(MODEL_COLOURS)]


def marker_of(name: str) -> str:
    """Return the marker of a model. Models that share a colour, such as the first and the seventh, differ in it."""
    number = int(name.rpartition("_")[2])
    return MODEL_MARKERS[(number + number // len(MODEL_COLOURS)) % len(MODEL_MARKERS)]


@styled
def first_image(image_CHW: ArrayLike, class_name: str, data_set: str) -> Figure:
    """Draw one image: a grey one in matplotlib's colour map and in grey, one in colour beside its three channels."""
    image = as_drawn(image_CHW)
    panels = [(image, "viridis", "matplotlib's colour map"), (image, "gray", "in grey")]
    if image.ndim == 3:
        channels = [(image[..., index], "gray", name) for index, name in enumerate(CHANNELS)]
        panels = [(image, "gray", "in colour"), *channels]
    title = titled(f"First training image: {short(class_name)}", data_set)
    figure = new_figure((max(3.5 * min(len(panels), 3), 0.105 * _width(title)), 4), title)
    for axes, (pixels, cmap, name) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        _show(axes, pixels, cmap=cmap)
        axes.set_title(name)
    return figure


@styled
def image_grid(
    images: Sequence[ArrayLike] | ArrayLike,
    titles: Sequence[str],
    title: str,
    data_set: str,
    columns: int,
    colours: Sequence[str] | None = None,
) -> Figure:
    """Draw a grid of images, `[H, W]` or `[C, H, W]`, each under its title; `colours` are those of the titles."""
    drawn = [as_drawn(image) for image in images]  # type: ignore[union-attr]
    columns = max(1, min(columns, len(drawn)))
    rows = max(1, -(-len(drawn) // columns))
    lines = [line for text in titles for line in text.split("\n")]
    below = max((text.count("\n") for text in titles), default=0) + 1
    title = titled(title, data_set)
    # inches: as wide as the longest line of any title, about 0.078 for each letter of 9 points and 0.105 of 12
    width = max(columns * max(1.9, *(0.078 * _width(line) for line in lines), 0), 0.105 * _width(title))
    figure = new_figure((width, (1.75 + 0.19 * below) * rows + 0.5), title)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for index, axes in enumerate(grid):
        axes.axis("off")
        if index < len(drawn):
            _show(axes, drawn[index])
            colour = colours[index] if colours else "black"
            axes.set_title(titles[index], fontsize=9, color=colour, parse_math=False)
    if not drawn:
        grid[0].text(0.5, 0.5, "none", ha="center")
    return figure


@styled
def loss_curves(histories: Mapping[str, Table], title: str, data_set: str, held_out: str = "test") -> Figure:
    """Draw loss and accuracy by epoch, one colour for each model: dashed in training, solid on the images held out.

    Args:
        histories: for each model the columns epoch, train_loss, train_acc, test_loss and test_acc.
        title: of the whole.
        data_set: which images.
        held_out: the images on which the models are evaluated after each epoch: `test` or `validation`.
    """
    figure = new_figure((11, 4.5), titled(title, data_set))
    panels = zip(figure.subplots(1, 2), (("loss", "Loss (nats)"), ("acc", "Accuracy (%)")), strict=True)
    for axes, (column, label) in panels:
        for name, history in histories.items():
            look = _look(name, size=4)
            axes.plot(history["epoch"], history[f"train_{column}"], linestyle="--", alpha=0.7, **look)
            axes.plot(history["epoch"], history[f"test_{column}"], label=name, **look)
        axes.set(xlabel="Epoch", title=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))  # whole epochs, even of a single one
    first = figure.axes[0]
    first.plot([], [], color="grey", linestyle="--", label="on training images")
    first.plot([], [], color="grey", label=f"on {held_out} images")
    _legend_below(figure, first)
    return figure


@styled
def accuracy_intervals(
    names: Sequence[str], accuracies: Sequence[float], intervals: Sequence[tuple[float, float]], data_set: str
) -> Figure:
    """Draw the accuracy of each model with its 95 % confidence interval, on a scale wide enough for the intervals."""
    figure = new_figure((7, 1.5 + 0.6 * len(names)), titled("Test accuracy with 95 % confidence interval", data_set))
    axes = figure.subplots()
    for row, (name, accuracy, (low, high)) in enumerate(zip(names, accuracies, intervals, strict=True)):
        axes.plot([low, high], [row, row], color=colour_of(name), linewidth=3, solid_capstyle="butt")
        axes.plot(accuracy, row, **_look(name, size=9))
        text = f"{accuracy:.2f} %  ({low:.2f} to {high:.2f})"
        axes.annotate(text, (accuracy, row), xytext=(0, 9), textcoords="offset points", ha="center")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="Accuracy (%)", ylim=(len(names) - 0.4, -0.7))
    axes.margins(x=0.2)  # room for the text of the first and the last
    axes.grid(visible=False, axis="y")
    return figure


@styled
def accuracy_against_costs(
    names: Sequence[str],
    accuracies: Sequence[float],
    costs: Mapping[str, Sequence[float | None]],
    title: str,
    data_set: str,
) -> Figure:
    """Draw the accuracy of each model over its cost, one panel for each kind of cost.

    Args:
        names: the models.
        accuracies: of each model, in percent.
        costs: the label of each panel and, for each model, the cost, not below 0; None where it is not known.
        title: of the whole.
        data_set: which images.
    """
    figure = new_figure((max(3.6 * len(costs), 6), 4.2), titled(title, data_set))
    panels = figure.subplots(1, len(costs), squeeze=False, sharey=True)[0]
    for axes, (label, values) in zip(panels, costs.items(), strict=True):
        for name, cost, accuracy in zip(names, values, accuracies, strict=True):
            drawn = math.nan if cost is None else cost  # not drawn, yet in the legend of the other panels
            axes.plot(drawn, accuracy, linestyle="", label=name, zorder=3, **_look(name, size=10))
        axes.set_xlabel(label)
        known = [cost for cost in values if cost is not None]
        if not known:
            axes.text(0.5, 0.5, "not known of any model", transform=axes.transAxes, ha="center")
            axes.plot([0] * len(accuracies), accuracies, linestyle="")  # shows nothing, gives the axis its range
            axes.set_xticks([])
            continue
        if min(known) > 0 and max(known) >= 5 * min(known):
            axes.set_xscale("log")
            axes.set_xlim(min(known) / 2, max(known) * 2)
            few = max(known) < 30 * min(known)  # there may be but one power of ten between them
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
            axes.xaxis.set_minor_formatter("")
        else:  # from 0, so that what hardly differs does not look as if it did
            axes.set_xlim(0, max(*known, 1) * 1.25)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    panels[0].set_ylabel("Accuracy (%)")
    panels[0].margins(y=0.2)
    _legend_below(figure, panels[0])
    return figure


@styled
def reliability(bins: Mapping[str, Table], errors_pct: Mapping[str, float], data_set: str) -> Figure:
    """Draw accuracy over confidence for each model: the larger a point, the more images have that confidence.

    Args:
        bins: for each model the columns confidence_pct, accuracy_pct and images, in order of confidence.
        errors_pct: expected calibration error of each model.
        data_set: which images.
    """
    figure = new_figure((7, 6.5), titled("Is a model right as often as it is confident?", data_set))
    axes = figure.subplots()
    axes.plot([0, 100], [0, 100], color="grey", linestyle=":", label="as confident as right")
    most = max((max(table["images"], default=1) for table in bins.values()), default=1)
    for name, table in bins.items():
        colour, confidence, accuracy = colour_of(name), table["confidence_pct"], table["accuracy_pct"]
        axes.plot(confidence, accuracy, color=colour, linewidth=1, alpha=0.6)
        areas = [12 + 400 * images / most for images in table["images"]]  # points squared
        axes.scatter(confidence, accuracy, areas, color=colour, marker=marker_of(name), alpha=0.6, linewidths=0)
        label = f"{name}: {errors_pct[name]:.1f} % apart on average"
        axes.plot([], [], color=colour, marker=marker_of(name), markersize=6, label=label)
    axes.set(xlabel="Confidence (%)", ylabel="Accuracy (%)", xlim=(0, 104), ylim=(-4, 104))  # room for large points
    axes.legend(loc="upper left", title="The larger a point, the more images", alignment="left")
    return figure


@styled
def recall(recalls_pct: Mapping[str, Sequence[float]], class_names: Sequence[str], data_set: str) -> Figure:
    """Draw for each class, a row each, which percentage of its images each model finds; NaN where it has none."""
    title = titled("Of the test images of each class, how many does a model find?", data_set)
    rows = [_or_empty(name, row, recalls_pct) for row, name in enumerate(class_names)]
    return _points_by_row(recalls_pct, rows, title, "Recall (%)")


@styled
def behaviour(accuracies: Mapping[str, Sequence[float]], changes: Sequence[str], data_set: str) -> Figure:
    """Draw the accuracy of each model on the test images as they are and changed in several ways, a row each."""
    title = titled("Test accuracy when the images are changed a little", data_set)
    return _points_by_row(accuracies, changes, title, "Accuracy (%)")


@styled
def filters(layers: Mapping[str, tuple[str, NDArray[Any]]], data_set: str, most: int = 10) -> Figure:
    """Draw the weights of each model's first layer as pictures: what its units look for.

    Args:
        layers: for each model what to call its first layer, and the weights of that layer's units, `[U, H, W]`, or
            `[U, 3, H, W]` where it reads colours.
        data_set: which images.
        most: units shown of each model.
    """
    legends = {3: "blue below 0, white 0, red above", 4: "in colour, grey is 0"}
    seen = sorted({weights.ndim for _, weights in layers.values()}) or [3]
    title = titled(f"First-layer weights: {'; '.join(legends[each] for each in seen)}", data_set)
    columns = min(most, max((len(weights) for _, weights in layers.values()), default=1))
    rows = max(len(layers), 1)
    figure = new_figure((max(2 + 0.9 * columns, 6, 0.105 * len(title) if seen != [3] else 0), 0.7 + 1.0 * rows), title)
    axes_of_rows = figure.subplots(rows, squeeze=False)[:, 0]
    for axes, (name, (label, weights)) in zip(axes_of_rows, layers.items(), strict=False):
        shown = weights[:columns]
        largest = float(np.abs(shown).max()) or 1.0  # each model on a scale of its own
        for number, unit in enumerate(shown):
            # in colour a weight of 0 is half of the light, the largest all of it
            pixels = np.moveaxis(0.5 + unit / (2 * largest), 0, -1).clip(0, 1) if unit.ndim == 3 else unit
            axes.imshow(pixels, cmap="RdBu_r", vmin=-largest, vmax=largest, extent=(number, number + 0.88, 0, 0.88))
        axes.set(xlim=(0, columns), ylim=(0, 0.88))
        count = f"{len(shown)} of {len(weights)} units"
        axes.text(-0.15, 0.44, f"{name}\n{label}\n{count}", ha="right", va="center")
    for axes in axes_of_rows:
        axes.axis("off")
    if not layers:
        axes_of_rows[0].text(0.5, 0.5, "no first layer whose weights make a picture", ha="center")
    return figure


@styled
def feature_maps(
    image_CHW: ArrayLike, layers: Mapping[str, NDArray[Any]], title: str, data_set: str, most: int = 10
) -> Figure:
    """Draw what each layer makes of an image: a column for each layer, a picture for each of its maps.

    Args:
        image_CHW: the image.
        layers: what to call each layer, and its maps `[U, H, W]`.
        title: of the whole.
        data_set: which images.
        most: maps shown of each layer.
    """
    rows = min(most, max((len(maps_UHW) for maps_UHW in layers.values()), default=1))
    title = titled(title, data_set)
    longest = max((len(line) for label in layers for line in label.split("\n")), default=0)
    # inches: as wide as the longest line of any label, or as the title
    width = max((len(layers) + 1) * max(0.85, 0.075 * longest), 0.105 * _width(title), 6)
    figure = new_figure((width, 1.2 + 0.7 * rows), title)
    first, *columns = figure.subplots(1, len(layers) + 1, squeeze=False)[0]
    _show(first, as_drawn(image_CHW))
    first.set_title("image" if layers else "no layer makes maps of it", fontsize=8)
    for axes, (label, maps_UHW) in zip(columns, layers.items(), strict=True):
        largest = float(np.abs(maps_UHW).max()) or 1.0  # each layer on a scale of its own
        for number, map_HW in enumerate(maps_UHW[:rows]):
            top = rows - number
            axes.imshow(map_HW, cmap="RdBu_r", vmin=-largest, vmax=largest, extent=(0, 0.9, top - 0.9, top))
        axes.set(xlim=(0, 0.9), ylim=(0, rows))
        axes.set_title(label, fontsize=8, parse_math=False)
        axes.axis("off")
    return figure


@styled
def confusion(counts_KK: NDArray[Any], class_names: Sequence[str], title: str, data_set: str) -> Figure:
    """Draw a confusion matrix, rows true and columns predicted, and name the largest confusions beside it.

    Colour is for the confusions, by their proportion of the row; what is right stands on grey.
    """
    names = [short(name) for name in class_names]
    lines = [
        f"{true} \N{RIGHTWARDS ARROW} {predicted}: {images:,}"
        for true, predicted, images in largest_confusions(counts_KK, names, most=max(10, len(names) // 2))
    ]
    heading = "Taken for another class most often" if lines else "Nothing is taken for another class"
    text_inches = 0.085 * max(map(_width, [heading, *lines]))
    side_inches = 8 + 0.22 * max(0, len(names) - FEW_CLASSES)
    height = side_inches + (0.4 if len(names) > FEW_CLASSES else -0.6)
    figure = new_figure((side_inches + text_inches, height), titled(title, data_set))
    axes, words = figure.subplots(1, 2, width_ratios=(side_inches, text_inches))
    words.text(0, 1, "\n".join([heading, "", *lines]), va="top", linespacing=1.6, parse_math=False)
    words.axis("off")
    _matrix(axes, counts_KK, names)
    return figure


def largest_confusions(
    counts_KK: NDArray[Any], class_names: Sequence[str], most: int = 10
) -> list[tuple[str, str, int]]:
    """Return true class, predicted class and number of images of the largest confusions, the largest first."""
    wrong_KK = _wrong(counts_KK)
    order = np.argsort(-wrong_KK, axis=None, kind="stable")[:most]
    pairs = [divmod(int(index), len(class_names)) for index in order]
    return [
        (class_names[true], class_names[predicted], int(wrong_KK[true, predicted]))
        for true, predicted in pairs
        if wrong_KK[true, predicted]
    ]


@styled
def prediction(
    title: str, given: ArrayLike, seen_CHW: ArrayLike, inverted: bool, ranking: Sequence[tuple[str, float]]
) -> Figure:
    """Draw a picture as it is and as a model sees it, and bars for the probabilities of its likeliest ten classes.

    Args:
        title: of the whole.
        given: the picture as it is, `[H, W, 3]`.
        seen_CHW: what the model sees of it.
        inverted: whether that is a negative.
        ranking: classes with their probabilities, the likeliest first.
    """
    figure = new_figure((10, 3.6), title)
    *panels, bars = figure.subplots(1, 3, width_ratios=(1, 1, 1.2))
    seen = "as the model sees it" + (", inverted" if inverted else "")
    for axes, image, name in zip(panels, (given, as_drawn(seen_CHW)), ("as it is", seen), strict=True):
        _show(axes, np.asarray(image))
        axes.set_title(name, fontsize=9)
        axes.set_anchor("N")  # the top edges level, whatever the proportions
    names, probabilities = zip(*ranking[:10], strict=True)
    rows = range(len(names))
    drawn = bars.barh(rows, probabilities, color=["tab:blue"] + ["lightsteelblue"] * (len(names) - 1))
    bars.bar_label(drawn, [f"{100 * probability:.1f} %" for probability in probabilities], padding=3, fontsize=9)
    bars.set_yticks(rows, [short(name) for name in names], fontsize=9, parse_math=False)
    bars.invert_yaxis()
    bars.set_xlim(0, 1.25)  # room for the label of a full bar
    bars.set_xticks([])
    bars.grid(visible=False)
    bars.spines[:].set_visible(False)
    bars.tick_params(length=0)
    return figure


def new_figure(size: tuple[float, float], title: str) -> Figure:
    """Make an empty figure of that many inches. A dollar sign in a text from outside starts no formula."""
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title, parse_math=False)
    return figure


def _points_by_row(values: Mapping[str, Sequence[float]], rows: Sequence[str], title: str, label: str) -> Figure:
    """Draw for each row a point of each model, in percent."""
    row_inches = 0.42 if len(rows) <= FEW_CLASSES else 0.3
    figure = new_figure((8, 1.6 + row_inches * len(rows)), title)
    axes = figure.subplots()
    heights = np.arange(len(rows))
    shifts = (np.arange(len(values)) - (len(values) - 1) / 2) * 0.6 / len(values)  # none hides another
    for shift, (name, points) in zip(shifts, values.items(), strict=True):
        axes.plot(points, heights + shift, linestyle="", label=name, clip_on=False, zorder=3, **_look(name, size=7))
    axes.set_yticks(heights, rows, parse_math=False)
    axes.set(xlabel=label, xlim=(0, 100), ylim=(len(rows) - 0.5, -0.5))
    _legend_below(figure, axes)
    return figure


def _look(name: str, size: float) -> dict[str, Any]:
    return {"color": colour_of(name), "marker": marker_of(name), "markersize": size}


def _legend_below(figure: Figure, axes: Axes) -> None:
    """Put the legend of `axes` under the whole figure, in as many columns as its width has room for."""
    handles, labels = axes.get_legend_handles_labels()
    columns = min(len(labels), int(figure.get_figwidth() / 1.7))  # inches for an entry such as "on training images"
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def as_drawn(image: ArrayLike) -> NDArray[Any]:
    """Return an image `[C, H, W]`, or a grey one `[H, W]`, as matplotlib draws it: `[H, W]`, in colour `[H, W, 3]`."""
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        return pixels
    return pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1).round().astype(np.uint8)


def _show(axes: Axes, pixels: NDArray[Any], cmap: str = "gray") -> None:
    axes.imshow(pixels, cmap=cmap, vmin=0, vmax=255)
    axes.axis("off")


def _or_empty(class_name: str, row: int, recalls_pct: Mapping[str, Sequence[float]]) -> str:
    """Return the name of a class for its row in the picture of recalls; a class without images says so."""
    absent = any(math.isnan(values[row]) for values in recalls_pct.values())
    return f"{short(class_name)} (no images)" if absent else short(class_name)


def _wrong(counts_KK: NDArray[Any]) -> NDArray[Any]:
    """Return the counts of a confusion matrix with nothing on the diagonal."""
    return np.where(np.eye(len(counts_KK)), 0, counts_KK)


def _matrix(axes: Axes, counts_KK: NDArray[Any], class_names: Sequence[str]) -> None:
    """Draw the counts of a confusion matrix: what is wrong in colour, by its proportion of the row."""
    proportions_KK = _wrong(counts_KK) / counts_KK.sum(axis=1, keepdims=True).clip(min=1)
    highest = float(proportions_KK.max()) or 1.0
    axes.imshow(np.where(np.eye(len(class_names)), np.nan, proportions_KK), cmap="Oranges", vmin=0, vmax=highest)
    axes.set_facecolor("#e8e8e8")
    many = len(class_names) > FEW_CLASSES
    for row, column in product(range(len(class_names)), repeat=2):
        if many and not counts_KK[row, column]:
            continue  # so that what is there is seen
        colour = "white" if proportions_KK[row, column] > 0.65 * highest else "black"
        weight = "bold" if row == column else "normal"
        text = f"{counts_KK[row, column]}"
        size = 7 if many else 9
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=size, fontweight=weight)
    axes.set_xticks(range(len(class_names)), class_names, rotation=45, ha="right", parse_math=False)
    axes.set_yticks(range(len(class_names)), class_names, parse_math=False)
    axes.set(xlabel="Predicted class", ylabel="True class")
    axes.grid(visible=False)
    if many:  # lines to follow from a cell to its classes
        axes.tick_params(labelsize=8)
        axes.set_anchor("N")  # what is left of the height goes to the names below
        axes.set_xticks(np.arange(len(class_names) - 1) + 0.5, minor=True)
        axes.set_yticks(np.arange(len(class_names) - 1) + 0.5, minor=True)
        axes.grid(visible=True, which="minor", alpha=0.25)
        axes.tick_params(which="minor", length=0)
    axes.spines[:].set_visible(False)
