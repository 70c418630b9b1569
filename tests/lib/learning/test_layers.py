"""Tables of layers: shapes, parameters and multiply-adds against sums done by hand, and against the lecture."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from stages.lib.learning.layers import Layer, trace_layers
from stages.lib.learning.models import build_model
from tests.helpers import GREY_28


def trace(model: nn.Module, *shape: int) -> list[Layer]:
    return trace_layers(model, shape or (1, 28, 28))


@pytest.fixture
def tiny_vgg() -> nn.Module:
    return build_model("tiny_vgg", GREY_28, 10, 10)


@pytest.mark.parametrize("arch", ["linear", "mlp", "tiny_vgg"])
@pytest.mark.parametrize("hidden_units", [1, 10, 64])
def test_all_parameters_of_the_model(arch: str, hidden_units: int) -> None:
    model = build_model(arch, GREY_28, hidden_units, 10)
    assert sum(layer.parameters for layer in trace(model)) == sum(weights.numel() for weights in model.parameters())


def test_7_times_7(tiny_vgg: nn.Module) -> None:
    layers = trace(tiny_vgg)
    assert [layer.output_shape for layer in layers if layer.kind == "MaxPool2d"] == [(10, 14, 14), (10, 7, 7)]
    flatten = layers[-2]
    assert (flatten.kind, flatten.output_shape, flatten.shape_formula) == ("Flatten", (490,), "10 * 7 * 7 = 490")


def test_each_layer_takes_the_output_before(tiny_vgg: nn.Module) -> None:
    layers = trace(tiny_vgg)
    assert layers[0].input_shape == (1, 28, 28)
    assert all(before.output_shape == after.input_shape for before, after in pairwise(layers))
    assert layers[-1].output_shape == (10,)


def test_names_of_the_state_dict(tiny_vgg: nn.Module) -> None:
    named = {f"{layer.name}.weight" for layer in trace(tiny_vgg) if layer.parameters}
    assert named == {key for key in tiny_vgg.state_dict() if key.endswith("weight")}


@pytest.mark.parametrize(
    ("module", "output", "formula"),
    [
        (nn.Conv2d(3, 10, 3), (10, 62, 62), "kernel 3, stride 1, padding 0: (64 + 2 * 0 - 3) // 1 + 1 = 62"),
        (nn.Conv2d(3, 10, 5, stride=2), (10, 30, 30), "kernel 5, stride 2, padding 0: (64 + 2 * 0 - 5) // 2 + 1 = 30"),
        (nn.MaxPool2d(2), (3, 32, 32), "kernel 2, stride 2, padding 0: (64 + 2 * 0 - 2) // 2 + 1 = 32"),
        (nn.MaxPool2d(3), (3, 21, 21), "kernel 3, stride 3, padding 0: (64 + 2 * 0 - 3) // 3 + 1 = 21"),
        # a pooling that knows no padding
        (nn.LPPool2d(2, 2, stride=2), (3, 32, 32), "kernel 2, stride 2, padding 0: (64 + 2 * 0 - 2) // 2 + 1 = 32"),
        # no formula where it does not hold
        (nn.Conv2d(3, 4, 3, dilation=2), (4, 60, 60), "kernel 3, stride 1, padding 0"),
        (nn.Conv2d(3, 4, 3, padding="same"), (4, 64, 64), "kernel 3, stride 1, padding same"),
        (nn.ConvTranspose2d(3, 4, 3, stride=2), (4, 129, 129), "kernel 3, stride 2, padding 0"),
        (nn.MaxPool2d(3, 2, ceil_mode=True), (3, 32, 32), "kernel 3, stride 2, padding 0"),
        # nothing to explain
        (nn.ReLU(), (3, 64, 64), ""),
        (nn.Linear(64, 5), (3, 64, 5), ""),
    ],
    ids=str,
)
def test_shape_formula(module: nn.Module, output: tuple[int, ...], formula: str) -> None:
    layer = trace(nn.Sequential(module, nn.Conv2d(output[0], 1, 1)), 3, 64, 64)[0]
    assert (layer.output_shape, layer.shape_formula) == (output, formula)


def test_formula_of_the_height() -> None:
    (layer,) = trace(nn.Sequential(nn.Conv2d(1, 2, (3, 5), stride=2, padding=(1, 2))), 1, 64, 49)
    assert layer.output_shape == (2, 32, 25)
    assert layer.shape_formula == "kernel 3 by 5, stride 2, padding 1 by 2: (64 + 2 * 1 - 3) // 2 + 1 = 32"


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (nn.Linear(28, 10), 8 * 28 * 28 * 10),  # to each row of each channel
        (nn.Conv2d(8, 10, 3, padding=1), 28 * 28 * 10 * 8 * 9),
        (nn.Conv2d(8, 10, 3, padding=1, bias=False), 28 * 28 * 10 * 8 * 9),
        (nn.Conv2d(8, 4, (3, 5), stride=2), 13 * 12 * 4 * 8 * 15),
        (nn.Conv2d(8, 8, 3, padding=1, groups=8), 28 * 28 * 8 * 9),  # within their group
        (nn.ConvTranspose2d(8, 4, 3, stride=2), 28 * 28 * 8 * 4 * 9),
        (nn.Conv3d(1, 2, (3, 1, 1)), 6 * 28 * 28 * 2 * 3),
        (weight_norm(nn.Conv2d(8, 10, 3, bias=False)), 26 * 26 * 10 * 8 * 9),
    ],
    ids=str,
)
def test_multiply_adds(module: nn.Module, expected: int) -> None:
    assert sum(layer.multiply_adds for layer in trace(nn.Sequential(module), 8, 28, 28)) == expected


def test_layers_that_cannot_be_counted() -> None:
    kinds = {
        layer.kind: layer.counted for layer in trace(nn.Sequential(nn.Flatten(1, 2), nn.GRU(28, 5), Last()), 8, 28, 28)
    }
    assert kinds == {"Flatten": True, "GRU": False, "Last": True}


def test_layers_without_multiply_adds(tiny_vgg: nn.Module) -> None:
    assert {layer.kind for layer in trace(tiny_vgg) if layer.multiply_adds} == {"Conv2d", "Linear"}


class Last(nn.Module):
    def forward(self, outputs: tuple[Tensor, Tensor]) -> Tensor:
        return outputs[0]


class Shared(nn.Module):
    """One layer used twice, in the middle of a residual block with a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.layer = nn.Linear(28, 28)

    def forward(self, images: Tensor) -> Tensor:
        hidden: Tensor = self.layer(self.layer(images)) * self.scale + images
        return hidden


def test_layer_used_twice() -> None:
    layers = trace(Shared())
    assert [layer.multiply_adds for layer in layers if layer.kind == "Linear"] == [28 * 28 * 28] * 2
    assert sum(layer.parameters for layer in layers) == 28 * 28 + 28 + 1


class Odd(nn.Module):
    """A layer that gives more than a tensor, one that is called by keyword only, and one that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.recurrent = nn.GRU(28, 3, batch_first=True)
        self.named = nn.Linear(3, 2)
        self.idle = nn.Linear(50, 50)

    def forward(self, images: Tensor) -> Tensor:
        hidden, _ = self.recurrent(images.squeeze(1))
        scaled: Tensor = self.named(input=hidden) * self.scale
        return scaled


def test_odd_layers() -> None:
    layers = {layer.name: (layer.input_shape, layer.output_shape, layer.parameters) for layer in trace(Odd())}
    assert layers["recurrent"] == ((28, 28), (), 3 * (28 * 3 + 3 * 3 + 2 * 3))
    assert layers["named"] == ((), (28, 2), 3 * 2 + 2)
    assert layers[""] == ((1, 28, 28), (28, 2), 1)  # its scale alone: what is idle does not count
    assert layers.keys() == {"recurrent", "named", ""}


def test_device_of_the_model(tiny_vgg: nn.Module) -> None:
    assert trace(tiny_vgg.to("meta"))[-1].output_shape == (10,)


def test_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(28 * 28, 2)).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    trace(model)
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
