"""A file with an architecture is tried out when a model is built: what is wrong with it is said in a line."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from stages import architectures
from stages.lib.learning.models import build_model
from stages.lib.base.errors import UserError

LINEAR = "nn.Sequential(nn.Flatten(), nn.Linear(784, {}))"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """`write(code)` makes an architecture of `code` and gives its name."""
    monkeypatch.setattr(architectures, "__path__", [str(tmp_path)])
    monkeypatch.setattr(architectures, "__file__", str(tmp_path / "__init__.py"))

    def make(code: str) -> str:
        (tmp_path / "ours.py").write_text(code)
        return "ours"

    yield make
    sys.modules.pop("stages.architectures.ours", None)


def building(body: str) -> str:
    return f"from torch import nn\n\n\ndef build(hidden_units, num_classes):\n    {body}\n"


def test_a_model_of_the_right_shape_is_ready_to_train(write: Callable[[str], str]) -> None:
    model = build_model(write(building(f"return {LINEAR.format('num_classes')}")), 10, 7)
    assert model.training
    assert model(torch.zeros(5, 1, 28, 28)).shape == (5, 7)


@pytest.mark.parametrize("arch", ["linear", "mlp", "tiny_vgg"])
def test_trying_a_model_out_draws_no_random_number(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(42)
        build_model(arch, 10, 10)
        states.append(torch.get_rng_state())
        monkeypatch.setattr(architectures, "_try_out", lambda *_: None)
    assert torch.equal(*states)


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("def build(:\n", ", line 1: SyntaxError: invalid syntax"),
        ("import no_such_package\n", ", line 1: ModuleNotFoundError: No module named 'no_such_package'"),
        ("", ": AttributeError: module 'stages.architectures.ours' has no attribute 'build'"),
        ("build = 3\n", ": TypeError: 'int' object is not callable"),
        ("def build():\n    pass\n", ": TypeError: build() takes 0 positional arguments but 2 were given"),
        (building("return None"), ": TypeError: build returns NoneType, not an nn.Module"),
        (building("raise ValueError('too\\nsmall')"), ", line 5: ValueError: too small"),
        (building("return nn.Flatten()"), ": ValueError: the model has no weights to train"),
        (
            building("return " + LINEAR.replace("784", "100").format("num_classes")),
            ": RuntimeError: mat1 and mat2 shapes cannot be multiplied (1x784 and 100x10)",
        ),
        (
            building(f"return {LINEAR.format(13)}"),
            ": ValueError: for one image the model gives [1, 13], not logits [1, 10]",
        ),
        (
            building("return nn.GRU(28, 10)"),
            ": ",
        ),
    ],
    ids=[
        *("syntax", "import", "no-build", "no-function", "no-arguments", "no-module", "raises", "no-weights"),
        *("wrong-input", "wrong-output", "not-for-images"),
    ],
)
def test_what_is_wrong_with_an_architecture_is_one_line(write: Callable[[str], str], code: str, complaint: str) -> None:
    with pytest.raises(UserError) as caught:
        build_model(write(code), 10, 10)
    assert str(caught.value).startswith("stages/architectures/ours.py" + complaint)
    assert "\n" not in str(caught.value)
