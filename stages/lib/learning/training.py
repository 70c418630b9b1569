"""The lecture's training loop: plain SGD on cross-entropy, and after each epoch an evaluation of images held out.

Random numbers come from torch's global generator in the lecture's order: the caller seeds it before building the
model and again before `fit`; each pass over a loader then draws from it.

The loop is the same everywhere; what differs is the step. On a GPU it is captured once as a CUDA graph and replayed: a
step of these small models is some fifty tiny kernels, and launching them one by one takes longer than running them.

Shapes: N images, K classes, B images of one batch, 1 channel, H x W pixels; M batches.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.optim.sgd import sgd
from torch.utils.data import DataLoader
from tqdm import tqdm

from stages.lib.base.errors import UserError
from stages.lib.base.params import ModelParams
from stages.lib.data.datasets import Batch, Split, batch_sizes, make_loader
from stages.lib.learning.distributed import SINGLE_PROCESS, World
from stages.lib.learning.evaluation import mean_over_batches, metrics_of, predict_logits
from stages.lib.learning.models import find_fault, kept_as_it_is

# Updates the weights once with the batch given, of which this process may hold a slice only: the second argument is the
# size of the whole. Returns the loss and the number of correct predictions, both from before the update.
Step = Callable[[Batch, int], tuple[Tensor, Tensor]]
WARM_UP_STEPS = 3  # before a capture, so that libraries have set themselves up


@dataclass(frozen=True)
class Epoch:
    """Metrics of one epoch: means over batches; losses in nats, accuracies in percent."""

    epoch: int  # from 1
    train_loss: float
    train_acc: float
    test_loss: float  # of the images held out: validation images where there are any, else the test images
    test_acc: float
    correct: int  # of the images held out

    def line(self, held_out: str) -> str:
        """Return the line to print; `held_out` is what the images held out are: test or validation."""
        name = held_out.capitalize()
        return (
            f"Epoch: {self.epoch} | Train loss: {self.train_loss:.5f} | Train accuracy: {self.train_acc:.2f}% | "
            f"{name} loss: {self.test_loss:.5f} | {name} accuracy: {self.test_acc:.2f}%"
        )


def check_training(model: nn.Module, params: ModelParams, train: Split, world: World = SINGLE_PROCESS) -> None:
    """Run the model once as training does, on black images, as many as the smallest batch has. It stays as it is.

    Draws random numbers where the model does: to be called before the seed is set.

    Raises:
        UserError: the model cannot be trained, or not on a batch of one image.
    """
    smallest = max(1, batch_sizes(len(train), params.batch_size)[-1] // world.size)
    images_B1HW = torch.zeros(smallest, 1, 28, 28, device=next(model.parameters()).device)
    file = f"stages/architectures/{params.arch}.py"
    model.train()
    try:
        with kept_as_it_is(model):
            logits_BK = model(images_B1HW)
    except ValueError as error:  # of batch normalization
        if smallest > 1:
            raise
        why = f"the last batch has one image, too few to train {file} ({error}); choose another batch_size"
        raise UserError(why) from None
    if problem := find_fault(logits_BK, smallest, len(train.class_names)):
        raise UserError(f"{file}: in training, {problem}")
    if not logits_BK.requires_grad:
        raise UserError(f"{file}: no weight can be trained; all are frozen, or the logits do not depend on them")


def fit(
    model: nn.Module,
    params: ModelParams,
    train: Split,
    held_out: Split,
    precision: str = "float32",
    world: World = SINGLE_PROCESS,
) -> Iterator[Epoch]:
    """Train `model` in place, on the device that holds it and the splits; yield the metrics after each epoch.

    Args:
        model: maps float32 images `[N, 1, 28, 28]` to logits `[N, K]`.
        params: epochs, batch_size and lr are used.
        train: images to train on.
        held_out: images to evaluate after each epoch.
        precision: float32, or bfloat16 for the arithmetic of the training step; weights stay float32.
        world: the processes that train together; all of them must call this with the same arguments and seed.

    Raises:
        UserError: a loss is not finite.
    """
    train_loader = make_loader(train, params.batch_size, shuffle=True, rank=world.rank, world_size=world.size)
    held_out_loader = make_loader(held_out, params.batch_size)
    sizes = batch_sizes(len(train), params.batch_size)
    step = make_step(model, params.lr, precision, world)
    for epoch in range(1, params.epochs + 1):
        with tqdm(
            total=len(train), desc=f"epoch {epoch}", unit=" images", leave=False, disable=_hide(world)
        ) as progress:
            losses_M, accuracies_M = train_epoch(model, train_loader, sizes, step, world, progress)
        metrics = metrics_of(predict_logits(model, held_out_loader), held_out.labels_N, params.batch_size)
        check_finite(losses_M, metrics.model_loss, epoch, params.lr)
        yield Epoch(
            epoch,
            train_loss=mean_over_batches(losses_M),
            train_acc=mean_over_batches(accuracies_M),
            test_loss=metrics.model_loss,
            test_acc=metrics.model_acc,
            correct=metrics.correct,
        )


def train_epoch(
    model: nn.Module,
    loader: DataLoader[Batch],
    sizes: Sequence[int],
    step: Step,
    world: World,
    progress: "tqdm[Any]",
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Pass over the training images once, with one step for each batch.

    Returns:
        The loss (float32) and the accuracy (float64, percent) of each batch, before its step.
    """
    model.train()
    # Results stay on the device until the epoch is over: nothing in the loop waits for them.
    device = next(model.parameters()).device
    losses_M = torch.empty(len(sizes), device=device)
    correct_M = torch.empty(len(sizes), dtype=torch.int64, device=device)
    for number, (batch, size) in enumerate(zip(loader, sizes, strict=True)):
        losses_M[number], correct_M[number] = step(batch, size)
        progress.update(size)
    losses_M = world.sum(losses_M) / world.size
    return losses_M.cpu().numpy(), world.sum(correct_M).cpu().numpy() / np.array(sizes) * 100


def make_step(model: nn.Module, lr: float, precision: str = "float32", world: World = SINGLE_PROCESS) -> Step:
    """Return the training step of `model`: forward, loss, backward, SGD update; a CUDA graph where there is one GPU."""
    parameters = list(model.parameters())
    device = parameters[0].device
    replica = DistributedDataParallel(model) if world.size > 1 else model

    def step(batch: Batch, size: int) -> tuple[Tensor, Tensor]:
        with _autocast(device, precision):
            logits_BK = replica(batch.images_B1HW)
            loss = batch_loss(logits_BK, batch.labels_B, size, world)
        loss.backward()
        sgd_step(parameters, lr)
        return loss.detach(), (logits_BK.detach().argmax(dim=1) == batch.labels_B).sum()

    # Gradients of several processes are averaged outside any graph.
    return capture_at_first_call(step, model) if device.type == "cuda" and world.size == 1 else step


def batch_loss(logits_BK: Tensor, labels_B: Tensor, size: int, world: World) -> Tensor:
    """Return the mean cross-entropy over the whole batch of `size` images, of which this process may hold a slice.

    DistributedDataParallel takes the mean of the processes' gradients. Slices may differ in size, so each process
    returns its part of the batch's mean, times the number of processes.
    """
    if world.size == 1:
        return cross_entropy(logits_BK, labels_B)
    return cross_entropy(logits_BK, labels_B, reduction="sum") / size * world.size


@torch.no_grad()
def sgd_step(parameters: list[nn.Parameter], lr: float) -> None:
    """Update the weights by plain SGD, with torch's fused kernel, and forget the gradients.

    The function below `torch.optim.SGD`, and the same bits. The class would import torch's compiler, which takes 1.0 s,
    as long as two epochs of a linear model; and a step of such a model 236 microseconds instead of 186.
    """
    trained = [weights for weights in parameters if weights.grad is not None]
    gradients = [weights.grad for weights in trained if weights.grad is not None]
    momenta: list[Tensor | None] = [None] * len(trained)
    sgd(
        list[Tensor](trained),
        gradients,
        momenta,
        fused=True,
        weight_decay=0,
        momentum=0,
        lr=lr,
        dampening=0,
        nesterov=False,
        maximize=False,
    )
    for weights in trained:
        weights.grad = None


def capture_at_first_call(step: Step, model: nn.Module) -> Step:
    """Return `step` as a CUDA graph: captured with the first batch, replayed for all of its size, plain for others."""
    replay: Step | None = None
    captured_size = 0

    def captured(batch: Batch, size: int) -> tuple[Tensor, Tensor]:
        nonlocal replay, captured_size
        if replay is None:
            replay, captured_size = _capture(step, model, batch, size), size
        return replay(batch, size) if size == captured_size else step(batch, size)

    return captured


def _capture(step: Step, model: nn.Module, batch: Batch, size: int) -> Step:
    """Record `step` on copies of `batch`; the weights are as before afterwards.

    Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#whole-network-capture
    """
    fixed = Batch(batch.images_B1HW.clone(), batch.labels_B.clone())
    graph = torch.cuda.CUDAGraph()
    with kept_as_it_is(model):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP_STEPS):
                step(fixed, size)
        torch.cuda.current_stream().wait_stream(side)
        with torch.cuda.graph(graph):
            loss, correct = step(fixed, size)

    def replay(batch: Batch, _size: int) -> tuple[Tensor, Tensor]:
        fixed.images_B1HW.copy_(batch.images_B1HW)
        fixed.labels_B.copy_(batch.labels_B)
        graph.replay()
        return loss, correct

    return replay


def check_finite(losses_M: NDArray[np.float32], held_out_loss: float, epoch: int, lr: float) -> None:
    """Refuse losses that are infinite or not a number, of the training batches or after the last of them.

    Raises:
        UserError: names the first such batch, its epoch and the learning rate.
    """
    (broken,) = np.nonzero(~np.isfinite(losses_M))
    if len(broken):
        loss, where = losses_M[broken[0]], f"in epoch {epoch}, batch {broken[0] + 1} of {len(losses_M)}"
    elif not math.isfinite(held_out_loss):
        loss, where = held_out_loss, f"after the last batch of epoch {epoch}"
    else:
        return
    raise UserError(f"the loss is {loss} {where}, with lr = {lr:g}; training has diverged: try a smaller lr")


def is_chance(correct: int, labels_N: Tensor) -> bool:
    """Tell whether `correct` of `labels_N` is no better than always predicting the commonest class.

    Better means by more than three standard errors of that proportion.
    """
    images = len(labels_N)
    proportion = labels_N.bincount().max().item() / images
    return correct / images <= proportion + 3 * math.sqrt(proportion * (1 - proportion) / images)


def _autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    return torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()


def _hide(world: World) -> bool | None:
    return None if world.writes else True  # None: shown on a terminal only
