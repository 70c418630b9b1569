"""Predictions for a whole split, the lecture's means over batches, and the exact metrics."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from stages.lib.data.datasets import make_loader
from stages.lib.learning.evaluation import (
    accuracy_pct,
    check_reloaded,
    mean_over_batches,
    metrics_of,
    predict,
    predict_logits,
)
from stages.lib.learning.models import Checkpoint
from stages.lib.source.idx_sets import CLASS_NAMES
from tests.helpers import MakeSplit, refusal


class Brightness(nn.Module):
    """Logits that tell the mean of each image, and how many images came at once."""

    def forward(self, images_NCHW: Tensor) -> Tensor:
        means_N = images_NCHW.mean(dim=(1, 2, 3))
        return torch.stack([means_N, torch.full_like(means_N, len(means_N))], dim=1)


@pytest.mark.parametrize("batch_size", [1, 32, 77, 500])
def test_every_image_once_in_order(make_split: MakeSplit, batch_size: int) -> None:
    split = make_split(77)
    logits_NK = predict_logits(Brightness(), make_loader(split, batch_size))
    torch.testing.assert_close(logits_NK[:, 0], split.images_NCHW.float().mean(dim=(1, 2, 3)) / 255)
    sizes = [len(batch) for batch in torch.arange(77).split(batch_size)]
    assert logits_NK[:, 1].tolist() == [float(size) for size in sizes for _ in range(size)]


def test_evaluation_mode(make_split: MakeSplit) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(784), nn.Dropout(0.5), nn.Linear(784, 10)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    loader = make_loader(make_split(20), 8)
    first, second = predict_logits(model, loader), predict_logits(model, loader)
    assert torch.equal(first, second)
    assert not first.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def checkpoint_of(weights: float, class_names: tuple[str, ...] = CLASS_NAMES, side: int = 28) -> Checkpoint:
    """A linear model, all of its weights alike."""
    linear = nn.Linear(784, 10)
    nn.init.constant_(linear.weight, weights)
    model, shape, form = nn.Sequential(nn.Flatten(), linear), (1, side, side), "contiguous"
    return Checkpoint(model, "model_7", "linear", shape, 10, {}, form, class_names, "synthetic", "FashionMNIST", {})


def test_logits_of_a_loaded_model(make_split: MakeSplit) -> None:
    split, checkpoint = make_split(20), checkpoint_of(0.1)
    assert torch.equal(predict(checkpoint, split, 8), predict_logits(checkpoint.model, make_loader(split, 8)))


@pytest.mark.parametrize(
    ("checkpoint", "words"),
    [
        (checkpoint_of(0.1, class_names=CLASS_NAMES[::-1]), "other classes"),
        (checkpoint_of(0.1, side=14), "other classes or shapes"),
        (checkpoint_of(float("nan")), "not finite"),
    ],
    ids=["classes", "shape", "diverged"],
)
def test_model_that_cannot_be_evaluated(make_split: MakeSplit, checkpoint: Checkpoint, words: str) -> None:
    message = refusal(predict, checkpoint, make_split(20), 8)
    assert message.startswith("model_7 ")
    assert words in message


@pytest.mark.parametrize(
    ("labels", "predictions", "expected"),
    [
        ([0, 1, 2, 3], [0, 1, 2, 3], 100.0),
        ([0, 1, 2, 3], [1, 2, 3, 0], 0.0),
        ([5, 5, 5, 9], [5, 5, 1, 9], 75.0),
        ([*range(13)], [*range(11), 10, 10], 11 / 13 * 100),  # the digits of the lecture's arithmetic
    ],
)
def test_accuracy_in_percent(labels: list[int], predictions: list[int], expected: float) -> None:
    assert accuracy_pct(torch.tensor(labels), torch.tensor(predictions)) == expected


@given(st.lists(st.floats(0, 100, width=32), min_size=1, max_size=400))
def test_mean_has_the_bits_of_a_tensor_loop(values: list[float]) -> None:
    total = torch.tensor(0.0)
    for value in values:
        total += torch.tensor(value)
    total /= len(values)
    assert mean_over_batches(np.array(values, np.float32)) == total.item()


@given(st.lists(st.floats(0, 100), min_size=1, max_size=400))
def test_mean_has_the_bits_of_a_float_loop(values: list[float]) -> None:
    total = 0.0
    for value in values:
        total += value
    assert mean_over_batches(np.array(values)) == total / len(values)


def test_mean_is_not_summed_in_pairs() -> None:
    values = np.random.default_rng(0).random(1875).astype(np.float32)
    assert mean_over_batches(values) != float(np.sum(values) / np.float32(1875))


@pytest.fixture
def scored() -> tuple[Tensor, Tensor]:
    """Logits of 77 images and their labels; some are correct."""
    draw = torch.Generator().manual_seed(3)
    labels_N = torch.arange(77) % 10
    logits_NK = torch.randn(77, 10, generator=draw) + 1.5 * nn.functional.one_hot(labels_N, 10)
    return logits_NK, labels_N


@pytest.mark.parametrize("batch_size", [1, 7, 32, 76, 77, 1000])
def test_lecture_means_to_the_last_bit(scored: tuple[Tensor, Tensor], batch_size: int) -> None:
    logits_NK, labels_N = scored
    loss_function = nn.CrossEntropyLoss()
    batches = range(0, 77, batch_size)
    loss, accuracy = torch.tensor(0.0), 0.0
    for start in batches:
        logits, labels = logits_NK[start : start + batch_size], labels_N[start : start + batch_size]
        loss += loss_function(logits, labels)
        accuracy += (logits.argmax(dim=1) == labels).sum().item() / len(labels) * 100
    loss /= len(batches)
    metrics = metrics_of(logits_NK, labels_N, batch_size)
    assert (metrics.model_loss, metrics.model_acc) == (loss.item(), accuracy / len(batches))


@pytest.mark.parametrize("batch_size", [1, 7, 32, 77])
def test_exact_metrics_at_any_batch_size(scored: tuple[Tensor, Tensor], batch_size: int) -> None:
    logits_NK, labels_N = scored
    correct = int((logits_NK.argmax(dim=1) == labels_N).sum())
    probabilities_N = logits_NK.double().softmax(dim=1)[torch.arange(77), labels_N]
    metrics = metrics_of(logits_NK, labels_N, batch_size)
    assert (metrics.accuracy, metrics.correct, metrics.images) == (correct / 77 * 100, correct, 77)
    assert metrics.loss == pytest.approx(-probabilities_N.log().mean().item(), rel=1e-12)


def test_weight_of_a_short_last_batch() -> None:
    labels_N = torch.zeros(33, dtype=torch.int64)
    logits_NK = nn.functional.one_hot(torch.tensor([0] * 32 + [1]), 10).float()
    metrics = metrics_of(logits_NK, labels_N, 32)
    assert metrics.model_acc == 50.0
    assert metrics.accuracy == 32 / 33 * 100


@pytest.mark.parametrize(("classes", "loss", "accuracy"), [([0, 1], 0.0, 100.0), ([1, 0], 1000.0, 0.0)])
def test_confident_predictions(classes: list[int], loss: float, accuracy: float) -> None:
    metrics = metrics_of(1000.0 * torch.eye(10)[classes], torch.tensor([0, 1]), 32)
    assert (metrics.loss, metrics.accuracy) == (loss, accuracy)


@pytest.mark.parametrize(
    ("key", "now", "then", "same"),
    [
        ("loss", 0.5, 0.50004, True),
        ("loss", 0.5, 0.50006, False),
        ("loss", 2.1e-5, 2.4e-5, True),  # float32 has few digits left there
        ("loss", 2.1e-5, 1.0, False),
        ("accuracy", 88.0, 88.04, True),
        ("accuracy", 88.0, 88.06, False),
        ("accuracy", 100.0, 100, True),
        ("loss", 0.5, None, False),
        ("loss", 0.5, "0.5", False),
        ("model", "model_1", "model_1", True),
        ("model", "model_1", "model_10", False),
    ],
)
def test_reloaded_model_is_as_recorded(tmp_path: Path, key: str, now: object, then: object, same: bool) -> None:
    record = tmp_path / "best.json"
    record.write_text(json.dumps({key: then}))
    if same:
        check_reloaded("model", {key: now}, str(record))
    else:
        message = refusal(check_reloaded, "model", {key: now}, str(record))
        assert message.startswith(f"model has {key} {now!r}, but {record} says {then!r}")
