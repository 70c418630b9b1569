"""What layers make of images: recorded as it was, whatever later layers do with it."""

import pytest
import torch
from torch import Tensor, nn

from stages.lib.learning.feature_maps import LayerOutput, record_outputs
from stages.lib.learning.models import build_model
from tests.helpers import GREY_28


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def names(outputs: list[LayerOutput]) -> list[str]:
    return [output.name for output in outputs]


def test_layers_in_the_order_they_run(images: Tensor) -> None:
    outputs, _ = record_outputs(build_model("mlp", GREY_28, 4, 10), images)
    assert names(outputs) == [f"layers.{number}" for number in range(5)]


def test_convolution_before_its_relu_in_place(images: Tensor) -> None:
    model = build_model("tiny_vgg", GREY_28, 4, 10)
    outputs, _ = record_outputs(model, images)
    convolution, relu = outputs[:2]
    expected = model.get_submodule("block_1.0")(images)
    assert torch.equal(convolution.after, expected)
    assert torch.equal(relu.before, expected)
    assert torch.equal(relu.after, expected.relu())


def test_logits_are_the_model_s(images: Tensor) -> None:
    model = build_model("tiny_vgg", GREY_28, 4, 10)
    outputs, logits_NK = record_outputs(model, images)
    assert torch.equal(logits_NK, model.eval()(images))
    assert torch.equal(outputs[-1].after, logits_NK)


def test_model_is_left_as_it_was(images: Tensor) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(784, 10))
    outputs, _ = record_outputs(model, images)
    assert torch.equal(outputs[1].before, outputs[1].after)  # nothing is dropped
    assert model.training
    kept = len(outputs)
    model(images)
    assert len(outputs) == kept


def test_layer_that_runs_twice(images: Tensor) -> None:
    relu = nn.ReLU()
    outputs, _ = record_outputs(nn.Sequential(nn.Flatten(), relu, nn.Linear(784, 10), relu), images)
    assert names(outputs) == ["0", "1", "2", "1 (2)"]


class ChannelsLast(nn.Module):
    """Works on maps with their channels last, as ConvNeXt does, and on patches of images as if they were images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.wide, self.act = nn.Conv2d(1, 2, 4, 4), nn.LayerNorm(2), nn.Linear(2, 5), nn.GELU()
        self.back, self.patch, self.out = nn.Dropout(), nn.Linear(5, 3), nn.Linear(7 * 7 * 3, 10)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        maps_NHWC = self.act(self.wide(self.norm(self.conv(images_NCHW).permute(0, 2, 3, 1))))
        maps_NCHW = self.back(maps_NHWC.permute(0, 3, 1, 2))
        patches = self.patch(maps_NCHW.permute(0, 2, 3, 1).flatten(0, 2))
        logits_NK: Tensor = self.out(patches.reshape(len(images_NCHW), -1))
        return logits_NK


def test_channels_come_first(images: Tensor) -> None:
    outputs, _ = record_outputs(ChannelsLast(), images)
    shapes = {output.name: None if (maps := output.maps(3)) is None else list(maps.shape[1:]) for output in outputs}
    expected = {"conv": [2, 7, 7], "norm": [2, 7, 7], "wide": [5, 7, 7], "act": [5, 7, 7], "back": [5, 7, 7]}
    assert shapes == expected | {"patch": None, "out": [10]}
