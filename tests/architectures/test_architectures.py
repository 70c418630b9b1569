"""What holds for each architecture."""

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from stages.lib.base.params import ARCHITECTURES
from stages.lib.learning.models import build_model
from tests.helpers import GREY_28

LAYERS: dict[str, Callable[[], list[nn.Module]]] = {  # by their order in the lecture; mlp_hidden is one of it less
    "linear": lambda: [nn.Flatten(), nn.Linear(784, 10), nn.Linear(10, 10)],
    "mlp": lambda: [nn.Flatten(), nn.Linear(784, 10), nn.ReLU(), nn.Linear(10, 10), nn.ReLU()],
    "mlp_hidden": lambda: [nn.Flatten(), nn.Linear(784, 10), nn.ReLU(), nn.Linear(10, 10)],
    "tiny_vgg": lambda: [
        *(nn.Conv2d(1, 10, 3, padding=1), nn.ReLU(), nn.Conv2d(10, 10, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(10, 10, 3, padding=1), nn.ReLU(), nn.Conv2d(10, 10, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(490, 10)),
    ],
}
PARAMETERS = {"linear": 7960, "mlp": 7960, "mlp_hidden": 7960, "tiny_vgg": 7740}
every_architecture = pytest.mark.parametrize("arch", LAYERS)


@every_architecture
def test_parameters_and_logits(arch: str) -> None:
    model = build_model(arch, GREY_28, 10, 10)
    assert sum(weights.numel() for weights in model.parameters()) == PARAMETERS[arch]
    assert model(torch.rand(32, 1, 28, 28)).shape == (32, 10)


@every_architecture
def test_other_sizes(arch: str) -> None:
    assert build_model(arch, GREY_28, 7, 3)(torch.rand(2, 1, 28, 28)).shape == (2, 3)


@every_architecture
@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 4, 4), (3, 5, 31)])
def test_other_shapes(arch: str, shape: tuple[int, int, int]) -> None:
    assert build_model(arch, shape, 4, 3)(torch.rand(2, *shape)).shape == (2, 3)


@every_architecture
def test_weights_and_logits_of_the_lecture(arch: str) -> None:
    torch.manual_seed(42)
    ours = build_model(arch, GREY_28, 10, 10)
    torch.manual_seed(42)
    lectures = nn.Sequential(*LAYERS[arch]())
    pairs: list[tuple[Tensor, Tensor]] = [*zip(ours.parameters(), lectures.parameters(), strict=True)]
    assert all(torch.equal(*pair) for pair in pairs)
    images_NCHW = torch.rand(3, 1, 28, 28)
    assert torch.equal(ours(images_NCHW), lectures(images_NCHW))


@every_architecture
def test_file_says_what_it_reaches(arch: str) -> None:
    opening = (ARCHITECTURES / f"{arch}.py").read_text().split('"""')[1]
    assert re.search(rf"\d\d\.\d\d % .* 3 epochs, .* s on .*\({PARAMETERS[arch]:,} parameters\)", opening)
