"""The baseline with ReLU, after the logits too."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from stages.lib.learning.models import build_model


def test_it_has_the_lectures_7960_parameters_and_a_logit_for_each_class() -> None:
    model = build_model("mlp", 10, 10)
    assert sum(weights.numel() for weights in model.parameters()) == 7960
    assert model(torch.rand(32, 1, 28, 28)).shape == (32, 10)


def test_its_weights_are_drawn_in_the_lectures_order() -> None:
    torch.manual_seed(42)
    ours = list(build_model("mlp", 10, 10).parameters())
    torch.manual_seed(42)
    layers = nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.ReLU(), nn.Linear(10, 10), nn.ReLU())
    assert all(torch.equal(our, lecture) for our, lecture in zip(ours, layers.parameters(), strict=True))
    assert torch.equal(nn.Sequential(layers)(torch.ones(3, 1, 28, 28)), layers(torch.ones(3, 1, 28, 28)))


def test_its_logits_are_never_negative() -> None:
    torch.manual_seed(0)
    logits_NK = build_model("mlp", 10, 10)(torch.randn(500, 1, 28, 28) * 10)
    assert logits_NK.min().item() == 0.0
    assert logits_NK.max().item() > 0.0


def test_it_bends_where_the_baseline_is_straight() -> None:
    torch.manual_seed(0)
    model = build_model("mlp", 10, 10)
    one, other = torch.randn(2, 8, 1, 28, 28)
    together = model(one) + model(other) - model(torch.zeros_like(one))
    assert (model(one + other) - together).abs().max() > 0.05


def test_a_class_whose_logit_is_never_positive_learns_no_more() -> None:
    torch.manual_seed(0)
    model = build_model("mlp", 10, 10)
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
