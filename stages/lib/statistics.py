"""Whether a difference is real: intervals for one accuracy, an exact test for two on the same images."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

SIGNIFICANCE = 0.05


def wilson_interval(correct: int, images: int) -> tuple[float, float]:
    """95 % confidence interval of an accuracy, in percent.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927).
    """
    interval = binomtest(correct, images).proportion_ci(confidence_level=0.95, method="wilson")
    return float(interval.low) * 100, float(interval.high) * 100


@dataclass(frozen=True)
class PairedTest:
    """Two models on the same images: how many only one of them gets right, and how likely that is by chance."""

    only_first: int
    only_second: int
    p_value: float

    @property
    def differ(self) -> bool:
        """Whether chance alone would give such a difference less than once in twenty times."""
        return self.p_value < SIGNIFICANCE


def mcnemar_test(first_right_N: NDArray[np.bool_], second_right_N: NDArray[np.bool_]) -> PairedTest:
    """Exact McNemar test on paired answers, bool `[N]`, true where the model is right.

    Source: Q. McNemar, Note on the sampling error of the difference between correlated proportions, Psychometrika 12
    (1947), in its exact binomial form.
    """
    only_first = int((first_right_N & ~second_right_N).sum())
    only_second = int((second_right_N & ~first_right_N).sum())
    disagreements = only_first + only_second
    p_value = float(binomtest(only_first, disagreements, 0.5).pvalue) if disagreements else 1.0
    return PairedTest(only_first, only_second, p_value)
