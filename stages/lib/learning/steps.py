"""One step of the training: forward, loss, backward, update.

On a GPU it is captured once as a CUDA graph and replayed: a step of these small models is some fifty tiny kernels, and
launching them one by one takes longer than running them.

Shapes: B images of one batch, K classes, C channels, H x W pixels.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from stages.lib.data.datasets import Batch
from stages.lib.learning.distributed import SINGLE_PROCESS, World
from stages.lib.learning.models import kept_as_it_is
from stages.lib.learning.optimizers import Optimizer, forgetting_steps

# Updates the weights once with the batch given, of which this process may hold a slice only: the second argument is the
# size of the whole. Returns the loss and the number of correct predictions, both from before the update.
Step = Callable[[Batch, int], tuple[Tensor, Tensor]]
WARM_UP_STEPS = 3  # before a capture, so that libraries have set themselves up


def make_step(
    model: nn.Module,
    optimizer: Optimizer,
    precision: str = "float32",
    world: World = SINGLE_PROCESS,
    label_smoothing: float = 0.0,
) -> Step:
    """Return the training step of `model`: forward, loss, backward, update; a CUDA graph where there is one GPU."""
    device = next(model.parameters()).device
    replica = DistributedDataParallel(model) if world.size > 1 else model

    def step(batch: Batch, size: int) -> tuple[Tensor, Tensor]:
        with _autocast(device, precision):
            logits_BK = replica(batch.images_BCHW)
            loss = batch_loss(logits_BK, batch.labels_B, size, world, label_smoothing)
        loss.backward()
        optimizer.update()
        return loss.detach(), (logits_BK.detach().argmax(dim=1) == batch.labels_B).sum()

    # Gradients of several processes are averaged outside any graph.
    return capture_at_first_call(step, model, optimizer) if device.type == "cuda" and world.size == 1 else step


def batch_loss(logits_BK: Tensor, labels_B: Tensor, size: int, world: World, label_smoothing: float = 0.0) -> Tensor:
    """Return the mean cross-entropy over the whole batch of `size` images, of which this process may hold a slice.

    DistributedDataParallel takes the mean of the processes' gradients. Slices may differ in size, so each process
    returns its part of the batch's mean, times the number of processes.
    """
    if world.size == 1:
        return cross_entropy(logits_BK, labels_B, label_smoothing=label_smoothing)
    total = cross_entropy(logits_BK, labels_B, reduction="sum", label_smoothing=label_smoothing)
    return total / size * world.size


def capture_at_first_call(step: Step, model: nn.Module, optimizer: Optimizer) -> Step:
    """Return `step` as a CUDA graph: captured with the first batch, replayed for all of its size, plain for others."""
    replay: Step | None = None
    captured_size = 0

    def captured(batch: Batch, size: int) -> tuple[Tensor, Tensor]:
        nonlocal replay, captured_size
        if replay is None:
            replay, captured_size = _capture(step, model, optimizer, batch, size), size
        return replay(batch, size) if size == captured_size else step(batch, size)

    return captured


def _capture(step: Step, model: nn.Module, optimizer: Optimizer, batch: Batch, size: int) -> Step:
    """Record `step` on copies of `batch`; weights and optimizer are as before afterwards.

    Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#whole-network-capture
    """
    fixed = Batch(batch.images_BCHW.clone(), batch.labels_B.clone())
    graph = torch.cuda.CUDAGraph()
    with kept_as_it_is(model), forgetting_steps(optimizer):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP_STEPS):
                step(fixed, size)
        torch.cuda.current_stream().wait_stream(side)
        with torch.cuda.graph(graph):
            loss, correct = step(fixed, size)

    def replay(batch: Batch, _size: int) -> tuple[Tensor, Tensor]:
        fixed.images_BCHW.copy_(batch.images_BCHW)
        fixed.labels_B.copy_(batch.labels_B)
        graph.replay()
        return loss, correct

    return replay


def _autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    return torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()
