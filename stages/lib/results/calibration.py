"""Calibration, or is a model right as often as it is confident: reliability bins, expected calibration error.

Source: C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, On calibration of modern neural networks, ICML 2017
(https://arxiv.org/abs/1706.04599).

Shapes: N images, K classes, M bins.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15  # as in the paper


@dataclass(frozen=True)
class Bin:
    """The images whose confidence, the highest probability, lies above `low` and up to `high`."""

    low: float
    high: float
    confidence_pct: float  # mean confidence of the images
    accuracy_pct: float  # of these images
    images: int


def reliability_bins(probabilities_NK: NDArray[Any], labels_N: NDArray[Any], bins: int = BINS) -> list[Bin]:
    """Sort predictions by confidence into `bins` of equal width; bins without an image are left out.

    Args:
        probabilities_NK: float `[N, K]`, one row for each image.
        labels_N: the true classes, int `[N]`.
        bins: how many.
    """
    confidence_N = probabilities_NK.max(axis=1).astype(np.float64)
    correct_N = probabilities_NK.argmax(axis=1) == labels_N
    index_N = np.clip(np.ceil(confidence_N * bins).astype(int) - 1, 0, bins - 1)
    # bincount adds one after the other: the same digits on every machine
    images_M = np.bincount(index_N, minlength=bins)
    confidence_M = np.bincount(index_N, weights=confidence_N, minlength=bins)
    correct_M = np.bincount(index_N, weights=correct_N, minlength=bins)
    return [
        Bin(
            low=index / bins,
            high=(index + 1) / bins,
            confidence_pct=float(confidence_M[index] / images * 100),
            accuracy_pct=float(correct_M[index] / images * 100),
            images=images,
        )
        for index, images in enumerate(images_M.tolist())
        if images
    ]


def calibration_error_pct(bins: Sequence[Bin]) -> float:
    """Return the expected calibration error in percent: the mean gap of confidence and accuracy over the images."""
    images = sum(each.images for each in bins)
    # fsum rounds once: `sum` adds floats in another way from Python 3.12 on
    return math.fsum(each.images / images * abs(each.confidence_pct - each.accuracy_pct) for each in bins)
