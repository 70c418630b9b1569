"""The baseline with ReLU, after the logits too."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from stages.lib.learning.models import build_model
from tests.helpers import GREY_28


def test_no_negative_logits() -> None:
    torch.manual_seed(0)
    logits_NK = build_model("mlp", GREY_28, 10, 10)(torch.randn(500, 1, 28, 28) * 10)
    assert logits_NK.min().item() == 0.0
    assert logits_NK.max().item() > 0.0


def test_no_linear_map() -> None:
    torch.manual_seed(0)
    model = build_model("mlp", GREY_28, 10, 10)
    one, other = torch.randn(2, 8, 1, 28, 28)
    together = model(one) + model(other) - model(torch.zeros_like(one))
    assert (model(one + other) - together).abs().max() > 0.05


def test_class_without_positive_logit_is_dead() -> None:
    torch.manual_seed(0)
    model = build_model("mlp", GREY_28, 10, 10)
    last = [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1]
    with torch.no_grad():
        last.bias[3] = -1000.0
    labels_N = torch.full((32,), 3)  # though every image is of that class
    cross_entropy(model(torch.rand(32, 1, 28, 28)), labels_N).backward()
    assert last.weight.grad is not None
    assert last.bias.grad is not None
    assert last.bias.grad[3].item() == 0.0
    assert not last.weight.grad[3].any()
    assert last.bias.grad.any()
