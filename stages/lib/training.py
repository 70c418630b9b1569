"""The lecture's training loop: plain SGD on cross-entropy, and after each epoch a look at images held out.

Random numbers come from torch's global generator in the lecture's order: the caller seeds it before building the
model and again before `fit`; each pass over a loader then draws from it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from tqdm import tqdm

from stages.lib.datasets import Batch, Split, make_loader
from stages.lib.errors import UserError
from stages.lib.inference import predict_logits
from stages.lib.metrics import figures_of, mean_over_batches
from stages.lib.params import ModelParams


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


def fit(model: nn.Module, params: ModelParams, train: Split, test: Split) -> Iterator[Epoch]:
    """Train `model` in place, on the device that holds it and the splits; give the figures after each epoch.

    Raises:
        UserError: a loss is not finite.
    """
    train_loader = make_loader(train, params.batch_size, shuffle=True)
    test_loader = make_loader(test, params.batch_size)
    optimizer = torch.optim.SGD(model.parameters(), lr=params.lr)
    for epoch in range(1, params.epochs + 1):
        with tqdm(total=len(train), desc=f"epoch {epoch}", unit=" images", leave=False, disable=None) as progress:
            losses_B, accuracies_B = train_epoch(model, train_loader, optimizer, progress)
        check_finite(losses_B, epoch, params.lr)
        tested = figures_of(predict_logits(model, test_loader), test.labels_N, params.batch_size)
        yield Epoch(
            epoch,
            train_loss=mean_over_batches(losses_B),
            train_acc=mean_over_batches(accuracies_B),
            test_loss=tested.model_loss,
            test_acc=tested.model_acc,
            correct=tested.correct,
        )


def train_epoch(
    model: nn.Module, loader: DataLoader[Batch], optimizer: torch.optim.Optimizer, progress: "tqdm[NoReturn]"
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """One pass over the training images, one step of the optimiser for each batch.

    Returns:
        The loss (float32) and the accuracy (float64, percent) of each batch, before its step.
    """
    model.train()
    # Results stay on the device until the epoch is over: nothing in the loop waits for them.
    losses, hits, sizes = [], [], []
    for images_B1HW, labels_B in loader:
        logits_BK = model(images_B1HW)
        loss = cross_entropy(logits_BK, labels_B)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

        losses.append(loss.detach())
        hits.append((logits_BK.detach().argmax(dim=1) == labels_B).sum())
        sizes.append(len(labels_B))
        progress.update(len(labels_B))
    accuracies_B = torch.stack(hits).cpu().numpy() / np.array(sizes) * 100
    return torch.stack(losses).cpu().numpy(), accuracies_B


def check_finite(losses_B: NDArray[np.float32], epoch: int, lr: float) -> None:
    """Refuse losses that are infinite or not a number.

    Raises:
        UserError: names the first such batch, its epoch and the learning rate.
    """
    (broken,) = np.nonzero(~np.isfinite(losses_B))
    if len(broken):
        raise UserError(
            f"the loss is {losses_B[broken[0]]} in epoch {epoch}, batch {broken[0] + 1} of {len(losses_B)}, "
            f"with lr = {lr:g}; training has diverged: try a smaller lr"
        )


def is_chance(correct: int, labels_N: Tensor) -> bool:
    """Whether `correct` hits on `labels_N` are no better than always naming the commonest class.

    Better means by more than three standard errors of that share.
    """
    images = len(labels_N)
    share = labels_N.bincount().max().item() / images
    return correct / images <= share + 3 * math.sqrt(share * (1 - share) / images)
