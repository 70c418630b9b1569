"""Accuracy and loss: the lecture's means over batches beside the exact figures over images."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy


def accuracy_pct(labels_N: Tensor, predictions_N: Tensor) -> float:
    """Share of `predictions_N` that equal `labels_N`, both int64 `[N]`, in percent."""
    return torch.eq(labels_N, predictions_N).sum().item() / len(predictions_N) * 100


def mean_over_batches(values_B: NDArray[Any]) -> float:
    """The mean, summed one batch after the other in the array's own precision, as a loop with `+=` does.

    `np.sum` adds in pairs and Python's `sum` compensates from 3.12 on: both differ in the last digit.
    """
    return float(np.add.accumulate(values_B)[-1] / len(values_B))


@dataclass(frozen=True)
class Figures:
    """How well logits fit labels. Losses are cross-entropy in nats, accuracies are in percent."""

    model_loss: float  # mean over batches of the batch means, float32, as the lecture prints it
    model_acc: float  # mean over batches: a short last batch weighs as much as the others
    loss: float  # mean over images
    accuracy: float  # of all images
    correct: int
    images: int


def figures_of(logits_NK: Tensor, labels_N: Tensor, batch_size: int) -> Figures:
    """Figures of float32 logits `[N, K]` against int64 labels `[N]`; `batch_size` decides the means over batches."""
    losses_B = torch.stack(
        [
            cross_entropy(logits_BK, labels_B)
            for logits_BK, labels_B in zip(logits_NK.split(batch_size), labels_N.split(batch_size), strict=True)
        ]
    )
    answers_N, labels_N = logits_NK.argmax(dim=1).cpu(), labels_N.cpu()
    accuracies_B = [
        accuracy_pct(labels_B, answers_B)
        for labels_B, answers_B in zip(labels_N.split(batch_size), answers_N.split(batch_size), strict=True)
    ]
    return Figures(
        model_loss=mean_over_batches(losses_B.cpu().numpy()),
        model_acc=mean_over_batches(np.array(accuracies_B)),
        loss=cross_entropy(logits_NK.cpu().double(), labels_N).item(),
        accuracy=accuracy_pct(labels_N, answers_N),
        correct=int((answers_N == labels_N).sum()),
        images=len(labels_N),
    )
