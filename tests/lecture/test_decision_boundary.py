"""Pictures of what a classifier of points decides."""

from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.figure import Figure
from torch import Tensor, nn

from stages.lecture.decision_boundary import decision_boundary

CORNERS = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])


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


def regions(figure: Figure) -> np.ndarray[Any, np.dtype[Any]]:
    """The class drawn at each point of the grid, from the lower left on."""
    (mesh,) = [drawn for drawn in figure.axes[0].collections if isinstance(drawn, QuadMesh)]
    values = mesh.get_array()
    assert values is not None
    return np.asarray(values)


def pixels(figure: Figure, *points: tuple[float, float]) -> list[tuple[int, ...]]:
    """The colours of the drawn picture at these points of the plane."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    picture = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    places = figure.axes[0].transData.transform(points)
    return [tuple(picture[len(picture) - 1 - round(y), round(x), :3].tolist()) for x, y in places]


@pytest.mark.parametrize("columns", [False, True])
def test_binary_classifier(columns: bool) -> None:
    figure = decision_boundary(Sides(columns), CORNERS, torch.tensor([0, 0, 1, 1]), steps=21)
    drawn = regions(figure)
    assert drawn.shape == (21, 21)
    assert (drawn[:, :10] == 0).all()
    assert (drawn[:, 11:] == 1).all()


def test_several_classes() -> None:
    drawn = regions(decision_boundary(Quarters(), CORNERS, torch.arange(4), steps=20))
    assert (drawn[:10, :10] == 0).all()  # x and y low
    assert (drawn[10:, :10] == 1).all()  # y high
    assert (drawn[:10, 10:] == 2).all()  # x high
    assert (drawn[10:, 10:] == 3).all()


def test_two_logits() -> None:
    model = nn.Linear(2, 2)
    with torch.no_grad():  # both logits positive everywhere: class 1 wins where x is above 0.5
        model.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
        model.bias.copy_(torch.tensor([10.5, 10.0]))
    drawn = regions(decision_boundary(model, CORNERS, torch.tensor([0, 0, 1, 1]), steps=21))
    assert (drawn[:, :10] == 0).all()
    assert (drawn[:, 11:] == 1).all()


def test_regions_have_different_colours() -> None:
    figure = decision_boundary(Quarters(), CORNERS, torch.arange(4))
    colours = pixels(figure, (0.27, 0.27), (0.33, 0.33), (0.27, 0.73), (0.73, 0.27), (0.73, 0.73))
    assert colours[0] == colours[1]
    assert len(set(colours)) == 4


def test_points_and_regions_share_their_colours() -> None:
    axes = decision_boundary(Quarters(), CORNERS, torch.arange(4)).axes[0]
    (mesh,) = [drawn for drawn in axes.collections if isinstance(drawn, QuadMesh)]
    (points,) = [drawn for drawn in axes.collections if isinstance(drawn, PathCollection)]
    assert mesh.get_clim() == points.get_clim() == (0, 3)
    assert mesh.get_cmap().name == points.get_cmap().name
    assert np.asarray(points.get_offsets()).tolist() == CORNERS.tolist()
    assert np.asarray(points.get_array()).tolist() == [0, 1, 2, 3]


class Always(nn.Module):
    """The same class of four everywhere."""

    def __init__(self, decided: int) -> None:
        super().__init__()
        self.decided = decided

    def forward(self, points_N2: Tensor) -> Tensor:
        return nn.functional.one_hot(torch.tensor(self.decided), 4).float().expand(len(points_N2), 4)


@pytest.mark.parametrize(("decided", "labelled", "highest"), [(2, 1, 2), (1, 3, 3), (0, 0, 1)])
def test_range_of_the_colours(decided: int, labelled: int, highest: int) -> None:
    axes = decision_boundary(Always(decided), CORNERS, torch.full((4,), labelled)).axes[0]
    drawn = [each for each in axes.collections if isinstance(each, QuadMesh | PathCollection)]
    assert [each.get_clim() for each in drawn] == [(0, highest)] * 2


def test_logit_of_0_is_class_0() -> None:
    model = nn.Linear(2, 1)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    assert (regions(decision_boundary(model, CORNERS, torch.tensor([0, 0, 1, 1]), steps=5)) == 0).all()


def test_points_have_black_edges() -> None:
    figure = decision_boundary(Quarters(), CORNERS, torch.arange(4))
    (points,) = [drawn for drawn in figure.axes[0].collections if isinstance(drawn, PathCollection)]
    assert np.asarray(points.get_edgecolor()).tolist() == [[0.0, 0.0, 0.0, 1.0]]  # black


def test_title_and_size() -> None:
    figure = decision_boundary(Quarters(), CORNERS, torch.arange(4))
    assert figure.get_suptitle() == "Decision boundary"
    assert figure.get_size_inches().tolist() == [6, 5]


def test_margin() -> None:
    points_N2 = torch.tensor([[-3.0, 10.0], [5.0, 12.0]])
    axes = decision_boundary(Sides(columns=True), points_N2, torch.tensor([0, 1])).axes[0]
    assert axes.get_xlim() == pytest.approx((-3.1, 5.1))
    assert axes.get_ylim() == pytest.approx((9.9, 12.1))


def test_dropout_is_off() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 16), nn.Dropout(0.9), nn.Linear(16, 3)).train()
    first, second = (regions(decision_boundary(model, CORNERS, torch.arange(4) % 3)) for _ in range(2))
    assert (first == second).all()
