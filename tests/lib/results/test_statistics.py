"""Intervals and paired tests against published values and against scipy."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binomtest

from stages.lib.results.statistics import (
    SIGNIFICANCE,
    PairedTest,
    difference_interval,
    holm,
    mcnemar_test,
    verdict,
    wilson_interval,
)


def correct(both: int, only_first: int, only_second: int, neither: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which images two models get right, in an order that puts agreement first."""
    first = [True] * both + [True] * only_first + [False] * only_second + [False] * neither
    second = [True] * both + [False] * only_first + [True] * only_second + [False] * neither
    return np.array(first, bool), np.array(second, bool)


@pytest.mark.parametrize(
    ("correct", "images", "low", "high"),
    [(81, 263, 25.53, 36.62), (15, 148, 6.24, 16.05), (0, 20, 0.0, 16.11), (1, 29, 0.61, 17.18), (20, 20, 83.89, 100)],
)
def test_published_intervals(correct: int, images: int, low: float, high: float) -> None:
    # R. G. Newcombe, Two-sided confidence intervals for the single proportion, Stat. Med. 17 (1998), Table I; the last
    # is the mirror image of the third
    assert wilson_interval(correct, images) == pytest.approx((low, high), abs=0.006)


@given(st.integers(1, 20_000).flatmap(lambda images: st.tuples(st.integers(0, images), st.just(images))))
def test_interval_of_scipy(counts: tuple[int, int]) -> None:
    interval = binomtest(*counts).proportion_ci(0.95, method="wilson")
    assert wilson_interval(*counts) == pytest.approx((100 * interval.low, 100 * interval.high), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [((48, 80), (56, 70), (20.0, 5.24, 33.39)), ((3, 10), (9, 10), (60.0, 17.05, 80.90))],
)
def test_published_differences(
    first: tuple[int, int], second: tuple[int, int], expected: tuple[float, float, float]
) -> None:
    # R. G. Newcombe, Interval estimation for the difference between independent proportions, Stat. Med. 17 (1998)
    figures = [(100 * correct / images, *wilson_interval(correct, images)) for correct, images in (first, second)]
    assert difference_interval(*figures) == pytest.approx(expected, abs=0.006)


def test_nothing_is_known_of_no_image() -> None:
    assert wilson_interval(0, 0) == (0, 100)


def test_interval_within_0_and_100() -> None:
    ends = [wilson_interval(correct, images) for images in range(1, 300) for correct in (0, images)]
    assert min(low for low, _ in ends) == 0.0
    assert max(high for _, high in ends) == 100.0


@pytest.mark.parametrize(
    ("only_first", "only_second", "p_value"),
    [
        (1, 5, 2 * (1 + 6) / 2**6),
        (0, 5, 2 / 2**5),
        (6, 0, 2 / 2**6),
        (3, 3, 1.0),
        # approval of a prime minister: A. Agresti, Categorical Data Analysis, 2nd ed., Table 10.1; the exact value is
        # that of R's package exact2x2, mcnemar.exact(Performance)
        (150, 86, 3.716e-05),
    ],
)
def test_published_p_values(only_first: int, only_second: int, p_value: float) -> None:
    test = mcnemar_test(*correct(794, only_first, only_second, 570))
    assert test.p_value == pytest.approx(p_value, rel=1e-3)
    assert (test.only_first, test.only_second) == (only_first, only_second)


@given(st.integers(0, 300), st.integers(0, 300))
def test_p_value_of_scipy(only_first: int, only_second: int) -> None:
    expected = binomtest(only_first, only_first + only_second).pvalue if only_first + only_second else 1.0
    assert mcnemar_test(*correct(5, only_first, only_second, 5)).p_value == pytest.approx(expected, rel=1e-9)


def test_agreement_does_not_count() -> None:
    assert mcnemar_test(*correct(0, 4, 9, 0)) == mcnemar_test(*correct(1_000, 4, 9, 500))


def test_same_predictions_do_not_differ() -> None:
    assert mcnemar_test(*correct(70, 0, 0, 30)).p_value == 1.0


def test_order_of_models() -> None:
    first, second = correct(10, 3, 12, 4)
    assert mcnemar_test(first, second).p_value == mcnemar_test(second, first).p_value


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([], []),
        ([0.03], [0.03]),
        # p.adjust(c(...), "holm") of R
        ([0.01, 0.02, 0.03, 0.04, 0.05], [0.05, 0.08, 0.09, 0.09, 0.09]),
        ([0.04, 0.001, 0.6, 0.04], [0.12, 0.004, 0.6, 0.12]),
        ([0.7, 0.9], [1.0, 1.0]),
    ],
)
def test_adjusted_p_values_of_r(p_values: list[float], adjusted: list[float]) -> None:
    assert holm(p_values) == pytest.approx(adjusted)


def test_equally_good_models_seldom_have_a_winner() -> None:
    rng = np.random.default_rng(42)
    wins = 0
    for _ in range(300):
        correct_MN = rng.random((7, 1000)) < 0.85
        tests = [mcnemar_test(first, second) for first, second in combinations(correct_MN, 2)]
        wins += min(holm([test.p_value for test in tests])) < SIGNIFICANCE
    assert wins / 300 <= SIGNIFICANCE  # without the adjustment in 37 % of the trials


@pytest.mark.parametrize(
    ("only_first", "only_second", "p_value", "words"),
    [
        (9, 1, 0.049, "a is better than b"),
        (1, 9, 0.049, "b is better than a"),
        (9, 1, 0.05, "a and b cannot be told apart"),
    ],
)
def test_verdict(only_first: int, only_second: int, p_value: float, words: str) -> None:
    assert verdict("a", "b", PairedTest(only_first, only_second, 0.001), p_value) == words
