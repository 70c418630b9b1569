"""Reliability bins and the expected calibration error, against sums done by hand."""

import numpy as np
import pytest
from numpy.typing import NDArray

from stages.lib.results.calibration import Bin, calibration_error_pct, reliability_bins


def sure(confidences: list[float], right: list[bool]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Probabilities of ten classes with class 3 the likeliest, at these confidences, and labels."""
    probabilities_NK = np.array([[(1 - top) / 9] * 10 for top in confidences], np.float32)
    probabilities_NK[:, 3] = confidences
    return probabilities_NK, np.array([3 if hit else 4 for hit in right])


def test_the_error_is_the_gap_of_each_bin_weighed_by_its_images() -> None:
    # three images at 95 %, two right: a gap of 95 - 66.7 = 28.3; one image at 50 %, right: a gap of 50
    bins = reliability_bins(*sure([0.95, 0.95, 0.95, 0.5], [True, True, False, True]), bins=10)
    assert [(each.images, each.accuracy_pct) for each in bins] == [(1, 100.0), (3, pytest.approx(200 / 3))]
    assert calibration_error_pct(bins) == pytest.approx((3 * (95 - 200 / 3) + 1 * 50) / 4, abs=1e-4)


def test_a_model_that_is_right_as_often_as_it_says_has_no_error() -> None:
    bins = reliability_bins(*sure([0.75] * 400, [True, True, True, False] * 100))
    assert calibration_error_pct(bins) == pytest.approx(0)


def test_a_model_that_is_always_sure_and_never_right_is_100_percent_off() -> None:
    bins = reliability_bins(*sure([1.0] * 5, [False] * 5))
    assert calibration_error_pct(bins) == 100
    assert bins == [Bin(14 / 15, 1.0, 100.0, 0.0, 5)]


def test_gaps_of_opposite_sign_in_two_bins_do_not_cancel() -> None:
    bins = reliability_bins(*sure([0.9, 0.4], [False, True]), bins=2)
    assert calibration_error_pct(bins) == pytest.approx((90 + 60) / 2, abs=1e-4)


def test_a_confidence_on_the_border_belongs_to_the_lower_bin() -> None:
    (border,) = reliability_bins(*sure([0.5], [True]), bins=10)
    assert (border.low, border.high) == (0.4, 0.5)


def test_bins_without_images_are_left_out_and_the_others_are_in_order() -> None:
    bins = reliability_bins(*sure([0.99, 0.31, 0.6], [True, True, True]))
    assert [each.images for each in bins] == [1, 1, 1]
    assert [each.low for each in bins] == sorted(each.low for each in bins)
    assert all(each.low < each.confidence_pct / 100 <= each.high for each in bins)


def test_every_image_is_in_one_bin() -> None:
    draw = np.random.default_rng(0)
    probabilities_NK = draw.dirichlet(np.full(10, 0.3), 500).astype(np.float32)
    bins = reliability_bins(probabilities_NK, draw.integers(0, 10, 500))
    assert sum(each.images for each in bins) == 500


def test_the_error_does_not_depend_on_the_order_of_the_images() -> None:
    draw = np.random.default_rng(1)
    probabilities_NK, labels_N = draw.dirichlet(np.full(10, 0.3), 500).astype(np.float32), draw.integers(0, 10, 500)
    order = draw.permutation(500)
    shuffled = calibration_error_pct(reliability_bins(probabilities_NK[order], labels_N[order]))
    assert shuffled == pytest.approx(calibration_error_pct(reliability_bins(probabilities_NK, labels_N)))


def test_each_image_is_judged_by_its_own_likeliest_class() -> None:
    probabilities_NK = np.array([[0.1, 0.9], [0.9, 0.1], [0.9, 0.1]])
    (only,) = reliability_bins(probabilities_NK, np.array([0, 0, 0]))
    assert only.accuracy_pct == pytest.approx(200 / 3)


def test_a_confidence_that_rounding_lifts_above_1_belongs_to_the_highest_bin() -> None:
    above = float(np.nextafter(np.float32(1), np.float32(2)))
    (only,) = reliability_bins(*sure([above], [True]), bins=10)
    assert (only.low, only.high, only.images) == (0.9, 1.0, 1)
