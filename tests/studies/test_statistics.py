"""The numbers of the studies against values worked out by hand, or by enumeration."""

from itertools import product

import numpy as np
import pytest

from studies.statistics import Pair, compare_recipes, pair_sentence, spread_of


def pair_of(first: list[float], second: list[float]) -> Pair:
    (pair,) = compare_recipes({"model_0": first, "model_1": second}, [("model_0", "model_1")])
    return pair


def test_spread() -> None:
    spread = spread_of([80.0, 82.0, 84.0])
    # t = 4.302653 for two degrees of freedom; 2 / sqrt(3) = 1.154701
    assert (spread.mean, spread.deviation, spread.lowest, spread.median, spread.highest) == (82, 2, 80, 82, 84)
    assert (spread.low, spread.high) == pytest.approx((82 - 4.968276, 82 + 4.968276))


def test_interval_ends_where_accuracies_end() -> None:
    spread = spread_of([10.0, 95.0, 96.0], least=0)
    assert (spread.low, spread.high) == (0, 100)


def test_p_value_of_ten_wins() -> None:
    pair = pair_of([float(value) for value in range(81, 91)], [80.0] * 10)
    assert pair.p_value == pytest.approx(2 / 1024)
    assert (pair.first_wins, pair.second_wins, pair.seeds) == (10, 0, 10)


def test_p_value_is_that_of_all_signs() -> None:
    differences = np.array([1.5, -0.5, 2.0, 0.25, -1.0, 3.0])
    means = [abs(np.mean(np.array(signs) * differences)) for signs in product((-1, 1), repeat=6)]
    expected = np.mean([mean >= abs(differences.mean()) - 1e-12 for mean in means])
    assert pair_of(list(80 + differences), [80.0] * 6).p_value == pytest.approx(float(expected))


def test_many_seeds() -> None:
    """A list of all 2^30 sums would fill the memory of most machines."""
    assert pair_of([float(value) for value in range(51, 81)], [50.0] * 30).p_value == 2 / 2**30


def test_equal_sums_count_as_equal() -> None:
    """6 of all 128 choices of signs come as far from 0, and 2 farther: in floats some of the 6 come out nearer."""
    base = [8218, 8696, 8320, 8162, 8765, 8033, 8399]
    ahead = [-3, 3, 16, 3, 13, 24, 15]
    first = [(correct + more) / 10_000 * 100 for correct, more in zip(base, ahead, strict=True)]
    pair = pair_of(first, [correct / 10_000 * 100 for correct in base])
    assert pair.p_value == 8 / 128
    assert "cannot be told apart" in pair.verdict


def test_equal_recipes_cannot_be_told_apart() -> None:
    pair = pair_of([80.0, 81.0, 82.0], [80.0, 81.0, 82.0])
    assert pair.p_value == 1
    assert "cannot be told apart" in pair.verdict


@pytest.mark.parametrize("order", [("model_0", "model_1"), ("model_1", "model_0")])
def test_the_better_recipe_is_named(order: tuple[str, str]) -> None:
    better, worse = order
    accuracies = {better: [80.1 + 0.1 * seed for seed in range(10)], worse: [80.0] * 10}
    pair = pair_of(accuracies["model_0"], accuracies["model_1"])
    assert pair.verdict == f"{better} is the better recipe than {worse}"
    assert f"{better} is ahead by 0.55 points on average, and with 10 of 10 seeds" in pair_sentence(pair)


def test_equal_accuracies_are_nobodys_wins() -> None:
    pair = pair_of([80.0, 81.0, 82.5, 83.0], [80.0, 81.5, 82.0, 82.0])
    assert (pair.first, pair.first_wins, pair.second, pair.second_wins, pair.seeds) == ("model_0", 2, "model_1", 1, 4)


def test_interval_of_the_difference() -> None:
    pair = pair_of([82.0, 84.0, 86.0], [80.0, 80.0, 80.0])
    assert (pair.mean_difference, pair.low, pair.high) == pytest.approx((4, 4 - 4.968276, 4 + 4.968276))


def test_several_pairs_are_corrected() -> None:
    accuracies = {name: [float(add + value) for value in range(6)] for name, add in (("a", 0), ("b", 10), ("c", 30))}
    pairs = compare_recipes(accuracies, [("a", "b"), ("a", "c"), ("b", "c")])
    assert [pair.p_value_holm for pair in pairs] == pytest.approx([3 * 2 / 64] * 3)
