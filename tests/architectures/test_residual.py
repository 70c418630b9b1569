"""The residual network: what its settings change, and what it answers for mirror images."""

from typing import Any

import pytest
import torch
from torch import nn

from stages.architectures.residual import Block, plain, separable
from stages.lib.learning.layers import trace_layers
from stages.lib.learning.models import build_model
from tests.helpers import GREY_28, refusal


def weights_of(model: nn.Module) -> int:
    return sum(weights.numel() for weights in model.parameters())


def test_weights_of_a_separable_convolution() -> None:
    assert weights_of(separable(16, 32)) == 16 * 9 + 16 * 32 + 2 * (16 + 32)  # weights, and scale and shift of each map
    assert weights_of(plain(16, 32)) == 16 * 32 * 9 + 2 * 32


@pytest.mark.parametrize("shape", [GREY_28, (3, 64, 64), (1, 4, 4), (3, 5, 31)])
@pytest.mark.parametrize(
    "settings", [{}, {"convolution": "plain"}, {"widths": [8], "blocks": [0]}, {"mirror": True}, {"late_pooling": True}]
)
def test_shapes_and_settings(shape: tuple[int, int, int], settings: dict[str, Any]) -> None:
    assert build_model("residual", shape, 4, 3, settings)(torch.rand(2, *shape)).shape == (2, 3)


@pytest.mark.parametrize("late_pooling", [False, True])
def test_late_pooling_gives_each_convolution_more_pixels(late_pooling: bool) -> None:
    settings = {"widths": [8, 8], "blocks": [1, 1], "convolution": "plain", "late_pooling": late_pooling}
    layers = trace_layers(build_model("residual", GREY_28, 4, 10, settings), GREY_28)
    sides = [layer.output_shape[-1] for layer in layers if layer.kind == "Conv2d"]
    assert sides == ([28, 28, 14, 14, 14, 7, 7] if late_pooling else [28, 14, 14, 14, 7, 7, 7])


def test_a_block_is_a_way_past_its_layers() -> None:
    block = Block(4, "separable")
    for layer in block.layers:
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.zeros_(layer.weight)
    maps_NCHW = torch.rand(2, 4, 5, 5)
    assert torch.equal(block(maps_NCHW), maps_NCHW)


def test_mirror_images_get_the_same_answer() -> None:
    torch.manual_seed(0)
    images_NCHW = torch.rand(3, 1, 28, 28)
    for mirror, same in ((True, True), (False, False)):
        model = build_model("residual", GREY_28, 8, 10, {"mirror": mirror}).eval()
        assert torch.allclose(model(images_NCHW), model(images_NCHW.flip(3)), atol=1e-5) is same


def test_the_answer_is_the_mean_of_both() -> None:
    torch.manual_seed(0)
    model = build_model("residual", GREY_28, 8, 10, {"mirror": True}).eval()
    images_NCHW = torch.rand(3, 1, 28, 28)
    answer_NK = model(images_NCHW)
    model.mirror = False  # type: ignore[assignment]
    assert torch.allclose(answer_NK, (model(images_NCHW) + model(images_NCHW.flip(3))) / 2, atol=1e-5)


def test_a_training_looks_at_the_images_as_they_are() -> None:
    images_NCHW = torch.rand(8, 1, 28, 28)
    logits = []
    for mirror in (True, False):
        torch.manual_seed(0)
        logits.append(build_model("residual", GREY_28, 8, 10, {"mirror": mirror})(images_NCHW))
    assert torch.equal(*logits)


@pytest.mark.parametrize(("settings", "named"), [({"widths": [8.5]}, "widths"), ({"convolution": "deep"}, "deep")])
def test_wrong_settings(settings: dict[str, Any], named: str) -> None:
    assert named in refusal(build_model, "residual", GREY_28, 8, 10, settings)
