"""The lecture's loop in functions: train for an epoch, test, evaluate, predict.

Loss, optimizer and accuracy function are yours to choose. Losses and accuracies are means over batches, as the lecture
prints them. The pipeline trains with `stages/lib/learning/training.py`: the same weights in less time.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

Device = torch.device | str | None  # None: the device where the model is
LossFn = Callable[[Tensor, Tensor], Tensor]  # of logits and labels; an nn.Module such as nn.CrossEntropyLoss() is one
AccuracyFn = Callable[..., float]  # called with y_true and y_pred, both labels `[N]`


def train_step(
    model: nn.Module,
    data_loader: DataLoader[Any],
    loss_fn: LossFn,
    optimizer: torch.optim.Optimizer,
    accuracy_fn: AccuracyFn,
    device: Device = None,
    report_every: int = 0,
) -> tuple[float, float]:
    """Train `model` for one epoch; print and return its loss and accuracy, which are from before each update.

    Args:
        model: gives logits `[N, K]`.
        data_loader: gives batches of images and labels.
        loss_fn: what to make small.
        optimizer: updates the weights of `model`.
        accuracy_fn: such as `accuracy_fn` in `helper_functions.py`.
        device: where to compute; where the model is unless given.
        report_every: print how many images have been seen each time that so many batches have passed; 0: never.
    """
    device = _moved(model, device)
    model.train()
    train_loss, train_acc, seen = torch.zeros((), device=device), 0.0, 0
    for batch, (X, y) in enumerate(data_loader):
        if report_every and batch % report_every == 0:
            print(f"Looked at {seen}/{_samples(data_loader)} samples")
        seen += len(X)
        X, y = X.to(device), y.to(device)
        y_pred = model(X)
        loss = loss_fn(y_pred, y)
        train_loss += loss.detach()
        train_acc += accuracy_fn(y_true=y, y_pred=y_pred.argmax(dim=1))

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    loss_mean, acc_mean = (train_loss / len(data_loader)).item(), train_acc / len(data_loader)
    print(f"Train loss: {loss_mean:.5f} | Train accuracy: {acc_mean:.2f}%")
    return loss_mean, acc_mean


def test_step(
    data_loader: DataLoader[Any],
    model: nn.Module,
    loss_fn: LossFn,
    accuracy_fn: AccuracyFn,
    device: Device = None,  # noqa: PT028 - the name is the lecture's: no test of pytest
) -> tuple[float, float]:
    """Print and return loss and accuracy of `model` on the images of `data_loader`; it learns nothing from them."""
    test_loss, test_acc = _mean_over_batches(model, data_loader, loss_fn, accuracy_fn, device)
    print(f"Test loss: {test_loss:.5f} | Test accuracy: {test_acc:.2f}%\n")
    return test_loss, test_acc


def eval_model(
    model: nn.Module,
    data_loader: DataLoader[Any],
    loss_fn: LossFn,
    accuracy_fn: AccuracyFn,
    device: Device = None,
) -> dict[str, Any]:
    """Return the result dictionary of `model`: its class as `model_name`, `model_loss` and `model_acc` (percent)."""
    loss, acc = _mean_over_batches(model, data_loader, loss_fn, accuracy_fn, device)
    return {"model_name": type(model).__name__, "model_loss": loss, "model_acc": acc}


@torch.inference_mode()
def make_predictions(model: nn.Module, data: Sequence[Tensor] | Tensor, device: Device = None) -> Tensor:
    """Return the probabilities `[N, K]` of the classes, on the CPU, for N images of the same shape."""
    device = _moved(model, device)
    model.eval()
    logits: Tensor = model(torch.stack(list(data)).to(device))
    return logits.softmax(dim=1).cpu()


@torch.inference_mode()
def _mean_over_batches(
    model: nn.Module, data_loader: DataLoader[Any], loss_fn: LossFn, accuracy_fn: AccuracyFn, device: Device
) -> tuple[float, float]:
    device = _moved(model, device)
    model.eval()
    loss, acc = torch.zeros((), device=device), 0.0
    for X, y in data_loader:
        X, y = X.to(device), y.to(device)
        y_pred = model(X)
        loss += loss_fn(y_pred, y)
        acc += accuracy_fn(y_true=y, y_pred=y_pred.argmax(dim=1))
    return (loss / len(data_loader)).item(), acc / len(data_loader)


def _samples(data_loader: DataLoader[Any]) -> int:
    return len(data_loader.dataset)  # type: ignore[arg-type]  # torch's type does not promise a length


def _moved(model: nn.Module, device: Device) -> torch.device:
    """Move `model` to `device`, if one is given; return the device where it is then."""
    if device is not None:
        model.to(device)
    return next(model.parameters()).device
