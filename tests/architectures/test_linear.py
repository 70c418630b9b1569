"""The lecture's baseline."""

import torch
from torch import nn

from stages.lib.learning.models import build_model


def test_flatten_makes_one_row_of_784_numbers_of_an_image() -> None:
    image_1HW = torch.rand(1, 28, 28)
    assert nn.Flatten()(image_1HW).shape == (1, 784)
    assert torch.equal(nn.Flatten()(image_1HW)[0], image_1HW.reshape(-1))


def test_it_has_the_lectures_7960_parameters_and_a_logit_for_each_class() -> None:
    model = build_model("linear", 10, 10)
    assert sum(weights.numel() for weights in model.parameters()) == 7960
    assert model(torch.rand(32, 1, 28, 28)).shape == (32, 10)


def test_hidden_units_and_classes_may_be_others() -> None:
    model = build_model("linear", 7, 3)
    assert sum(weights.numel() for weights in model.parameters()) == 784 * 7 + 7 + 7 * 3 + 3
    assert model(torch.rand(2, 1, 28, 28)).shape == (2, 3)


def test_its_weights_are_drawn_in_the_lectures_order() -> None:
    torch.manual_seed(42)
    ours = list(build_model("linear", 10, 10).parameters())
    torch.manual_seed(42)
    lectures = list(nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.Linear(10, 10)).parameters())
    assert all(torch.equal(our, lecture) for our, lecture in zip(ours, lectures, strict=True))


def test_two_linear_layers_are_one_linear_map() -> None:
    torch.manual_seed(0)
    model = build_model("linear", 10, 10)
    one, other = torch.rand(2, 8, 1, 28, 28)
    together = model(one) + model(other) - model(torch.zeros_like(one))
    torch.testing.assert_close(model(one + other), together, rtol=1e-4, atol=1e-5)
