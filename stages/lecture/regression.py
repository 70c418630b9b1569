"""Draw the data and the predictions of a regression."""

from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from stages.lib.plots import new_figure, styled


@styled
def regression(
    train_x: ArrayLike, train_y: ArrayLike, test_x: ArrayLike, test_y: ArrayLike, predictions: ArrayLike | None = None
) -> Figure:
    """Scatter training data in blue, test data in green, and predictions for the test data in red; all `[N]`."""
    figure = new_figure((8, 5), "Training data, test data and predictions")
    axes = figure.subplots()
    axes.scatter(train_x, train_y, c="tab:blue", s=12, label="Training data")
    axes.scatter(test_x, test_y, c="tab:green", s=12, label="Test data")
    if predictions is not None:
        axes.scatter(test_x, predictions, c="tab:red", s=12, label="Predictions")
    axes.legend()
    return figure
