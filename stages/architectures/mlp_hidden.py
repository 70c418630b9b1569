"""The network of `mlp.py` without the ReLU on its logits: what that one layer costs.

Classifies 83.98 % of the test images correctly after 3 epochs, 2.1 s on two cores (7,960 parameters). Try it with
`dvc exp run -S model_1.arch=mlp_hidden`.

Shapes: N images, K classes, C channels, H x W pixels.
"""

import math

from torch import Tensor, nn


class MLPHidden(nn.Module):
    """Flatten, Linear(pixels, hidden_units), ReLU, Linear(hidden_units, num_classes)."""

    def __init__(self, input_shape: tuple[int, int, int], hidden_units: int, num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(math.prod(input_shape), hidden_units),  # 1 * 28 * 28 in the lecture
            nn.ReLU(),
            nn.Linear(hidden_units, num_classes),
        )

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Return logits `[N, num_classes]`."""
        logits_NK: Tensor = self.layers(images_NCHW)
        return logits_NK


def build(input_shape: tuple[int, int, int], hidden_units: int, num_classes: int) -> nn.Module:
    """Return the network with one hidden layer of `hidden_units`."""
    return MLPHidden(input_shape, hidden_units, num_classes)
