import numpy as np
import pytest

from stages.lecture.regression import regression


@pytest.mark.parametrize("predicted", [True, False])
def test_regression(predicted: bool) -> None:
    numbers = np.arange(5.0)
    figure = regression(numbers, numbers, numbers, numbers, numbers if predicted else None)
    legend = figure.axes[0].get_legend()
    assert legend is not None
    expected = ["Training data", "Test data", "Predictions"] if predicted else ["Training data", "Test data"]
    assert [text.get_text() for text in legend.get_texts()] == expected
