"""What a few trainings say of a recipe: its mean with an interval, and an exact test of two recipes, seed by seed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from stages.lib.results.statistics import SIGNIFICANCE, holm

ROUNDING = 1e-9  # points of percent: sums that differ by less are equal, as 0.1 + 0.2 and 0.3 are


@dataclass(frozen=True)
class Spread:
    """The accuracies of several trainings of one recipe, in percent."""

    mean: float
    deviation: float  # standard deviation of one training
    low: float  # 95 % confidence interval of the mean, by Student's t
    high: float
    lowest: float
    median: float  # unlike the mean, hardly moved by one training that fails
    highest: float


def spread_of(values: Sequence[float], least: float = -100, most: float = 100) -> Spread:
    """Return mean, deviation, interval of the mean, and range of at least two values, all from `least` to `most`."""
    mean, deviation = float(np.mean(values)), float(np.std(values, ddof=1))
    margin = float(t.ppf(1 - SIGNIFICANCE / 2, len(values) - 1)) * deviation / math.sqrt(len(values))
    low, high = max(mean - margin, least), min(mean + margin, most)
    return Spread(mean, deviation, low, high, min(values), float(np.median(values)), max(values))


@dataclass(frozen=True)
class Pair:
    """Two recipes with the same seeds: how far the first is ahead, in points of percent, and how likely by chance."""

    first: str
    second: str
    mean_difference: float
    low: float  # 95 % confidence interval of the mean difference
    high: float
    first_wins: int
    second_wins: int
    seeds: int
    p_value: float  # two-sided, exact
    p_value_holm: float  # for all pairs of the study together
    verdict: str


def compare_recipes(accuracies: Mapping[str, Sequence[float]], pairs: Sequence[tuple[str, str]]) -> list[Pair]:
    """Test each pair of recipes by the signs of their differences: without an effect either sign is as likely.

    All 2^n choices of signs count, so that the test is exact for any number n of seeds. It asks no normal
    distribution. Source: R. A. Fisher, The Design of Experiments (1935), section 21.
    """
    differences = [np.subtract(accuracies[first], accuracies[second]).tolist() for first, second in pairs]
    p_values = [sign_flip_test(each) for each in differences]
    return [
        _pair(first, second, each, p_value, adjusted)
        for (first, second), each, p_value, adjusted in zip(pairs, differences, p_values, holm(p_values), strict=True)
    ]


def sign_flip_test(differences: Sequence[float]) -> float:
    """Return the proportion of all choices of signs that bring the sum at least as far from 0 as it is.

    Each half of the differences has its sums, and all pairs of the two are counted, not listed: 30 seeds take no longer
    than ten. Source: E. Horowitz, S. Sahni, Computing partitions with applications to the knapsack problem, J. ACM 21
    (1974).
    """
    half = len(differences) // 2
    first, second = _sums(differences[:half]), np.sort(_sums(differences[half:]))
    far = abs(math.fsum(differences)) - ROUNDING
    above = int((second.size - np.searchsorted(second, far - first)).sum())  # and as many below -far
    return min(math.ldexp(2 * above, -len(differences)), 1.0)


def _sums(differences: Sequence[float]) -> NDArray[np.float64]:
    """Return the sum for each choice of signs, `[2^n]`."""
    sums = np.zeros(1)
    for each in differences:
        sums = np.concatenate([sums + each, sums - each])
    return sums


def _pair(first: str, second: str, differences: list[float], p_value: float, p_value_holm: float) -> Pair:
    spread = spread_of(differences)
    wins = sum(each > 0 for each in differences), sum(each < 0 for each in differences)
    verdict = f"{first} and {second} cannot be told apart by their recipes"
    if p_value_holm < SIGNIFICANCE:
        ahead, behind = (first, second) if spread.mean > 0 else (second, first)
        verdict = f"{ahead} is the better recipe than {behind}"
    return Pair(
        first, second, spread.mean, spread.low, spread.high, *wins, len(differences), p_value, p_value_holm, verdict
    )


def pair_sentence(pair: Pair) -> str:
    """Say what the test says of two recipes, with its numbers."""
    ahead, wins = (pair.first, pair.first_wins) if pair.mean_difference >= 0 else (pair.second, pair.second_wins)
    return (
        f"{pair.verdict}: {ahead} is ahead by {abs(pair.mean_difference):.2f} points on average, and with "
        f"{wins} of {pair.seeds} seeds (p = {pair.p_value_holm:.2g} by Holm)"
    )
