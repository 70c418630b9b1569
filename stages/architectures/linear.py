"""The baseline: two linear layers and nothing between them, which is one linear map in the end.

Classifies 83.41 % of the test images correctly after 3 epochs, 1.8 s on two cores (7,960 parameters).

Shapes: N images, K classes, C channels, H x W pixels.
"""

import math

from torch import Tensor, nn


class LinearBaseline(nn.Module):
    """Flatten, Linear(pixels, hidden_units), Linear(hidden_units, num_classes)."""

    def __init__(self, input_shape: tuple[int, int, int], hidden_units: int, num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(math.prod(input_shape), hidden_units),  # 1 * 28 * 28 in the lecture
            nn.Linear(hidden_units, num_classes),
        )

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Return logits `[N, num_classes]`."""
        logits_NK: Tensor = self.layers(images_NCHW)
        return logits_NK


def build(input_shape: tuple[int, int, int], hidden_units: int, num_classes: int) -> nn.Module:
    """Return the baseline with `hidden_units` between its two layers."""
    return LinearBaseline(input_shape, hidden_units, num_classes)
