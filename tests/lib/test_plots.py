"""The pictures: that they say what they must, for one model or many, and that nothing in them is cut off."""

import io
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from stages.lib import plots
from stages.lib.source.idx_sets import CLASS_NAMES

Costs = dict[str, list[float | None]]

LONG_NAMES = [f"Double-breasted overcoat no. {number}" for number in range(10)]


def images(count: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (count, 28, 28), dtype=np.uint8)


def names(count: int) -> list[str]:
    return [f"model_{number}" for number in range(count)]


def history(epochs: int = 3) -> dict[str, Any]:
    numbers = list(range(1, epochs + 1))
    return {"epoch": numbers} | {
        column: [1 / number for number in numbers] for column in ("train_loss", "test_loss", "train_acc", "test_acc")
    }


def bins() -> dict[str, Any]:
    return {"confidence_pct": [35, 71, 98], "accuracy_pct": [20, 80, 99], "images": [3, 40, 900]}


# Every picture, drawn for a number of models where it shows several.
PICTURES: dict[str, Callable[[int, str], Figure]] = {
    "first_image": lambda _, source: plots.first_image(images(1)[0], "Ankle boot", source),
    "image_grid": lambda count, source: plots.image_grid(images(count), ["Coat"] * count, "Some", source, 3),
    "loss_curves": lambda count, source: plots.loss_curves(
        {name: history() for name in names(count)}, "Loss and accuracy by epoch", source
    ),
    "accuracy_intervals": lambda count, source: plots.accuracy_intervals(
        names(count), [80.0 + row for row in range(count)], [(79.0 + row, 80.5 + row) for row in range(count)], source
    ),
    "accuracy_against_costs": lambda count, source: plots.accuracy_against_costs(
        names(count),
        [80.0] * count,
        {"Parameters": [7_000] * count, "Time (s)": [10.0**row for row in range(count)]},
        "Test accuracy against size",
        source,
    ),
    "reliability": lambda count, source: plots.reliability(
        {name: bins() for name in names(count)}, dict.fromkeys(names(count), 1.5), source
    ),
    "filters": lambda count, source: plots.filters(
        {name: ("Conv2d", images(16)[:, :3, :3] - 128.0) for name in names(count)}, source
    ),
    "feature_maps": lambda count, source: plots.feature_maps(
        images(1)[0],
        {f"block_{number}.layers.0\nBatchNorm2d": images(12) - 128.0 for number in range(count)},
        "What the layers of model_2 make of an image: Ankle boot",
        source,
    ),
    "prediction": lambda count, source: plots.prediction(
        plots.titled("shirt.png\nAnkle boot, 17.0 %", source),
        images(1)[0],
        images(1)[0],
        True,
        [("Coat", 1 / count)] * count,
    ),
    "recall": lambda count, source: plots.recall(
        {name: [92.0, 0.0, 100.0] for name in names(count)}, ["Dress", "Coat", "Bag"], source
    ),
    "behaviour": lambda count, source: plots.behaviour(
        {name: [92.0, 0.0] for name in names(count)}, ["as they are", "mirrored"], source
    ),
    "confusion": lambda _, source: plots.confusion(np.eye(10, dtype=int), CLASS_NAMES, "Confusion matrix", source),
}
KINDS = pytest.mark.parametrize("kind", PICTURES)


def texts(figure: Figure) -> list[Text]:
    """The texts that a reader sees, placed. Not `findobj`: it finds ticks too that lie beyond their axis, unseen."""
    drawn: list[Text] = []
    draw = Text.draw

    def note(text: Text, *arguments: Any) -> None:
        drawn.append(text)
        draw(text, *arguments)

    with patch.object(Text, "draw", note):
        figure.savefig(io.BytesIO(), format="png")
    return [text for text in dict.fromkeys(drawn) if text.get_visible() and text.get_text().strip()]


def cut_off(figure: Figure) -> list[str]:
    """Texts that lie in part outside the picture."""
    width, height = figure.bbox.size
    boxes = {text.get_text(): text.get_window_extent() for text in texts(figure)}
    return [
        text for text, box in boxes.items() if box.x0 < -1 or box.y0 < -1 or box.x1 > width + 1 or box.y1 > height + 1
    ]


@KINDS
def test_synthetic_data_in_the_title(kind: str) -> None:
    assert "(synthetic data)" in PICTURES[kind](1, "synthetic").get_suptitle()
    assert "synthetic" not in PICTURES[kind](1, "fashion-mnist").get_suptitle()


@KINDS
def test_another_data_set_in_the_title(kind: str) -> None:
    assert "(planets)" in PICTURES[kind](1, "planets").get_suptitle()


@KINDS
@pytest.mark.parametrize("count", [1, 6])
def test_no_text_is_cut_off(kind: str, count: int) -> None:
    assert cut_off(PICTURES[kind](count, "synthetic")) == []


@KINDS
def test_same_bytes_each_time(kind: str, tmp_path: Path) -> None:
    for name in ("first.png", "second.png"):
        plots.save(PICTURES[kind](3, "fashion-mnist"), tmp_path / name)
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()


def test_settings_of_the_user(tmp_path: Path) -> None:
    plots.save(PICTURES["reliability"](2, "fashion-mnist"), tmp_path / "ours.png")
    with mpl.rc_context({"axes.facecolor": "red", "font.size": 20, "savefig.bbox": "tight"}):
        plots.save(PICTURES["reliability"](2, "fashion-mnist"), tmp_path / "theirs.png")
        assert (mpl.rcParams["axes.facecolor"], mpl.rcParams["axes.grid"]) == ("red", False)
    assert (tmp_path / "ours.png").read_bytes() == (tmp_path / "theirs.png").read_bytes()


def test_neither_version_nor_date_in_the_file(tmp_path: Path) -> None:
    plots.save(PICTURES["confusion"](1, "fashion-mnist"), tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as picture:
        assert set(picture.info) <= {"dpi"}


@pytest.mark.parametrize("count", [1, 7, pytest.param(100, marks=pytest.mark.slow)])
def test_grid_of_images_and_titles(count: int) -> None:
    titles = [f"Pred: Ankle boot (100 %)\nTruth: no. {number}" for number in range(count)]
    figure = plots.image_grid(images(count), titles, "The most confident mistakes of model_2", "synthetic", 10)
    shown = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in shown] == titles
    assert all((axes.images[0].get_array() == image).all() for axes, image in zip(shown, images(count), strict=True))
    assert cut_off(figure) == []


def test_long_names_in_a_grid() -> None:
    titles = [f"Pred: {name} (100 %)\nTruth: {name}" for name in LONG_NAMES]
    figure = plots.image_grid(images(10), titles, "Predictions", "fashion-mnist", columns=5)
    boxes = [text.get_window_extent() for text in texts(figure) if text.get_text() in titles]
    assert cut_off(figure) == []
    assert not [
        (first, second)
        for number, first in enumerate(boxes)
        for second in boxes[number + 1 :]
        if first.overlaps(second)
    ]


def test_long_names_beside_the_confusion_matrix() -> None:
    figure = plots.confusion(np.full((10, 10), 1_000), LONG_NAMES, "Confusion matrix of model_2", "synthetic")
    assert cut_off(figure) == []
    assert set(LONG_NAMES) <= {text.get_text() for text in texts(figure)}


def class_names(count: int) -> list[str]:
    """Names as folders have them, one of them very long."""
    return [f"{'very ' * 40}long", *(f"class {number}" for number in range(1, count))]


@pytest.mark.parametrize("count", [2, 11, pytest.param(50, marks=pytest.mark.slow)])
def test_confusion_matrix_of_many_classes(count: int) -> None:
    counts_KK = np.full((count, count), 1_000)
    counts_KK[0, 1] = 0
    figure = plots.confusion(counts_KK, class_names(count), "Confusion matrix of model_2", "planets")
    assert cut_off(figure) == []
    axes = figure.axes[0]
    assert len(axes.get_yticklabels()) == count
    cell = axes.get_window_extent().width / count
    assert max(text.get_window_extent().width for text in axes.texts) < cell
    assert ("0" in [text.get_text() for text in axes.texts]) == (count <= 10)


@pytest.mark.parametrize("count", [2, 60])
def test_recall_of_many_classes(count: int) -> None:
    figure = plots.recall({name: [50.0] * count for name in names(6)}, class_names(count), "planets")
    assert cut_off(figure) == []
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert all(below.y1 <= above.y0 + 1 for above, below in pairwise(boxes))


@pytest.mark.parametrize("interval", [(0.0, 79.3), (20.7, 100.0), (0.0, 100.0)])
def test_wide_intervals_are_not_cut_off(interval: tuple[float, float]) -> None:
    accuracy = 0.0 if interval[0] == 0 else 100.0
    figure = plots.accuracy_intervals(names(2), [accuracy, 50.0], [interval, (9.5, 90.5)], "planets")
    assert cut_off(figure) == []


def test_recall_of_a_class_without_images() -> None:
    figure = plots.recall({"model_0": [50.0, float("nan")]}, ["Coat", "Bag"], "planets")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["Coat", "Bag (no images)"]


def test_letters_that_the_font_lacks(tmp_path: Path) -> None:
    plots.save(plots.confusion(np.eye(2, dtype=int), ["犬", "🐈"], "Matrix", "planets"), tmp_path / "matrix.png")


def test_largest_confusions_first() -> None:
    counts_KK = np.array([[900, 5, 7], [0, 990, 1], [7, 0, 80]])
    expected = [("Bag", "Shirt", 7), ("Shirt", "Bag", 7), ("Bag", "Coat", 5), ("Coat", "Shirt", 1)]
    assert plots.largest_confusions(counts_KK, ["Bag", "Coat", "Shirt"]) == expected


def test_maps_of_each_layer() -> None:
    layers = {"conv": images(3) - 128.0, "pool": images(12)[:, ::2, ::2] / 255}
    figure = plots.feature_maps(images(1)[0], layers, "Maps", "fashion-mnist", most=10)
    assert [len(axes.images) for axes in figure.axes] == [1, 3, 10]
    assert [axes.get_title() for axes in figure.axes] == ["image", "conv", "pool"]
    assert all((axes.images[0].get_clim()[0] == -axes.images[0].get_clim()[1]) for axes in figure.axes[1:])


def colour_image(side: int = 64) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (3, side, side), dtype=np.uint8)


COLOURED: dict[str, Callable[[np.ndarray[Any, Any]], Figure]] = {
    "first_image": lambda image: plots.first_image(image, "very " * 40, "planets"),
    "image_grid": lambda image: plots.image_grid([image] * 4, ["Mars"] * 4, "Some", "planets", 2),
    "feature_maps": lambda image: plots.feature_maps(image, {"conv": image[:, ::2] - 128.0}, "Maps", "planets"),
    "prediction": lambda image: plots.prediction("x.png", np.moveaxis(image, 0, -1), image, False, [("Mars", 1.0)]),
}


@pytest.mark.parametrize("kind", COLOURED)
@pytest.mark.parametrize("side", [4, 64, 256])
def test_images_in_colour(kind: str, side: int) -> None:
    image = colour_image(side)
    figure = COLOURED[kind](image)
    assert np.array_equal(np.asarray(figure.axes[0].images[0].get_array()), np.moveaxis(image, 0, -1))
    assert cut_off(figure) == []


def test_first_image_shows_each_channel() -> None:
    image = colour_image()
    _, *panels = plots.first_image(image, "Mars", "planets").axes
    channels = [np.asarray(axes.images[0].get_array()) for axes in panels]
    assert (np.stack(channels) == image).all()


def test_filters_that_read_colours() -> None:
    weights = np.zeros((2, 3, 5, 5))
    weights[1, 0] = 2.0  # looks for red
    figure = plots.filters({"model_2": ("Conv2d", weights), "model_3": ("Conv2d", np.ones((2, 3, 3)))}, "planets")
    nothing, red = [np.asarray(picture.get_array())[0, 0] for picture in figure.axes[0].images]
    assert (nothing.tolist(), red.tolist()) == ([0.5, 0.5, 0.5], [1.0, 0.5, 0.5])
    assert cut_off(figure) == []


def test_model_without_maps() -> None:
    figure = plots.feature_maps(images(1)[0], {}, "What the layers of model_0 make of an image: Coat", "fashion-mnist")
    assert "no layer makes maps of it" in [text.get_text() for text in texts(figure)]
    assert cut_off(figure) == []


def test_colours_of_titles() -> None:
    colours = [plots.CORRECT, plots.WRONG]
    figure = plots.image_grid(images(2), ["right", "wrong"], "Predictions", "fashion-mnist", 2, colours)
    assert [to_hex(axes.title.get_color()) for axes in figure.axes] == colours


def test_grid_without_images() -> None:
    figure = plots.image_grid(images(0), [], "The most confident mistakes of model_2", "fashion-mnist", 3)
    assert "none" in [text.get_text() for text in texts(figure)]
    assert cut_off(figure) == []


def test_twelve_models_look_different() -> None:
    assert len({(plots.colour_of(name), plots.marker_of(name)) for name in names(12)}) == 12


def test_model_keeps_its_colour() -> None:
    def colours(figure: Figure) -> set[str]:
        return {to_hex(line.get_color()) for line in figure.axes[0].lines if line.get_label() == "model_1"}

    both = plots.loss_curves({"model_0": history(), "model_1": history()}, "Curves", "fashion-mnist")
    alone = plots.loss_curves({"model_1": history()}, "Curves", "fashion-mnist")
    assert colours(both) == colours(alone) == {plots.colour_of("model_1")}


def test_curves_in_training_are_dashed() -> None:
    figure = plots.loss_curves({"model_0": history()}, "Curves", "fashion-mnist", held_out="validation")
    lines = {line.get_label(): line.get_linestyle() for line in figure.axes[0].lines}
    assert lines["on training images"] == "--"
    assert lines["on validation images"] == lines["model_0"] == "-"


def test_curve_of_one_epoch() -> None:
    figure = plots.loss_curves({"model_0": history(epochs=1)}, "Curves", "fashion-mnist")
    axes = figure.axes[0]
    ticks = [text.get_text() for text in texts(figure) if text in axes.get_xticklabels()]
    assert ticks == ["1"]
    assert [line.get_marker() for line in axes.lines if line.get_label() == "model_0"] == ["o"]


@pytest.mark.parametrize(("costs", "scale"), [([7_740, 7_960], "linear"), ([0, 10], "linear"), ([7_940, 1e6], "log")])
def test_scale_of_costs(costs: list[float], scale: str) -> None:
    figure = plots.accuracy_against_costs(names(2), [80, 90], {"Parameters": costs}, "Costs", "fashion-mnist")
    axes = figure.axes[0]
    assert axes.get_xscale() == scale
    assert axes.get_xlim()[0] == 0 or scale == "log"
    assert all(axes.get_xlim()[0] <= cost <= axes.get_xlim()[1] for cost in costs)


def test_model_without_a_cost() -> None:
    costs: Costs = {"Parameters": [7_740, 7_960], "Time (s)": [None, 2.0]}
    figure = plots.accuracy_against_costs(names(2), [80, 90], costs, "Costs", "fashion-mnist")
    known = [[line.get_label() for line in axes.lines if np.isfinite(line.get_xdata()).all()] for axes in figure.axes]
    assert known == [["model_0", "model_1"], ["model_1"]]
    assert cut_off(figure) == []


def test_panel_without_any_cost() -> None:
    costs: Costs = {"Time (s)": [None, None], "Parameters": [7_740, 7_960]}
    figure = plots.accuracy_against_costs(names(2), [80, 90], costs, "Costs", "fashion-mnist")
    assert [text.get_text() for text in figure.axes[0].texts] == ["not known of any model"]
    assert cut_off(figure) == []


def test_prediction_of_many_classes() -> None:
    ranking = [(f"class {number}", 1 / 12) for number in range(12)]
    figure = plots.prediction("$\\frac$", images(1)[0], images(1)[0], False, ranking)
    assert [label.get_text() for label in figure.axes[2].get_yticklabels()] == [name for name, _ in ranking[:10]]
    assert "as the model sees it" in [axes.get_title() for axes in figure.axes]
    assert cut_off(figure) == []


def test_filters_say_how_many_units_there_are() -> None:
    figure = plots.filters({"model_2": ("Conv2d", np.ones((64, 3, 3)))}, "fashion-mnist")
    assert "model_2\nConv2d\n10 of 64 units" in [text.get_text() for text in texts(figure)]
    assert sum(len(axes.images) for axes in figure.axes) == 10


def test_filters_are_white_at_zero() -> None:
    weights = np.array([[[0.0, 2.0], [-1.0, 0.5]]])
    figure = plots.filters({"model_2": ("Conv2d", weights), "model_3": ("Conv2d", weights * 0)}, "fashion-mnist")
    for picture in [axes.images[0] for axes in figure.axes if axes.images]:
        red, green, blue, _ = picture.to_rgba(np.zeros((1, 1)))[0, 0]
        assert min(red, green, blue) > 0.95


def test_filters_of_models_of_different_width() -> None:
    layers = {"model_0": ("Linear", np.ones((3, 28, 28))), "model_2": ("Conv2d", np.ones((12, 5, 5)))}
    figure = plots.filters(layers, "fashion-mnist")
    assert sum(len(axes.images) for axes in figure.axes) == 3 + 10
    assert cut_off(figure) == []


def test_filters_of_no_model() -> None:
    assert cut_off(plots.filters({}, "synthetic")) == []
