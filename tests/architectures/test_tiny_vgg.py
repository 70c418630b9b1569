"""The convolutional network, and the lecture's step through its layers."""

import pytest
import torch
from torch import nn

from stages.architectures.tiny_vgg import TinyVGG, convolution_block
from stages.lib.learning.models import build_model
from tests.helpers import GREY_28

IMAGE_3HW = torch.rand(3, 64, 64)  # the lecture's, in red, green and blue


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "side"), [(3, 1, 0, 62), (5, 2, 0, 30), (3, 1, 1, 64), (1, 1, 0, 64), (3, 2, 1, 32)]
)
def test_size_after_a_convolution(kernel: int, stride: int, padding: int, side: int) -> None:
    layer = nn.Conv2d(3, 10, kernel, stride, padding)
    assert layer(IMAGE_3HW.unsqueeze(0)).shape == (1, 10, side, side)
    assert side == (64 + 2 * padding - kernel) // stride + 1


def test_weights_of_a_convolution() -> None:
    layer = nn.Conv2d(3, 10, kernel_size=(5, 5), stride=2, padding=0)
    assert layer.weight.shape == (10, 3, 5, 5)
    assert layer.bias is not None
    assert layer.bias.shape == (10,)


def test_image_without_batch_dimension() -> None:
    layer = nn.Conv2d(3, 10, 3)
    torch.testing.assert_close(layer(IMAGE_3HW), layer(IMAGE_3HW.unsqueeze(0))[0])


def test_pooling_halves_and_keeps_the_brightest() -> None:
    pooled = nn.MaxPool2d(kernel_size=2)(IMAGE_3HW)
    assert pooled.shape == (3, 32, 32)
    assert pooled[0, 0, 0] == IMAGE_3HW[0, :2, :2].max()


@pytest.mark.parametrize("hidden_units", [1, 10, 16])
def test_7_times_7(hidden_units: int) -> None:
    model = TinyVGG(GREY_28, hidden_units, 10)
    images_NCHW = torch.rand(2, 1, 28, 28)
    halved = model.block_1(images_NCHW)
    assert halved.shape == (2, hidden_units, 14, 14)
    quartered = model.block_2(halved)
    assert quartered.shape == (2, hidden_units, 7, 7)
    (linear,) = [layer for layer in model.classifier if isinstance(layer, nn.Linear)]
    assert linear.in_features == quartered[0].numel() == hidden_units * 7 * 7
    assert torch.equal(model(images_NCHW), linear(quartered.flatten(1)))


@pytest.mark.parametrize(("shape", "error"), [((1, 64, 64), "cannot be multiplied"), ((3, 28, 28), "1 channels")])
def test_images_of_another_shape(shape: tuple[int, ...], error: str) -> None:
    with pytest.raises(RuntimeError, match=error):
        build_model("tiny_vgg", GREY_28, 10, 10)(torch.rand(1, *shape))


def test_receptive_field_of_a_block() -> None:
    torch.manual_seed(0)
    convolutions = convolution_block(1, 4)[:4]
    image_11HW = torch.zeros(1, 1, 28, 28, requires_grad=True)
    convolutions(image_11HW)[0, :, 14, 14].sum().backward()
    assert image_11HW.grad is not None
    rows, columns = image_11HW.grad[0, 0].nonzero().unbind(1)
    assert 12 <= rows.min() <= rows.max() <= 16
    assert 12 <= columns.min() <= columns.max() <= 16


@pytest.mark.parametrize(
    ("settings", "side"), [({}, 7), ({"kernel_size": 5}, 4), ({"padding": 0}, 4), ({"kernel_size": 5, "padding": 2}, 7)]
)
def test_side_of_the_last_maps(settings: dict[str, int], side: int) -> None:
    model = build_model("tiny_vgg", GREY_28, 10, 10, settings)
    assert sum(weights.numel() for weights in model.get_submodule("classifier").parameters()) == 10 * side**2 * 10 + 10


def test_pooling_of_the_mean() -> None:
    torch.manual_seed(42)
    model = build_model("tiny_vgg", GREY_28, 10, 10, {"pooling": "avg"})
    kinds = [type(layer) for layer in model.modules()]
    assert (kinds.count(nn.AvgPool2d), kinds.count(nn.MaxPool2d)) == (2, 0)
