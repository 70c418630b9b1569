"""Tables of layers: shapes, parameters and multiply-adds against sums done by hand, and against the lecture."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from stages.lib.learning.models import build_model
from stages.lib.learning.layers import Layer, trace_layers


def trace(model: nn.Module, *shape: int) -> list[Layer]:
    return trace_layers(model, shape or (1, 28, 28))


@pytest.mark.parametrize("arch", ["linear", "mlp", "tiny_vgg"])
@pytest.mark.parametrize("hidden_units", [1, 10, 64])
def test_the_layers_have_all_parameters_of_the_model(arch: str, hidden_units: int) -> None:
    model = build_model(arch, hidden_units, 10)
    assert sum(layer.parameters for layer in trace(model)) == sum(weights.numel() for weights in model.parameters())


@pytest.mark.parametrize(("arch", "parameters"), [("linear", 7_960), ("mlp", 7_960), ("tiny_vgg", 7_740)])
def test_the_models_have_the_parameters_that_the_lecture_counts(arch: str, parameters: int) -> None:
    assert sum(layer.parameters for layer in trace(build_model(arch, 10, 10))) == parameters


def test_the_tiny_vgg_shows_where_7_times_7_comes_from() -> None:
    layers = trace(build_model("tiny_vgg", 10, 10))
    assert [layer.output_shape for layer in layers if layer.kind == "MaxPool2d"] == [(10, 14, 14), (10, 7, 7)]
    flatten = layers[-2]
    assert (flatten.kind, flatten.output_shape, flatten.how) == ("Flatten", (490,), "10 * 7 * 7 = 490")


def test_each_layer_takes_what_the_one_before_it_gives() -> None:
    layers = trace(build_model("tiny_vgg", 10, 10))
    assert layers[0].input_shape == (1, 28, 28)
    assert all(before.output_shape == after.input_shape for before, after in pairwise(layers))
    assert layers[-1].output_shape == (10,)


def test_layers_are_named_as_in_the_state_dict() -> None:
    model = build_model("tiny_vgg", 10, 10)
    named = {f"{layer.name}.weight" for layer in trace(model) if layer.parameters}
    assert named == {key for key in model.state_dict() if key.endswith("weight")}


@pytest.mark.parametrize(
    ("module", "output", "how"),
    [
        (nn.Conv2d(3, 10, 3), (10, 62, 62), "kernel 3, stride 1, padding 0: (64 + 2 * 0 - 3) // 1 + 1 = 62"),
        (nn.Conv2d(3, 10, 5, stride=2), (10, 30, 30), "kernel 5, stride 2, padding 0: (64 + 2 * 0 - 5) // 2 + 1 = 30"),
        (nn.MaxPool2d(2), (3, 32, 32), "kernel 2, stride 2, padding 0: (64 + 2 * 0 - 2) // 2 + 1 = 32"),
        (nn.MaxPool2d(3), (3, 21, 21), "kernel 3, stride 3, padding 0: (64 + 2 * 0 - 3) // 3 + 1 = 21"),
    ],
)
def test_the_step_through_of_the_lecture(module: nn.Module, output: tuple[int, ...], how: str) -> None:
    (layer,) = trace(nn.Sequential(module, nn.Conv2d(output[0], 1, 1)), 3, 64, 64)[:1]
    assert (layer.output_shape, layer.how) == (output, how)


@pytest.mark.parametrize(
    ("module", "settings"),
    [
        (nn.Conv2d(3, 4, 3, dilation=2), "kernel 3, stride 1, padding 0"),
        (nn.Conv2d(3, 4, 3, padding="same"), "kernel 3, stride 1, padding same"),
        (nn.ConvTranspose2d(3, 4, 3, stride=2), "kernel 3, stride 2, padding 0"),
        (nn.MaxPool2d(3, 2, ceil_mode=True), "kernel 3, stride 2, padding 0"),
    ],
)
def test_a_sum_that_does_not_hold_is_not_shown(module: nn.Module, settings: str) -> None:
    model = nn.Sequential(module, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(2))
    model(torch.zeros(1, 3, 64, 64))
    assert trace(model, 3, 64, 64)[0].how == settings


def test_a_kernel_that_is_not_square_is_shown_by_both_sides() -> None:
    layer = trace(nn.Sequential(nn.Conv2d(1, 2, (3, 5), padding=(1, 2))))[0]
    assert layer.how.startswith("kernel 3 by 5, stride 1, padding 1 by 2")
    assert layer.output_shape == (2, 28, 28)


def test_the_sum_is_that_of_the_height_where_height_and_width_differ() -> None:
    (layer,) = trace(nn.Sequential(nn.Conv2d(1, 2, (3, 5), stride=2, padding=(1, 2))), 1, 64, 49)
    assert layer.output_shape == (2, 32, 25)
    assert layer.how == "kernel 3 by 5, stride 2, padding 1 by 2: (64 + 2 * 1 - 3) // 2 + 1 = 32"


def test_a_pooling_that_knows_no_padding_has_none() -> None:
    layer = trace(nn.Sequential(nn.LPPool2d(2, 2, stride=2), nn.Conv2d(1, 1, 1)))[0]
    assert layer.how == "kernel 2, stride 2, padding 0: (28 + 2 * 0 - 2) // 2 + 1 = 14"


def test_layers_without_a_kernel_have_nothing_to_explain() -> None:
    how = {layer.how for layer in trace(build_model("mlp", 10, 10)) if layer.kind in ("Linear", "ReLU")}
    assert how == {""}


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (nn.Linear(28, 10), 28 * 28 * 10),  # to each of the 28 rows of the image
        (nn.Conv2d(1, 10, 3, padding=1), 28 * 28 * 10 * 9),
        (nn.Conv2d(1, 10, 3, padding=1, bias=False), 28 * 28 * 10 * 9),
        (nn.Conv2d(1, 4, (3, 5), stride=2), 13 * 12 * 4 * 15),
    ],
)
def test_multiply_adds_are_outputs_times_what_each_is_summed_from(module: nn.Module, expected: int) -> None:
    assert trace(nn.Sequential(module))[0].multiply_adds == expected


def test_channels_in_groups_are_summed_within_their_group() -> None:
    model = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8))
    assert trace(model, 8, 14, 14)[0].multiply_adds == 14 * 14 * 8 * 9


def test_activation_and_pooling_cost_no_multiplication() -> None:
    assert {layer.kind for layer in trace(build_model("tiny_vgg", 10, 10)) if layer.multiply_adds} == {
        "Conv2d",
        "Linear",
    }


class Shared(nn.Module):
    """One layer used twice, in the middle of a residual block with a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.layer = nn.Linear(28, 28)

    def forward(self, images: Tensor) -> Tensor:
        hidden: Tensor = self.layer(self.layer(images)) * self.scale + images
        return hidden


def test_a_layer_used_twice_costs_twice_but_its_weights_count_once() -> None:
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


def test_what_is_no_tensor_has_no_shape() -> None:
    shapes = {layer.name: (layer.input_shape, layer.output_shape) for layer in trace(Odd())}
    assert shapes["recurrent"] == ((28, 28), ())
    assert shapes["named"] == ((), (28, 2))


def test_a_layer_that_never_runs_does_not_count() -> None:
    parameters = {layer.name: layer.parameters for layer in trace(Odd())}
    assert parameters == {"recurrent": 3 * (28 * 3 + 3 * 3 + 2 * 3), "named": 3 * 2 + 2, "": 1}


def test_a_model_is_looked_at_on_its_own_device() -> None:
    layers = trace(build_model("tiny_vgg", 10, 10).to("meta"))
    assert layers[-1].output_shape == (10,)


def test_looking_leaves_the_model_as_it_was() -> None:
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(math.prod((1, 28, 28)), 2))
    model.train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    trace(model)
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
