"""The lecture's baseline."""

import torch
from torch import nn

from stages.lib.learning.models import build_model
from tests.helpers import GREY_28


def test_flatten() -> None:
    image_1HW = torch.rand(1, 28, 28)
    assert torch.equal(nn.Flatten()(image_1HW)[0], image_1HW.reshape(784))


def test_one_linear_map() -> None:
    torch.manual_seed(0)
    model = build_model("linear", GREY_28, 10, 10)
    one, other = torch.rand(2, 8, 1, 28, 28)
    together = model(one) + model(other) - model(torch.zeros_like(one))
    torch.testing.assert_close(model(one + other), together, rtol=1e-4, atol=1e-5)
