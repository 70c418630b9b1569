"""The step of training: its options, and what a captured step is used for. tests/test_train.py has the rest."""

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import RLock
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from stages.lib.data.datasets import Batch, Split, make_loader
from stages.lib.learning import steps
from stages.lib.learning.distributed import World
from stages.lib.learning.models import build_model
from stages.lib.learning.optimizers import PlainSGD
from stages.lib.learning.steps import Step, batch_loss, capture_at_first_call, make_step
from stages.lib.learning.training import (
    Epoch,
    Training,
    check_finite,
    is_chance,
)
from tests.helpers import GREY_28, MakeSplit, model_params, refusal

PARAMS = model_params(epochs=1)


def train(split: Split, precision: str) -> tuple[float, nn.Module]:
    torch.manual_seed(42)
    model = build_model("linear", GREY_28, 10, 10)
    (epoch,) = Training(model, PARAMS, split, split, precision).run()
    return epoch.train_loss, model


@pytest.mark.parametrize("held_out", ["test", "validation"])
def test_line_names_the_images_held_out(held_out: str) -> None:
    line = Epoch(2, train_loss=0.5, train_acc=81.234, test_loss=0.4, test_acc=82, correct=820).line(held_out)
    assert line.startswith("Epoch: 2 | Train loss: 0.50000 | Train accuracy: 81.23% | ")
    assert line.endswith(f"{held_out.capitalize()} loss: 0.40000 | {held_out.capitalize()} accuracy: 82.00%")


def test_bfloat16_is_almost_float32(make_split: MakeSplit) -> None:
    split = make_split(330)
    (exact, _), (rounded, model) = train(split, "float32"), train(split, "bfloat16")
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=0.02)
    assert {weights.dtype for weights in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("arch", ["linear", "tiny_vgg"])
def test_step_is_that_of_plain_sgd(make_split: MakeSplit, arch: str) -> None:
    ours, theirs = build_model(arch, GREY_28, 10, 10), build_model(arch, GREY_28, 10, 10)
    theirs.load_state_dict(ours.state_dict())
    step = make_step(ours, PlainSGD(list(ours.parameters()), 0.3))
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.3)
    for batch in make_loader(make_split(77), 32):
        loss, correct = step(batch, len(batch.labels_B))
        logits_BK = theirs(batch.images_BCHW)
        expected = cross_entropy(logits_BK, batch.labels_B)
        optimizer.zero_grad()
        expected.backward()
        optimizer.step()
        assert torch.equal(loss, expected)
        assert correct == (logits_BK.argmax(dim=1) == batch.labels_B).sum()
        assert all(torch.equal(*pair) for pair in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_weights_without_a_gradient_stay(make_split: MakeSplit) -> None:
    model = nn.Sequential(build_model("linear", GREY_28, 10, 10))
    unused = nn.Parameter(torch.ones(3))
    model.register_parameter("unused", unused)
    (batch,) = make_loader(make_split(8), 8)
    make_step(model, PlainSGD(list(model.parameters()), 1.0))(batch, 8)
    assert torch.equal(unused.detach(), torch.ones(3))


def record(calls: list[tuple[Batch, int]]) -> Step:
    def step(batch: Batch, size: int) -> tuple[Tensor, Tensor]:
        calls.append((batch, size))
        return torch.zeros(()), torch.zeros((), dtype=torch.int64)

    return step


def test_captured_once_and_replayed_for_its_size(make_split: MakeSplit, monkeypatch: pytest.MonkeyPatch) -> None:
    # The capture itself needs a GPU; what is sent through it does not.
    captures: list[tuple[object, ...]] = []
    replayed: list[tuple[Batch, int]] = []
    run: list[tuple[Batch, int]] = []

    def capture(*arguments: object) -> Step:
        captures.append(arguments)
        return record(replayed)

    monkeypatch.setattr(steps, "_capture", capture)
    step, model, optimizer = record(run), nn.Identity(), MagicMock()
    batches = list(make_loader(make_split(100), batch_size=32))
    captured = capture_at_first_call(step, model, optimizer)
    for batch in batches:
        captured(batch, len(batch.labels_B))
    assert replayed == [(batch, 32) for batch in batches[:3]]
    assert run == [(batches[3], 4)]
    assert captures == [(step, model, optimizer, batches[0], 32)]


def test_chance_with_one_class() -> None:
    assert is_chance(5, torch.zeros(5, dtype=torch.int64))


def progress_shown(split: Split, monkeypatch: pytest.MonkeyPatch, terminal: bool, world: World) -> str:
    """Return what an epoch writes to stderr."""
    stderr = io.StringIO()
    monkeypatch.setattr(stderr, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "stderr", stderr)
    tqdm.set_lock(RLock())  # of this process: one that a failing test never gives back then stops no other
    list(Training(build_model("linear", GREY_28, 10, 10), PARAMS, split, split, world=world).run())
    return stderr.getvalue()


def test_progress_on_a_terminal(make_split: MakeSplit, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = progress_shown(make_split(330), monkeypatch, terminal=True, world=World())
    assert shown.startswith("\repoch 1:   0%|")
    assert "| 0/330 [00:00<?, ? images/s]" in shown
    assert shown.endswith(" \r")
    assert "\n" not in shown


@pytest.mark.parametrize(("terminal", "rank"), [(False, 0), (True, 1), (False, 1)])
def test_no_progress_elsewhere(
    make_split: MakeSplit, monkeypatch: pytest.MonkeyPatch, terminal: bool, rank: int
) -> None:
    assert progress_shown(make_split(330), monkeypatch, terminal, World(rank=rank)) == ""


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_losses_of_slices(smoothing: float) -> None:
    logits_BK, labels_B = torch.randn(7, 10, generator=torch.Generator().manual_seed(0)), torch.arange(7)
    slices = zip(logits_BK.tensor_split(3), labels_B.tensor_split(3), strict=True)
    losses = [batch_loss(*each, 7, World(rank, 3), smoothing) for rank, each in enumerate(slices)]
    whole = cross_entropy(logits_BK, labels_B, label_smoothing=smoothing)
    assert torch.stack(losses).mean().item() == pytest.approx(whole.item())


@pytest.fixture
def group_of_one(tmp_path: Path) -> Iterator[None]:
    """A process group of this process only: what it sums over all is what it has itself."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("group_of_one")
@pytest.mark.parametrize("rank", [0, 1])
def test_metrics_of_one_rank(make_split: MakeSplit, rank: int) -> None:
    split = make_split(63)  # slices of 32 and 31
    torch.manual_seed(42)
    model = build_model("linear", GREY_28, 10, 10)
    torch.manual_seed(42)
    params = model_params(epochs=1, batch_size=64, lr=1e-30)
    (epoch,) = Training(model, params, split, split, world=World(rank, 2)).run()
    torch.manual_seed(42)
    (batch,) = make_loader(split, 64, shuffle=True)
    ours = slice(32 * rank, 32 + 31 * rank)
    logits_BK, labels_B = model(batch.images_BCHW[ours]), batch.labels_B[ours]
    correct = int((logits_BK.argmax(dim=1) == labels_B).sum())
    assert epoch.train_loss == pytest.approx(cross_entropy(logits_BK, labels_B, reduction="sum").item() / 63)
    assert epoch.train_acc == correct / 63 * 100


class WeightsOn(nn.Module):
    """Has weights on a device that this machine may lack."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.weights: Any = SimpleNamespace(device=torch.device(device))

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        yield self.weights


@pytest.mark.parametrize(
    ("device", "processes", "captured"), [("cuda", 1, True), ("cuda", 2, False), ("cpu", 1, False), ("cpu", 2, False)]
)
def test_captured_or_distributed(monkeypatch: pytest.MonkeyPatch, device: str, processes: int, captured: bool) -> None:
    distributed, captures = MagicMock(), MagicMock()
    monkeypatch.setattr(steps, "DistributedDataParallel", distributed)
    monkeypatch.setattr(steps, "capture_at_first_call", captures)
    model, optimizer = WeightsOn(device), MagicMock()
    assert callable(make_step(model, optimizer, world=World(0, processes)))
    assert [call.args for call in distributed.call_args_list] == ([(model,)] if processes > 1 else [])
    assert [given for (_, *given), _ in captures.call_args_list] == [[model, optimizer]] * captured


class CountingPasses(nn.Module):
    """A linear model with a buffer that is in no state_dict."""

    passes: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layers = build_model("linear", GREY_28, 10, 10)
        self.register_buffer("passes", torch.zeros(()), persistent=False)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        self.passes += 1
        logits_NK: Tensor = self.layers(images_NCHW)
        return logits_NK


def test_capture_leaves_weights_and_buffers(monkeypatch: pytest.MonkeyPatch, make_split: MakeSplit) -> None:
    monkeypatch.setattr(torch.cuda, "Stream", MagicMock)  # on the CPU a capture is one step more
    for name in ("current_stream", "stream", "CUDAGraph", "graph"):
        monkeypatch.setattr(torch.cuda, name, MagicMock())
    model = CountingPasses()
    before = [weights.detach().clone() for weights in model.parameters()]
    (batch,) = make_loader(make_split(8), 8)
    optimizer = PlainSGD(list(model.parameters()), 0.1)
    capture_at_first_call(make_step(model, optimizer), model, optimizer)(batch, 8)
    assert model.passes == 0
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), before, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="captures a CUDA graph")
@pytest.mark.parametrize("arch", ["linear", "tiny_vgg"])
def test_captured_steps_train_as_others(monkeypatch: pytest.MonkeyPatch, make_split: MakeSplit, arch: str) -> None:
    device = torch.device("cuda")
    train, test = (make_split(images).to(device) for images in (330, 77))  # the last batch has 10
    epochs = []
    for captured in (True, False):
        if not captured:
            monkeypatch.setattr(steps, "capture_at_first_call", lambda step, *_: step)
        torch.manual_seed(42)
        model = build_model(arch, GREY_28, 10, 10).to(device)
        torch.manual_seed(42)
        epochs.append(list(Training(model, PARAMS, train, test).run()))
    for one, other in zip(*epochs, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, abs=1e-4)
        assert one.test_loss == pytest.approx(other.test_loss, abs=1e-4)


@pytest.mark.parametrize(
    ("losses", "held_out_loss", "where"),
    [
        ([2.0, np.nan, 1.0, 0.5], 0.3, "nan in epoch 3, batch 2 of 4"),
        ([2.0, 1.0, np.inf, np.nan], np.nan, "inf in epoch 3, batch 3 of 4"),
        ([2.0, 1.0, 0.8, 0.5], np.inf, "inf after the last batch of epoch 3"),
    ],
)
def test_first_loss_that_is_not_finite(losses: list[float], held_out_loss: float, where: str) -> None:
    epoch = Epoch(3, train_loss=0, train_acc=0, test_loss=held_out_loss, test_acc=0, correct=0)
    message = refusal(check_finite, np.array(losses, np.float32), epoch, 0.5)
    assert where in message
    assert "lr = 0.5" in message


def test_finite_losses() -> None:
    epoch = Epoch(1, train_loss=0, train_acc=0, test_loss=0.3, test_acc=0, correct=0)
    check_finite(np.array([2.0, 1.0], np.float32), epoch, lr=0.5)
