"""The step of training: its options, and what a captured step is used for. tests/test_train.py has the rest."""

import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
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

from stages.lib.learning.models import build_model
from stages.lib import training
from stages.lib.data.datasets import Batch, Split, make_loader
from stages.lib.learning.distributed import World
from stages.lib.base.errors import UserError
from stages.lib.base.params import ModelParams
from stages.lib.learning.training import batch_loss, capture_at_first_call, check_finite, descend, fit, is_chance, make_step

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


def test_the_step_is_captured_once_with_its_model_and_the_first_batch(
    make_split: Callable[..., Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(batch: Batch) -> tuple[Tensor, Tensor]:
        return torch.zeros(()), torch.zeros((), dtype=torch.int64)

    given: list[tuple[object, ...]] = []

    def capture(*arguments: object) -> Callable[[Batch], tuple[Tensor, Tensor]]:
        given.append(arguments)
        return step

    monkeypatch.setattr(training, "_capture", capture)
    model, batches = nn.Identity(), list(make_loader(make_split(100), batch_size=32))
    captured = capture_at_first_call(step, model)
    for batch in batches:
        captured(batch)
    assert given == [(step, model, batches[0])]


def test_where_all_images_are_of_one_class_naming_it_is_chance() -> None:
    assert is_chance(5, torch.zeros(5, dtype=torch.int64))


def progress_shown(split: Split, monkeypatch: pytest.MonkeyPatch, terminal: bool, world: World) -> str:
    """What an epoch writes to stderr."""
    stderr = io.StringIO()
    monkeypatch.setattr(stderr, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "stderr", stderr)
    tqdm.set_lock(RLock())  # of this process: one that a failing test never gives back then stops no other
    list(fit(build_model("linear", 10, 10), PARAMS, split, split, world=world))
    return stderr.getvalue()


def test_a_terminal_sees_the_images_of_an_epoch_go_by_and_then_nothing_of_it(
    make_split: Callable[..., Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = progress_shown(make_split(330), monkeypatch, terminal=True, world=World())
    assert shown.startswith("\repoch 1:   0%|")
    assert "| 0/330 [00:00<?, ? images/s]" in shown
    assert shown.endswith(" \r")
    assert "\n" not in shown


@pytest.mark.parametrize(("terminal", "rank"), [(False, 0), (True, 1), (False, 1)])
def test_no_progress_is_shown_where_nobody_watches_or_by_a_process_that_does_not_write(
    make_split: Callable[..., Split], monkeypatch: pytest.MonkeyPatch, terminal: bool, rank: int
) -> None:
    assert progress_shown(make_split(330), monkeypatch, terminal, World(rank=rank)) == ""


def test_the_losses_of_all_slices_have_the_mean_of_the_whole_batch() -> None:
    logits_BK, labels_B = torch.randn(7, 10, generator=torch.Generator().manual_seed(0)), torch.arange(7)
    losses = []
    for rank in range(3):
        world = World(rank, 3)
        index_B = world.share_of(torch.arange(7))
        batch = Batch(torch.empty(0), labels_B[index_B], size=7)
        losses.append(batch_loss(logits_BK[index_B], batch, world))
    assert torch.stack(losses).mean().item() == pytest.approx(cross_entropy(logits_BK, labels_B).item())


@pytest.fixture
def alone_in_the_group(tmp_path: Path) -> Iterator[None]:
    """A process group of this process only: what it sums over all is what it has itself."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("alone_in_the_group")
@pytest.mark.parametrize("rank", [0, 1])
def test_one_of_two_processes_gives_the_part_of_its_images_in_loss_and_accuracy(
    make_split: Callable[..., Split], rank: int
) -> None:
    split = make_split(63)  # slices of 32 and 31
    params = replace(PARAMS, batch_size=64, lr=0.0)
    torch.manual_seed(42)
    model = build_model("linear", 10, 10)
    torch.manual_seed(42)
    (epoch,) = fit(model, params, split, split, world=World(rank, 2))
    torch.manual_seed(42)
    (batch,) = make_loader(split, 64, shuffle=True)
    ours = slice(32 * rank, 32 + 31 * rank)
    logits_BK, labels_B = model(batch.images_B1HW[ours]), batch.labels_B[ours]
    hits = int((logits_BK.argmax(dim=1) == labels_B).sum())
    assert epoch.train_loss == pytest.approx(cross_entropy(logits_BK, labels_B, reduction="sum").item() / 63)
    assert epoch.train_acc == hits / 63 * 100


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
def test_a_step_is_captured_on_a_gpu_and_shared_among_processes_but_never_both(
    monkeypatch: pytest.MonkeyPatch, device: str, processes: int, captured: bool
) -> None:
    shared: list[nn.Module] = []
    captures: list[tuple[object, ...]] = []

    def share(model: nn.Module) -> nn.Module:
        shared.append(model)
        return model

    def capture(step: object, model: nn.Module) -> object:
        captures.append((callable(step), model))
        return step

    monkeypatch.setattr(training, "DistributedDataParallel", share)
    monkeypatch.setattr(training, "capture_at_first_call", capture)
    model = WeightsOn(device)
    assert callable(make_step(model, lr=0.1, world=World(0, processes)))
    assert shared == ([model] if processes > 1 else [])
    assert captures == ([(True, model)] if captured else [])


class CountingPasses(nn.Module):
    """A linear model with a buffer that is in no state_dict."""

    passes: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layers = build_model("linear", 10, 10)
        self.register_buffer("passes", torch.zeros(()), persistent=False)

    def forward(self, images_N1HW: Tensor) -> Tensor:
        self.passes += 1
        logits_NK: Tensor = self.layers(images_N1HW)
        return logits_NK


def test_a_capture_leaves_weights_and_buffers_as_they_were(
    monkeypatch: pytest.MonkeyPatch, make_split: Callable[..., Split]
) -> None:
    monkeypatch.setattr(torch.cuda, "Stream", MagicMock)  # on the CPU a capture is one step more
    for name in ("current_stream", "stream", "CUDAGraph", "graph"):
        monkeypatch.setattr(torch.cuda, name, MagicMock())
    model = CountingPasses()
    before = [weights.detach().clone() for weights in model.parameters()]
    (batch,) = make_loader(make_split(8), 8)
    training.capture_at_first_call(make_step(model, lr=0.1), model)(batch)
    assert model.passes == 0
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), before, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="captures a CUDA graph")
@pytest.mark.parametrize("arch", ["linear", "tiny_vgg"])
def test_captured_steps_train_as_others_do(
    monkeypatch: pytest.MonkeyPatch, make_split: Callable[..., Split], arch: str
) -> None:
    device = torch.device("cuda")
    train, test = (make_split(images).to(device) for images in (330, 77))  # the last batch has 10
    epochs = []
    for captured in (True, False):
        if not captured:
            monkeypatch.setattr(training, "capture_at_first_call", lambda step, _: step)
        torch.manual_seed(42)
        model = build_model(arch, 10, 10).to(device)
        torch.manual_seed(42)
        epochs.append(list(fit(model, PARAMS, train, test)))
    for one, other in zip(*epochs, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, abs=1e-4)
        assert one.test_loss == pytest.approx(other.test_loss, abs=1e-4)


@pytest.mark.parametrize(
    ("losses", "test_loss", "complaint"),
    [
        ([2.0, np.nan, 1.0, 0.5], 0.3, "the loss is nan in epoch 3, batch 2 of 4, with lr = 0.5; "),
        ([2.0, 1.0, np.inf, np.nan], np.nan, "the loss is inf in epoch 3, batch 3 of 4, with lr = 0.5; "),
        ([2.0, 1.0, 0.8, 0.5], np.inf, "the loss is inf after the last batch of epoch 3, with lr = 0.5; "),
    ],
)
def test_the_first_loss_that_is_not_finite_is_named(losses: list[float], test_loss: float, complaint: str) -> None:
    with pytest.raises(UserError) as caught:
        check_finite(np.array(losses, np.float32), test_loss, epoch=3, lr=0.5)
    assert str(caught.value) == complaint + "training has diverged: try a smaller lr"


def test_finite_losses_are_accepted() -> None:
    check_finite(np.array([2.0, 1.0], np.float32), 0.3, epoch=1, lr=0.5)
