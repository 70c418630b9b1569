"""The lecture's models beside the architectures of the pipeline."""

import pytest
import torch
from torch import nn

from stages.lecture.models import FashionMNISTModelV0, FashionMNISTModelV1, FashionMNISTModelV2
from stages.lib.learning.models import build_model
from tests.helpers import GREY_28

MODELS = {
    "linear": (FashionMNISTModelV0, 784),
    "mlp": (FashionMNISTModelV1, 784),
    "tiny_vgg": (FashionMNISTModelV2, 1),
}
KEYS = {
    "linear": ["layer_stack.1", "layer_stack.2"],
    "mlp": ["layer_stack.1", "layer_stack.3"],
    "tiny_vgg": ["block_1.0", "block_1.2", "block_2.0", "block_2.2", "classifier.1"],
}


def lectures(arch: str, hidden_units: int = 10) -> nn.Module:
    kind, input_shape = MODELS[arch]
    torch.manual_seed(42)
    return kind(input_shape=input_shape, hidden_units=hidden_units, output_shape=10)


@pytest.mark.parametrize("arch", MODELS)
def test_weights_and_logits_of_the_pipeline(arch: str) -> None:
    torch.manual_seed(42)
    ours, theirs = build_model(arch, GREY_28, 10, 10), lectures(arch)
    assert all(torch.equal(*pair) for pair in zip(ours.parameters(), theirs.parameters(), strict=True))
    images_NCHW = torch.rand(3, 1, 28, 28)
    assert torch.equal(ours(images_NCHW), theirs(images_NCHW))


@pytest.mark.parametrize("arch", MODELS)
def test_keys_of_the_slides(arch: str) -> None:
    expected = [f"{layer}.{part}" for layer in KEYS[arch] for part in ("weight", "bias")]
    assert list(lectures(arch).state_dict()) == expected


@pytest.mark.parametrize("arch", MODELS)
def test_other_width(arch: str) -> None:
    assert lectures(arch, hidden_units=7)(torch.rand(2, 1, 28, 28)).shape == (2, 10)


def test_colour_images() -> None:
    assert FashionMNISTModelV2(3, 10, 5)(torch.rand(2, 3, 28, 28)).shape == (2, 5)
