"""How well a model does: its logits for a split, and what they amount to.

Accuracy and loss come in two kinds: the lecture's means over batches, and the exact ones over images.

Shapes: N images, K classes, B images of one batch; M batches.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from stages.lib.base.errors import Outdated, UserError
from stages.lib.base.files import read_json
from stages.lib.data.datasets import Batch, Split, make_loader
from stages.lib.learning.memory import enough_memory
from stages.lib.learning.models import Checkpoint


@torch.inference_mode()
def predict_logits(model: nn.Module, loader: DataLoader[Batch]) -> Tensor:
    """Return float32 logits `[N, K]` for every image of `loader`, in its order, on the model's device."""
    model.eval()
    return torch.cat([model(batch.images_BCHW) for batch in loader])


@torch.inference_mode()
def predict(checkpoint: Checkpoint, split: Split, batch_size: int) -> Tensor:
    """Return float32 logits `[N, K]` of a loaded model, on its device, which has finished when this returns.

    Raises:
        UserError: the model knows other classes or another shape than the data, or a logit is not finite.
    """
    if (checkpoint.class_names, checkpoint.input_shape) != (split.class_names, split.image_shape):
        raise UserError(f"{checkpoint.name} was trained for other classes or shapes than the data has; run `dvc repro`")
    with enough_memory("try a smaller evaluate.batch_size"):
        logits_NK = predict_logits(checkpoint.model, make_loader(split, batch_size))
    if not logits_NK.isfinite().all():
        raise UserError(f"{checkpoint.name} gives logits that are not finite; train it again with a smaller lr")
    return logits_NK


def check_reloaded(path: str, now: dict[str, object], record: str) -> None:
    """Check that the model in the file `path` is and scores as the JSON file `record` says; `now` has the same keys.

    Raises:
        UserError: it is another model, or accuracy or loss differ by more than rounding on another machine can explain.
    """
    before = read_json(record)
    for key, value in now.items():
        if not _is_close(value, before.get(key), abs_tol=0.05 if "acc" in key else 1e-5):
            raise Outdated(path, f"has {key} {value!r:.12}, but {record} says {before.get(key)!r:.12}")


def _is_close(now: object, then: object, abs_tol: float) -> bool:
    if isinstance(now, float) and isinstance(then, float):
        return math.isclose(now, then, rel_tol=1e-4, abs_tol=abs_tol)
    return now == then


@dataclass(frozen=True)
class Metrics:
    """How well logits fit labels. Losses are cross-entropy in nats, accuracies are in percent."""

    model_loss: float  # mean over batches of the batch means, float32, as the lecture prints it
    model_acc: float  # mean over batches: a short last batch weighs as much as the others
    loss: float  # mean over images
    accuracy: float  # of all images
    correct: int
    images: int


def metrics_of(logits_NK: Tensor, labels_N: Tensor, batch_size: int) -> Metrics:
    """Compare float32 logits `[N, K]` with int64 labels `[N]`; `batch_size` decides the means over batches."""
    losses_M = torch.stack(
        [
            cross_entropy(logits_BK, labels_B)
            for logits_BK, labels_B in zip(logits_NK.split(batch_size), labels_N.split(batch_size), strict=True)
        ]
    )
    predictions_N, labels_N = logits_NK.argmax(dim=1).cpu(), labels_N.cpu()
    accuracies_M = [
        accuracy_pct(labels_B, predictions_B)
        for labels_B, predictions_B in zip(labels_N.split(batch_size), predictions_N.split(batch_size), strict=True)
    ]
    return Metrics(
        model_loss=mean_over_batches(losses_M.cpu().numpy()),
        model_acc=mean_over_batches(np.array(accuracies_M)),
        loss=cross_entropy(logits_NK.cpu().double(), labels_N).item(),
        accuracy=accuracy_pct(labels_N, predictions_N),
        correct=int((predictions_N == labels_N).sum()),
        images=len(labels_N),
    )


def accuracy_pct(labels_N: Tensor, predictions_N: Tensor) -> float:
    """Return the percentage of `predictions_N` that equal `labels_N`, both int64 `[N]`."""
    return torch.eq(labels_N, predictions_N).sum().item() / len(predictions_N) * 100


def mean_over_batches(values_M: NDArray[Any]) -> float:
    """Return the mean, summed one batch after the other in the array's own precision, as a loop with `+=` does.

    `np.sum` adds in pairs and Python's `sum` compensates from 3.12 on: both differ in the last digit.
    """
    return float(np.add.accumulate(values_M)[-1] / len(values_M))
