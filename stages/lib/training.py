"""The lecture's training loop: plain SGD on cross-entropy, and after each epoch a look at images held out.

Random numbers come from torch's global generator in the lecture's order: the caller seeds it before building the
model and again before `fit`; each pass over a loader then draws from it.

The loop is the same everywhere; what differs is the step. On a GPU it is captured once as a CUDA graph and replayed: a
step of these small models is some fifty tiny kernels, and launching them one by one takes longer than running them.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from tqdm import tqdm

from stages.lib.datasets import Batch, Split, make_loader
from stages.lib.distributed import ALONE, World
from stages.lib.errors import UserError
from stages.lib.inference import predict_logits
from stages.lib.metrics import figures_of, mean_over_batches
from stages.lib.params import ModelParams

Step = Callable[[Batch], tuple[Tensor, Tensor]]  # descends once; gives loss and number of hits before that
WARM_UP_STEPS = 3  # before a capture, so that libraries have set themselves up


@dataclass(frozen=True)
class Epoch:
    """Figures of one epoch: means over batches; losses in nats, accuracies in percent."""

    epoch: int  # from 1
    train_loss: float
    train_acc: float
    test_loss: float
    test_acc: float
    correct: int  # of the images held out

    def __str__(self) -> str:
        return (
            f"Epoch: {self.epoch} | Train loss: {self.train_loss:.5f} | Train accuracy: {self.train_acc:.2f}% | "
            f"Test loss: {self.test_loss:.5f} | Test accuracy: {self.test_acc:.2f}%"
        )


def fit(
    model: nn.Module,
    params: ModelParams,
    train: Split,
    test: Split,
    precision: str = "float32",
    world: World = ALONE,
) -> Iterator[Epoch]:
    """Train `model` in place, on the device that holds it and the splits; give the figures after each epoch.

    Args:
        model: maps float32 images `[N, 1, 28, 28]` to logits `[N, K]`.
        params: epochs, batch_size and lr are used.
        train: images to train on.
        test: images to look at after each epoch.
        precision: float32, or bfloat16 for the arithmetic of the training step; weights stay float32.
        world: the processes that train together; all of them must call this with the same arguments and seed.

    Raises:
        UserError: a loss is not finite.
    """
    train_loader = make_loader(train, params.batch_size, shuffle=True, world=world)
    test_loader = make_loader(test, params.batch_size)
    step = make_step(model, params.lr, precision, world)
    for epoch in range(1, params.epochs + 1):
        with tqdm(
            total=len(train), desc=f"epoch {epoch}", unit=" images", leave=False, disable=_hide(world)
        ) as progress:
            losses_B, accuracies_B = train_epoch(model, train_loader, step, world, progress)
        tested = figures_of(predict_logits(model, test_loader), test.labels_N, params.batch_size)
        check_finite(losses_B, tested.model_loss, epoch, params.lr)
        yield Epoch(
            epoch,
            train_loss=mean_over_batches(losses_B),
            train_acc=mean_over_batches(accuracies_B),
            test_loss=tested.model_loss,
            test_acc=tested.model_acc,
            correct=tested.correct,
        )


def train_epoch(
    model: nn.Module, loader: DataLoader[Batch], step: Step, world: World, progress: Any
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """One pass over the training images, one step for each batch.

    Returns:
        The loss (float32) and the accuracy (float64, percent) of each batch, before its step.
    """
    model.train()
    # Results stay on the device until the epoch is over: nothing in the loop waits for them.
    device = next(model.parameters()).device
    losses_B = torch.empty(len(loader), device=device)
    hits_B = torch.empty(len(loader), dtype=torch.int64, device=device)
    sizes_B = np.empty(len(loader))
    for number, batch in enumerate(loader):
        losses_B[number], hits_B[number] = step(batch)
        sizes_B[number] = batch.size
        progress.update(batch.size)
    losses_B = world.sum(losses_B) / world.size
    return losses_B.cpu().numpy(), world.sum(hits_B).cpu().numpy() / sizes_B * 100


def make_step(model: nn.Module, lr: float, precision: str = "float32", world: World = ALONE) -> Step:
    """The training step of `model`: forward, backward, descend. Captured as a CUDA graph where there is one GPU."""
    parameters = list(model.parameters())
    device = parameters[0].device
    replica = DistributedDataParallel(model) if world.size > 1 else model

    def step(batch: Batch) -> tuple[Tensor, Tensor]:
        with _autocast(device, precision):
            logits_BK = replica(batch.images_B1HW)
            loss = batch_loss(logits_BK, batch, world)
        loss.backward()
        descend(parameters, lr)
        return loss.detach(), (logits_BK.detach().argmax(dim=1) == batch.labels_B).sum()

    # Gradients of several processes meet outside any graph.
    return capture_at_first_call(step, model) if device.type == "cuda" and world.size == 1 else step


def batch_loss(logits_BK: Tensor, batch: Batch, world: World) -> Tensor:
    """Mean cross-entropy over the whole batch, of which we may hold a slice.

    DistributedDataParallel takes the mean of the processes' gradients. Slices may differ in size, so each process
    gives its part of the batch's mean, times the number of processes.
    """
    if world.size == 1:
        return cross_entropy(logits_BK, batch.labels_B)
    return cross_entropy(logits_BK, batch.labels_B, reduction="sum") / batch.size * world.size


@torch.no_grad()
def descend(parameters: list[nn.Parameter], lr: float) -> None:
    """One step down the gradient, which is then forgotten.

    The same bits as `torch.optim.SGD`, whose bookkeeping would take as long as the rest of a step of these models.
    """
    for weights in parameters:
        if weights.grad is not None:
            weights.add_(weights.grad, alpha=-lr)
            weights.grad = None


def capture_at_first_call(step: Step, model: nn.Module) -> Step:
    """`step` as a CUDA graph, captured with the first batch, replayed for all of its size; others run uncaptured."""
    replay: Step | None = None
    size = 0

    def captured(batch: Batch) -> tuple[Tensor, Tensor]:
        nonlocal replay, size
        if replay is None:
            replay, size = _capture(step, model, batch), batch.size
        return replay(batch) if batch.size == size else step(batch)

    return captured


def _capture(step: Step, model: nn.Module, batch: Batch) -> Step:
    """Record `step` on copies of `batch`; the weights are as before afterwards.

    Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#whole-network-capture
    """
    fixed = Batch(batch.images_B1HW.clone(), batch.labels_B.clone(), batch.size)
    state = [*model.parameters(), *model.buffers()]
    before = [values.detach().clone() for values in state]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP_STEPS):
            step(fixed)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss, hits = step(fixed)
    with torch.no_grad():
        for values, value_before in zip(state, before, strict=True):
            values.copy_(value_before)  # into the tensors that the graph knows

    def replay(batch: Batch) -> tuple[Tensor, Tensor]:
        fixed.images_B1HW.copy_(batch.images_B1HW)
        fixed.labels_B.copy_(batch.labels_B)
        graph.replay()
        return loss, hits

    return replay


def check_finite(losses_B: NDArray[np.float32], test_loss: float, epoch: int, lr: float) -> None:
    """Refuse losses that are infinite or not a number, of the training batches or after the last of them.

    Raises:
        UserError: names the first such batch, its epoch and the learning rate.
    """
    (broken,) = np.nonzero(~np.isfinite(losses_B))
    if len(broken):
        loss, where = losses_B[broken[0]], f"in epoch {epoch}, batch {broken[0] + 1} of {len(losses_B)}"
    elif not math.isfinite(test_loss):
        loss, where = test_loss, f"after the last batch of epoch {epoch}"
    else:
        return
    raise UserError(f"the loss is {loss} {where}, with lr = {lr:g}; training has diverged: try a smaller lr")


def is_chance(correct: int, labels_N: Tensor) -> bool:
    """Whether `correct` hits on `labels_N` are no better than always naming the commonest class.

    Better means by more than three standard errors of that share.
    """
    images = len(labels_N)
    share = labels_N.bincount().max().item() / images
    return correct / images <= share + 3 * math.sqrt(share * (1 - share) / images)


def _autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    return torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()


def _hide(world: World) -> bool | None:
    return None if world.writes else True  # None: shown on a terminal only
