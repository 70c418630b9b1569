"""Reliability bins and the expected calibration error, against sums done by hand."""

import numpy as np
import pytest
from numpy.typing import NDArray

from stages.lib.results.calibration import Bin, calibration_error_pct, reliability_bins


def predictions(confidences: list[float], correct: list[bool]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Probabilities of ten classes with class 3 the likeliest, at these confidences, and labels."""
    probabilities_NK = np.array([[(1 - top) / 9] * 10 for top in confidences], np.float32)
    probabilities_NK[:, 3] = confidences
    return probabilities_NK, np.array([3 if each else 4 for each in correct])


@pytest.fixture
def random_predictions() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    draw = np.random.default_rng(0)
    return draw.dirichlet(np.full(10, 0.3), 500).astype(np.float32), draw.integers(0, 10, 500)


def test_gaps_weighed_by_images() -> None:
    # three images at 95 %, two correct: a gap of 95 - 66.7 = 28.3; one image at 50 %, correct: a gap of 50
    bins = reliability_bins(*predictions([0.95, 0.95, 0.95, 0.5], [True, True, False, True]), bins=10)
    assert [(each.images, each.accuracy_pct) for each in bins] == [(1, 100.0), (3, pytest.approx(200 / 3))]
    assert calibration_error_pct(bins) == pytest.approx((3 * (95 - 200 / 3) + 1 * 50) / 4, abs=1e-4)


def test_same_bits_on_every_python() -> None:
    # terms of 1, 2**-53, 2**-106 and 0: rounded once they give more than 1, `sum` gives 1 on Python 3.11 to 3.14
    bins = [Bin(0.0, 1.0, confidence_pct=gap, accuracy_pct=0.0, images=1) for gap in (4.0, 2**-51, 2**-104, 0.0)]
    assert calibration_error_pct(bins) == 1 + 2**-52


def test_no_error() -> None:
    bins = reliability_bins(*predictions([0.75] * 400, [True, True, True, False] * 100))
    assert calibration_error_pct(bins) == pytest.approx(0)


def test_greatest_error() -> None:
    bins = reliability_bins(*predictions([1.0] * 5, [False] * 5))
    assert calibration_error_pct(bins) == 100
    assert bins == [Bin(14 / 15, 1.0, 100.0, 0.0, 5)]


def test_opposite_gaps_do_not_cancel() -> None:
    bins = reliability_bins(*predictions([0.9, 0.4], [False, True]), bins=2)
    assert calibration_error_pct(bins) == pytest.approx((90 + 60) / 2, abs=1e-4)


def test_confidence_on_the_border() -> None:
    (border,) = reliability_bins(*predictions([0.5], [True]), bins=10)
    assert (border.low, border.high) == (0.4, 0.5)


def test_confidence_rounded_above_1() -> None:
    above = float(np.nextafter(np.float32(1), np.float32(2)))
    (only,) = reliability_bins(*predictions([above], [True]), bins=10)
    assert (only.low, only.high, only.images) == (0.9, 1.0, 1)


def test_bins_without_images() -> None:
    bins = reliability_bins(*predictions([0.99, 0.31, 0.6], [True, True, True]))
    assert [each.images for each in bins] == [1, 1, 1]
    assert [each.low for each in bins] == sorted(each.low for each in bins)
    assert all(each.low < each.confidence_pct / 100 <= each.high for each in bins)


def test_every_image_in_one_bin(random_predictions: tuple[NDArray[np.float32], NDArray[np.int64]]) -> None:
    assert sum(each.images for each in reliability_bins(*random_predictions)) == 500


def test_order_of_images(random_predictions: tuple[NDArray[np.float32], NDArray[np.int64]]) -> None:
    probabilities_NK, labels_N = random_predictions
    backwards = reliability_bins(probabilities_NK[::-1], labels_N[::-1])
    assert calibration_error_pct(backwards) == pytest.approx(
        calibration_error_pct(reliability_bins(*random_predictions))
    )


def test_likeliest_class_of_each_image() -> None:
    probabilities_NK = np.array([[0.1, 0.9], [0.9, 0.1], [0.9, 0.1]])
    (only,) = reliability_bins(probabilities_NK, np.array([0, 0, 0]))
    assert only.accuracy_pct == pytest.approx(200 / 3)
