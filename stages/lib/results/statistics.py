"""Confidence intervals of one accuracy, an exact test of two models on the same images, and what several tests say.

Shapes: N images.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, ndtri  # scipy.stats would take half a second to import

SIGNIFICANCE = 0.05
FEW_IMAGES = 10  # of a class: below, an image more or less moves its recall by more than ten points


def wilson_interval(correct: int, images: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of an accuracy, in percent. It holds for few images, and for none correct.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927).
    """
    if not images:
        return 0.0, 100.0  # nothing is known
    z = float(ndtri(1 - SIGNIFICANCE / 2))
    proportion = correct / images
    centre = proportion + z**2 / (2 * images)
    margin = z * math.sqrt(proportion * (1 - proportion) / images + z**2 / (4 * images**2))
    low, high = ((centre + side * margin) / (1 + z**2 / images) for side in (-1, 1))
    return max(low, 0.0) * 100, min(high, 1.0) * 100


def difference_interval(
    first: tuple[float, float, float], second: tuple[float, float, float]
) -> tuple[float, float, float]:
    """Return `second` less `first`, accuracies with their intervals by Wilson, and the interval of the difference.

    Taken for independent, as where only the accuracies are known: on the same images the true interval is shorter.

    Source: R. G. Newcombe, Interval estimation for the difference between independent proportions, Statistics in
    Medicine 17 (1998), method 10.
    """
    difference = second[0] - first[0]
    below = math.hypot(second[0] - second[1], first[2] - first[0])
    above = math.hypot(second[2] - second[0], first[0] - first[1])
    return difference, difference - below, difference + above


@dataclass(frozen=True)
class PairedTest:
    """Two models on the same images: how many only one of them gets right, and how likely that is by chance."""

    only_first: int
    only_second: int
    p_value: float


def mcnemar_test(first_correct_N: NDArray[np.bool_], second_correct_N: NDArray[np.bool_]) -> PairedTest:
    """Test by McNemar, exactly, two models on the same images: bool `[N]`, true where the model is correct.

    Source: Q. McNemar, Note on the sampling error of the difference between correlated proportions, Psychometrika 12
    (1947), in its exact binomial form.
    """
    only_first = int((first_correct_N & ~second_correct_N).sum())
    only_second = int((second_correct_N & ~first_correct_N).sum())
    disagreements = only_first + only_second
    # Both tails of a binomial with even odds; with no more than chance between them they meet, and overlap.
    tail = float(bdtr(min(only_first, only_second), disagreements, 0.5))
    return PairedTest(only_first, only_second, p_value=min(2 * tail, 1.0))


def verdict(first: str, second: str, test: PairedTest, p_value: float) -> str:
    """Say which of two models is better, if chance alone would seldom give such a difference."""
    if p_value >= SIGNIFICANCE:
        return f"{first} and {second} cannot be told apart"
    ahead, behind = (first, second) if test.only_first > test.only_second else (second, first)
    return f"{ahead} is better than {behind}"


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values of several tests, adjusted: the more tests, the more often chance alone makes one small.

    With all of them the probability that chance gives any adjusted one below `SIGNIFICANCE` is at most that.

    Source: S. Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6 (1979).
    """
    order = np.argsort(p_values, kind="stable")
    tests_left = np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.maximum.accumulate(np.asarray(p_values)[order] * tests_left)
    return [min(p_value, 1.0) for p_value in adjusted.tolist()]
