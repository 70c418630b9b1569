"""The convolutional network, and the lecture's step through its layers."""

import pytest
import torch
from torch import nn

from stages.lib.learning.models import build_model
from stages.architectures.tiny_vgg import TinyVGG, convolution_block

IMAGE_3HW = torch.rand(3, 64, 64)  # the lecture's, in red, green and blue


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "side"), [(3, 1, 0, 62), (5, 2, 0, 30), (3, 1, 1, 64), (1, 1, 0, 64), (3, 2, 1, 32)]
)
def test_a_convolution_leaves_an_image_of_the_size_that_its_window_allows(
    kernel: int, stride: int, padding: int, side: int
) -> None:
    layer = nn.Conv2d(3, 10, kernel, stride, padding)
    assert layer(IMAGE_3HW.unsqueeze(0)).shape == (1, 10, side, side)
    assert side == (64 + 2 * padding - kernel) // stride + 1


def test_a_convolution_has_a_window_for_each_pair_of_channels_and_a_bias_for_each_output() -> None:
    layer = nn.Conv2d(3, 10, kernel_size=(5, 5), stride=2, padding=0)
    assert layer.weight.shape == (10, 3, 5, 5)
    assert layer.bias is not None
    assert layer.bias.shape == (10,)


def test_a_single_image_may_go_without_its_batch_dimension() -> None:
    layer = nn.Conv2d(3, 10, 3)
    torch.testing.assert_close(layer(IMAGE_3HW), layer(IMAGE_3HW.unsqueeze(0))[0])


def test_pooling_halves_height_and_width_and_keeps_the_brightest() -> None:
    pooled = nn.MaxPool2d(kernel_size=2)(IMAGE_3HW)
    assert pooled.shape == (3, 32, 32)
    assert pooled[0, 0, 0] == IMAGE_3HW[0, :2, :2].max()


def test_it_has_the_lectures_7740_parameters_and_a_logit_for_each_class() -> None:
    model = build_model("tiny_vgg", 10, 10)
    assert sum(weights.numel() for weights in model.parameters()) == 7740
    assert model(torch.rand(32, 1, 28, 28)).shape == (32, 10)


@pytest.mark.parametrize("hidden_units", [1, 10, 16])
def test_the_classifier_takes_a_map_of_7_by_7_from_each_channel(hidden_units: int) -> None:
    model = TinyVGG(hidden_units, 10)
    images_N1HW = torch.rand(2, 1, 28, 28)
    halved = model.block_1(images_N1HW)
    assert halved.shape == (2, hidden_units, 14, 14)
    quartered = model.block_2(halved)
    assert quartered.shape == (2, hidden_units, 7, 7)
    (linear,) = [layer for layer in model.classifier if isinstance(layer, nn.Linear)]
    assert linear.in_features == quartered[0].numel() == hidden_units * 7 * 7
    assert torch.equal(model(images_N1HW), linear(quartered.flatten(1)))


def test_an_image_of_another_size_does_not_fit_the_classifier() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        build_model("tiny_vgg", 10, 10)(torch.rand(1, 1, 64, 64))


def test_its_weights_are_drawn_in_the_lectures_order() -> None:
    torch.manual_seed(42)
    ours = list(build_model("tiny_vgg", 10, 10).parameters())
    torch.manual_seed(42)
    lectures = [
        weights
        for layer in (
            nn.Conv2d(1, 10, 3, padding=1),
            nn.Conv2d(10, 10, 3, padding=1),
            nn.Conv2d(10, 10, 3, padding=1),
            nn.Conv2d(10, 10, 3, padding=1),
            nn.Linear(490, 10),
        )
        for weights in layer.parameters()
    ]
    assert all(torch.equal(our, lecture) for our, lecture in zip(ours, lectures, strict=True))


def test_a_block_sees_two_pixels_around_each_before_it_pools() -> None:
    torch.manual_seed(0)
    convolutions = convolution_block(1, 4)[:4]
    image_11HW = torch.zeros(1, 1, 28, 28, requires_grad=True)
    convolutions(image_11HW)[0, :, 14, 14].sum().backward()
    assert image_11HW.grad is not None
    rows, columns = image_11HW.grad[0, 0].nonzero().unbind(1)
    assert 12 <= rows.min() <= rows.max() <= 16
    assert 12 <= columns.min() <= columns.max() <= 16


def test_other_colours_and_other_classes_are_told_apart_by_shape() -> None:
    assert build_model("tiny_vgg", 10, 3)(torch.rand(2, 1, 28, 28)).shape == (2, 3)
    with pytest.raises(RuntimeError, match="to have 1 channels"):
        build_model("tiny_vgg", 10, 10)(torch.rand(1, 3, 28, 28))
