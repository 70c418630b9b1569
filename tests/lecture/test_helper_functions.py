"""The lecture's nine helper functions: what they print, return and draw, and where the slides' version fails."""

import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, QuadMesh
from PIL import Image
from torch import Tensor, nn

from stages.lecture import helper_functions
from stages.lecture.helper_functions import (
    accuracy_fn,
    download_data,
    plot_decision_boundary,
    plot_loss_curves,
    plot_predictions,
    pred_and_plot_image,
    print_train_time,
    set_seeds,
    walk_through_dir,
)
from stages.lib.base.errors import UserError

CORNERS = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
RESULTS = {"train_loss": [1.1, 0.8], "train_acc": [61.0, 72.0], "test_loss": [0.9, 0.7], "test_acc": [65.0, 74.0]}


@pytest.fixture(autouse=True)
def _no_window() -> Iterator[None]:
    mpl.use("agg")
    yield
    plt.close("all")


# --- walk_through_dir, download_data ---


def test_each_folder_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a/b.png", "a/shirts/2.JPG", "a/shirts/old/x.jpeg", "a/bags/y.gif", "a/.hidden/x.png", "a/notes.txt"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    walk_through_dir("a")
    assert capsys.readouterr().out.splitlines() == [
        "There are 2 directories and 1 images in 'a'.",
        "There are 0 directories and 1 images in 'a/bags'.",
        "There are 1 directories and 1 images in 'a/shirts'.",
        "There are 0 directories and 1 images in 'a/shirts/old'.",
    ]


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing cannot be listed"):
        walk_through_dir(tmp_path / "missing")


def test_download_and_second_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("steak/1.txt", b"one")
    Path("food.zip").write_bytes(file.getvalue())
    for _ in range(2):
        assert download_data(source="food.zip", destination="food") == Path("data/food")
    assert Path("data/food/steak/1.txt").read_bytes() == b"one"
    assert capsys.readouterr().out.splitlines() == [
        "[INFO] Did not find data/food directory, creating one...",
        "[INFO] Unzipping food.zip data...",
        "[INFO] data/food directory exists, skipping download.",
    ]


@pytest.mark.parametrize("remove", [True, False])
def test_archive_is_removed_unless_told(remove: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr(helper_functions, "download_and_unpack", lambda *arguments: calls.append(arguments))
    download_data("https://host/food.zip", "food", remove_source=remove)
    assert calls == [("https://host/food.zip", "food", remove)]


# --- plot_decision_boundary ---


class Sides(nn.Module):
    """Class 1 right of x = 0.5, as one logit for each point: `[N]` or `[N, 1]`."""

    def __init__(self, columns: bool) -> None:
        super().__init__()
        self.columns = columns

    def forward(self, points_N2: Tensor) -> Tensor:
        logits_N = points_N2[:, 0] - 0.5
        return logits_N[:, None] if self.columns else logits_N


class Quarters(nn.Module):
    """One class for each quarter of the unit square, as logits `[N, 4]`."""

    def forward(self, points_N2: Tensor) -> Tensor:
        return -torch.cdist(points_N2, CORNERS)


def drawn(axes: Axes) -> tuple[QuadMesh, PathCollection]:
    """The regions and the points in a picture."""
    (mesh,) = [each for each in axes.collections if isinstance(each, QuadMesh)]
    (points,) = [each for each in axes.collections if isinstance(each, PathCollection)]
    return mesh, points


def regions(model: nn.Module, y: Tensor) -> np.ndarray[Any, np.dtype[Any]]:
    """The class drawn at each point of the grid, from the lower left on."""
    plot_decision_boundary(model=model, X=CORNERS, y=y)
    return np.asarray(drawn(plt.gca())[0].get_array())


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("kind", [torch.int64, torch.float32])  # the course has float labels for two classes
def test_binary_classifier(columns: bool, kind: torch.dtype) -> None:
    classes = regions(Sides(columns), torch.tensor([0, 0, 1, 1], dtype=kind))
    assert classes.shape == (101, 101)
    assert (classes[:, :50] == 0).all()
    assert (classes[:, 51:] == 1).all()


def test_several_classes() -> None:
    classes = regions(Quarters(), torch.arange(4))
    assert (classes[:50, :50] == 0).all()  # x and y low
    assert (classes[51:, :50] == 1).all()  # y high
    assert (classes[:50, 51:] == 2).all()  # x high
    assert (classes[51:, 51:] == 3).all()


def test_two_logits() -> None:
    model = nn.Linear(2, 2)
    with torch.no_grad():  # both logits positive everywhere: class 1 wins where x is above 0.5
        model.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
        model.bias.copy_(torch.tensor([10.5, 10.0]))
    classes = regions(model, torch.tensor([0, 0, 1, 1]))
    assert (classes[:, :50] == 0).all()
    assert (classes[:, 51:] == 1).all()


def test_points_and_regions_share_their_colours() -> None:
    plot_decision_boundary(Quarters(), CORNERS, torch.arange(4))
    mesh, points = drawn(plt.gca())
    assert mesh.get_clim() == points.get_clim() == (0, 3)
    assert mesh.get_cmap().name == points.get_cmap().name
    assert np.asarray(points.get_offsets()).tolist() == CORNERS.tolist()
    assert np.asarray(points.get_array()).tolist() == [0, 1, 2, 3]


def test_drawn_where_the_figure_is() -> None:
    plt.subplot(1, 2, 2)
    plot_decision_boundary(Quarters(), CORNERS, torch.arange(4))
    (axes,) = plt.gcf().axes
    assert axes.get_subplotspec().num1 == 1  # type: ignore[union-attr]
    assert axes.get_xlim() == pytest.approx((-0.1, 1.1))
    assert axes.get_ylim() == pytest.approx((-0.1, 1.1))


def test_dropout_is_off() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 16), nn.Dropout(0.9), nn.Linear(16, 3)).train()
    first = regions(model, torch.arange(4) % 3)
    plt.figure()
    assert (first == regions(model, torch.arange(4) % 3)).all()


# --- plot_predictions, plot_loss_curves ---


@pytest.mark.parametrize("predicted", [True, False])
def test_regression(predicted: bool) -> None:
    numbers = torch.arange(5.0)
    plot_predictions(numbers, numbers, numbers, numbers, (numbers * nn.Parameter(numbers)) if predicted else None)
    legend = plt.gca().get_legend()
    assert legend is not None
    expected = ["Training data", "Testing data", "Predictions"][: 3 if predicted else 2]
    assert [text.get_text() for text in legend.get_texts()] == expected
    assert plt.gcf().get_size_inches().tolist() == [10, 7]


@pytest.mark.parametrize("number", [float, lambda value: nn.Parameter(torch.tensor(value))], ids=["float", "tensor"])
def test_loss_curves(number: Callable[[float], Any]) -> None:
    plot_loss_curves(results={key: [number(value) for value in values] for key, values in RESULTS.items()})
    loss, accuracy = plt.gcf().axes
    assert (loss.get_title(), accuracy.get_title(), loss.get_xlabel()) == ("Loss", "Accuracy", "Epochs")
    for axes, key, name in ((loss, "loss", "loss"), (accuracy, "acc", "accuracy")):
        assert [line.get_label() for line in axes.lines] == [f"train_{name}", f"test_{name}"]
        for line, part in zip(axes.lines, ("train", "test"), strict=True):
            assert np.asarray(line.get_xdata()).tolist() == [0, 1]
            assert np.asarray(line.get_ydata()).tolist() == pytest.approx(RESULTS[f"{part}_{key}"])


# --- accuracy_fn, print_train_time, set_seeds ---


def test_accuracy() -> None:
    assert accuracy_fn(y_true=torch.tensor([1, 2, 3, 4]), y_pred=torch.tensor([1, 2, 3, 0])) == 75.0


def test_train_time(capsys: pytest.CaptureFixture[str]) -> None:
    assert print_train_time(start=1.0, end=3.5, device="cpu") == 2.5
    assert print_train_time(0, 1) == 1
    assert capsys.readouterr().out == "\nTrain time on cpu: 2.500 seconds\n\nTrain time on None: 1.000 seconds\n"


def test_seed_is_42_unless_given() -> None:
    set_seeds()
    first = torch.rand(1)
    set_seeds(seed=42)
    assert torch.equal(torch.rand(1), first)
    assert first.item() == pytest.approx(0.8823, abs=1e-4)  # the lecture's


# --- pred_and_plot_image ---


class Halves(nn.Module):
    """Class 0 for an image whose upper half is the lighter one, else 1; for `channels` channels of any size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mean = nn.Conv2d(channels, 1, kernel_size=1)
        nn.init.constant_(self.mean.weight, 5 / channels)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        level_NHW = self.mean(images_NCHW)[:, 0]
        half = level_NHW.shape[1] // 2
        upper_N = level_NHW[:, :half].mean((1, 2)) - level_NHW[:, half:].mean((1, 2))
        return torch.stack([upper_N, -upper_N], dim=1)


@pytest.fixture
def cap(tmp_path: Path) -> Callable[[str], Path]:
    """`cap("RGB")` writes a picture in that mode, 140 x 140, light above, dark below."""

    def write(mode: str) -> Path:
        image_HW = np.zeros((140, 140), np.uint8)
        image_HW[10:70, 20:120] = 200
        image_HW[70:130, 20:120] = 60
        Image.fromarray(image_HW).convert(mode).save(tmp_path / "cap.png")
        return tmp_path / "cap.png"

    return write


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_picture_for_a_model_of_garments(cap: Callable[[str], Path], mode: str) -> None:
    pred_and_plot_image(model=Halves(1), image_path=str(cap(mode)), class_names=["Cap", "Boot"])
    axes = plt.gca()
    assert axes.get_title().startswith("Pred: Cap | Prob: 0.9")
    assert np.asarray(axes.images[0].get_array()).shape == (28, 28)


def test_flat_model_of_garments(cap: Callable[[str], Path]) -> None:
    pred_and_plot_image(nn.Sequential(nn.Flatten(), nn.Linear(784, 2)), cap("L"), ["Cap", "Boot"])
    assert "Prob: " in plt.gca().get_title()


def test_picture_for_a_model_of_colours(cap: Callable[[str], Path]) -> None:
    pred_and_plot_image(Halves(3), cap("RGB"))
    axes = plt.gca()
    assert axes.get_title().startswith("Pred: 0 | Prob: 0.")
    assert np.asarray(axes.images[0].get_array()).shape == (140, 140, 3)


def test_picture_of_16_bits(tmp_path: Path) -> None:
    """Pillow's own conversion to colours takes all levels above 255 of 65,535 for white."""
    image_HW = np.full((40, 40), 10_000, np.uint16)
    image_HW[:20] = 50_000
    Image.fromarray(image_HW).save(tmp_path / "cap.png")
    pred_and_plot_image(Halves(3), tmp_path / "cap.png", ["Cap", "Boot"])
    assert plt.gca().get_title().startswith("Pred: Cap | Prob: 0.9")


def test_transform(cap: Callable[[str], Path]) -> None:
    seen: list[Tensor] = []

    def upside_down(image: Tensor) -> Tensor:
        seen.append(image)
        return image.flip(1)

    pred_and_plot_image(Halves(1), cap("L"), ["Cap", "Boot"], transform=upside_down, device="cpu")
    assert plt.gca().get_title().startswith("Pred: Boot")
    assert (seen[0].shape, seen[0].dtype) == ((1, 140, 140), torch.float32)
    assert 0 <= seen[0].min() < seen[0].max() <= 1


def test_no_image(cap: Callable[[str], Path]) -> None:
    path = cap("L")
    path.write_text("hello")
    with pytest.raises(UserError, match=r"cap\.png"):
        pred_and_plot_image(Halves(1), path)
