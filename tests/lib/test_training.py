"""The step of training: its options, and what a captured step is used for. tests/test_train.py has the rest."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from stages.architectures import build_model
from stages.lib import training
from stages.lib.datasets import Batch, Split, make_loader
from stages.lib.params import ModelParams
from stages.lib.training import capture_at_first_call, descend, fit

PARAMS = ModelParams(arch="linear", hidden_units=10, epochs=1, batch_size=32, lr=0.1)


def train(split: Split, precision: str) -> tuple[float, nn.Module]:
    torch.manual_seed(42)
    model = build_model("linear", 10, 10)
    (epoch,) = fit(model, PARAMS, split, split, precision)
    return epoch.train_loss, model


def test_bfloat16_trains_almost_as_float32_does(make_split: Callable[..., Split]) -> None:
    split = make_split(330)
    (exact, _), (rounded, _) = train(split, "float32"), train(split, "bfloat16")
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=0.02)


def test_bfloat16_leaves_the_weights_in_float32(make_split: Callable[..., Split]) -> None:
    _, model = train(make_split(64), "bfloat16")
    assert {weights.dtype for weights in model.parameters()} == {torch.float32}


def test_a_descent_is_that_of_torch_to_the_last_bit() -> None:
    ours, theirs = build_model("tiny_vgg", 10, 10), build_model("tiny_vgg", 10, 10)
    theirs.load_state_dict(ours.state_dict())
    images_N1HW = torch.rand(8, 1, 28, 28)
    for model in (ours, theirs):
        model(images_N1HW).square().mean().backward()
    descend(list(ours.parameters()), lr=0.3)
    torch.optim.SGD(theirs.parameters(), lr=0.3).step()
    for mine, yours in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, yours)


def test_weights_without_a_gradient_stay_as_they_are() -> None:
    unused = nn.Parameter(torch.ones(3))
    descend([unused], lr=1.0)
    assert torch.equal(unused.detach(), torch.ones(3))


def test_only_batches_of_the_captured_size_are_replayed(
    make_split: Callable[..., Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The capture itself needs a GPU; what is sent through it does not.
    replayed: list[int] = []
    run: list[int] = []

    def record(sizes: list[int]) -> Callable[[Batch], tuple[Tensor, Tensor]]:
        def step(batch: Batch) -> tuple[Tensor, Tensor]:
            sizes.append(batch.size)
            return torch.zeros(()), torch.zeros((), dtype=torch.int64)

        return step

    monkeypatch.setattr(training, "_capture", lambda step, model, batch: record(replayed))
    captured = capture_at_first_call(record(run), nn.Identity())
    for batch in make_loader(make_split(100), batch_size=32):
        captured(batch)
    assert (replayed, run) == ([32, 32, 32], [4])
