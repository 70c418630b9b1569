"""The baseline with a ReLU after each linear layer.

Classifies 75.00 % of the test images correctly after 3 epochs, 2.1 s on two cores (7,960 parameters).

Shapes: N images, K classes, C channels, H x W pixels.
"""

import math

from torch import Tensor, nn


class MLP(nn.Module):
    """Flatten, Linear(pixels, hidden_units), ReLU, Linear(hidden_units, num_classes), ReLU."""

    def __init__(self, input_shape: tuple[int, int, int], hidden_units: int, num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(math.prod(input_shape), hidden_units),  # 1 * 28 * 28 in the lecture
            nn.ReLU(),
            nn.Linear(hidden_units, num_classes),
            # The lecture's ReLU on the logits, kept: an image teaches nothing to a class whose logit it makes 0. So
            # this model ends up worse than the baseline on training and test images alike.
            nn.ReLU(),
        )

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Return logits `[N, num_classes]`, none below 0."""
        logits_NK: Tensor = self.layers(images_NCHW)
        return logits_NK


def build(input_shape: tuple[int, int, int], hidden_units: int, num_classes: int) -> nn.Module:
    """Return the network with one hidden layer of `hidden_units`."""
    return MLP(input_shape, hidden_units, num_classes)
