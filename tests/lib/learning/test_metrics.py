"""The lecture's means over batches, and the exact figures."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from stages.lib.learning.evaluation import accuracy_pct, metrics_of, mean_over_batches


@pytest.mark.parametrize(
    ("labels", "predictions", "expected"),
    [([0, 1, 2, 3], [0, 1, 2, 3], 100.0), ([0, 1, 2, 3], [1, 2, 3, 0], 0.0), ([5, 5, 5, 9], [5, 5, 1, 9], 75.0)],
)
def test_accuracy_is_the_share_of_right_predictions_in_percent(
    labels: list[int], predictions: list[int], expected: float
) -> None:
    assert accuracy_pct(torch.tensor(labels), torch.tensor(predictions)) == expected


def test_accuracy_keeps_the_digits_of_the_lectures_arithmetic() -> None:
    right = torch.arange(13)
    assert accuracy_pct(right, right.clamp(max=10)) == 11 / 13 * 100


@given(st.lists(st.floats(0, 100, width=32), min_size=1, max_size=400))
def test_a_mean_over_batches_has_the_bits_of_a_loop_that_adds_tensors(values: list[float]) -> None:
    total = torch.tensor(0.0)
    for value in values:
        total += torch.tensor(value)
    total /= len(values)
    assert mean_over_batches(np.array(values, np.float32)) == total.item()


@given(st.lists(st.floats(0, 100), min_size=1, max_size=400))
def test_a_mean_of_percentages_has_the_bits_of_a_loop_that_adds_floats(values: list[float]) -> None:
    total = 0.0
    for value in values:
        total += value
    assert mean_over_batches(np.array(values)) == total / len(values)


def test_float32_means_differ_from_a_sum_in_pairs_so_that_the_order_matters() -> None:
    values = np.random.default_rng(0).random(1875).astype(np.float32)
    assert mean_over_batches(values) != float(np.sum(values) / np.float32(1875))


@pytest.fixture
def scored() -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of 77 images and their labels; some are right."""
    draw = torch.Generator().manual_seed(3)
    labels_N = torch.arange(77) % 10
    logits_NK = torch.randn(77, 10, generator=draw) + 1.5 * nn.functional.one_hot(labels_N, 10)
    return logits_NK, labels_N


@pytest.mark.parametrize("batch_size", [1, 7, 32, 76, 77, 1000])
def test_the_lectures_figures_are_means_over_batches_to_the_last_bit(
    scored: tuple[torch.Tensor, torch.Tensor], batch_size: int
) -> None:
    logits_NK, labels_N = scored
    loss_function = nn.CrossEntropyLoss()
    batches = range(0, 77, batch_size)
    loss, accuracy = torch.tensor(0.0), 0.0
    for start in batches:
        logits, labels = logits_NK[start : start + batch_size], labels_N[start : start + batch_size]
        loss += loss_function(logits, labels)
        accuracy += (logits.argmax(dim=1) == labels).sum().item() / len(labels) * 100
    loss /= len(batches)
    figures = metrics_of(logits_NK, labels_N, batch_size)
    assert (figures.model_loss, figures.model_acc) == (loss.item(), accuracy / len(batches))


def test_the_exact_figures_do_not_depend_on_the_batches(scored: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits_NK, labels_N = scored
    correct = int((logits_NK.argmax(dim=1) == labels_N).sum())
    chances_N = logits_NK.double().softmax(dim=1)[torch.arange(77), labels_N]
    for batch_size in (1, 7, 32, 77):
        figures = metrics_of(logits_NK, labels_N, batch_size)
        assert (figures.accuracy, figures.correct, figures.images) == (correct / 77 * 100, correct, 77)
        assert figures.loss == pytest.approx(-chances_N.log().mean().item(), rel=1e-12)


def test_a_short_last_batch_weighs_as_much_as_the_others_in_the_lectures_accuracy() -> None:
    labels_N = torch.zeros(33, dtype=torch.int64)
    logits_NK = nn.functional.one_hot(torch.tensor([0] * 32 + [1]), 10).float()
    figures = metrics_of(logits_NK, labels_N, 32)
    assert figures.model_acc == 50.0
    assert figures.accuracy == 32 / 33 * 100


def test_certain_and_right_costs_nothing_and_certain_and_wrong_a_lot() -> None:
    labels_N = torch.tensor([0, 1])
    right, wrong = 1000.0 * torch.eye(10)[[0, 1]], 1000.0 * torch.eye(10)[[1, 0]]
    assert (metrics_of(right, labels_N, 32).loss, metrics_of(right, labels_N, 32).accuracy) == (0.0, 100.0)
    assert (metrics_of(wrong, labels_N, 32).loss, metrics_of(wrong, labels_N, 32).accuracy) == (1000.0, 0.0)
