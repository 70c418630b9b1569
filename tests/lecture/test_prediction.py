"""One image file classified and drawn in a notebook."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from stages.lecture.prediction import predict_and_plot_image, predict_image
from stages.lib.base.errors import UserError
from stages.lib.photos import Background

CLASSES = ("Cap", "Boot")


class Halves(nn.Module):
    """Give `Cap` to an image whose upper half is the lighter one, `Boot` to the others."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(5.0))

    def forward(self, images_N1HW: Tensor) -> Tensor:
        upper_N = images_N1HW[:, 0, :14].mean((1, 2)) - images_N1HW[:, 0, 14:].mean((1, 2))
        return torch.stack([self.scale * upper_N, -self.scale * upper_N], dim=1)


@pytest.fixture
def cap(tmp_path: Path) -> Path:
    image_HW = np.zeros((140, 140), np.uint8)
    image_HW[10:70, 20:120] = 200
    image_HW[70:130, 20:120] = 60
    Image.fromarray(image_HW).save(tmp_path / "cap.png")
    return tmp_path / "cap.png"


@pytest.mark.parametrize(("background", "expected"), [("auto", "Cap"), ("dark", "Cap"), ("light", "Boot")])
def test_predict_image(cap: Path, background: Background, expected: str) -> None:
    prediction = predict_image(Halves(), cap, CLASSES, background)
    assert (prediction.path, prediction.ranking[0][0]) == (cap, expected)
    assert sum(probability for _, probability in prediction.ranking) == pytest.approx(1)


def test_predict_and_plot_image(cap: Path) -> None:
    prediction = predict_image(Halves(), cap, CLASSES)
    figure = predict_and_plot_image(Halves(), str(cap), CLASSES)
    assert figure.get_suptitle() == f"cap.png\nCap, {100 * prediction.ranking[0][1]:.1f} %"
    _, seen, bars = figure.axes
    assert np.array_equal(np.asarray(seen.images[0].get_array()), prediction.garment.pixels_HW)
    assert [label.get_text() for label in bars.get_yticklabels()] == ["Cap", "Boot"]


def test_no_image(cap: Path) -> None:
    cap.write_text("hello")
    with pytest.raises(UserError, match=r"cap\.png"):
        predict_and_plot_image(Halves(), cap, CLASSES)


def test_model_in_training_mode(cap: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 2), nn.Dropout(0.9))
    first, second = (predict_image(model.train(), cap, CLASSES).ranking for _ in range(2))
    assert first == second
