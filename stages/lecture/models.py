"""The lecture's three models: its class names, its layers, its keys in the state_dict.

With the same seed they have the same weights as `linear`, `mlp` and `tiny_vgg` in `stages/architectures`, which are
there to be changed; these stay what the lecture wrote.
"""

from torch import Tensor, nn


class FashionMNISTModelV0(nn.Module):
    """The baseline: two linear layers and nothing between them."""

    def __init__(self, input_shape: int, hidden_units: int, output_shape: int) -> None:
        super().__init__()
        self.layer_stack = nn.Sequential(
            nn.Flatten(),
            nn.Linear(input_shape, hidden_units),
            nn.Linear(hidden_units, output_shape),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, output_shape]` of images with `input_shape` pixels."""
        logits: Tensor = self.layer_stack(x)
        return logits


class FashionMNISTModelV1(nn.Module):
    """The baseline with a ReLU after each linear layer, the last one too."""

    def __init__(self, input_shape: int, hidden_units: int, output_shape: int) -> None:
        super().__init__()
        self.layer_stack = nn.Sequential(
            nn.Flatten(),
            nn.Linear(input_shape, hidden_units),
            nn.ReLU(),
            nn.Linear(hidden_units, output_shape),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, output_shape]`, none below 0."""
        logits: Tensor = self.layer_stack(x)
        return logits


class FashionMNISTModelV2(nn.Module):
    """TinyVGG: two blocks of convolutions, then a linear layer. `input_shape` is the number of colour channels."""

    def __init__(self, input_shape: int, hidden_units: int, output_shape: int) -> None:
        super().__init__()
        self.block_1 = nn.Sequential(
            nn.Conv2d(input_shape, hidden_units, kernel_size=3, stride=1, padding=1),
            nn.ReLU(),
            nn.Conv2d(hidden_units, hidden_units, kernel_size=3, stride=1, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=2, stride=2),
        )
        self.block_2 = nn.Sequential(
            nn.Conv2d(hidden_units, hidden_units, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(hidden_units, hidden_units, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=2),
        )
        # 7 * 7: each block halves height and width, 28 -> 14 -> 7, and leaves one such map for each hidden unit.
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(hidden_units * 7 * 7, output_shape))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, output_shape]` of images of 28 x 28 pixels."""
        logits: Tensor = self.classifier(self.block_2(self.block_1(x)))
        return logits
