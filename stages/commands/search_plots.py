"""Optuna's plots of a search, in the style of all pictures here."""

import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import matplotlib as mpl
from matplotlib import style
from matplotlib.ticker import NullFormatter
from optuna.visualization import matplotlib as optuna_plots

from stages.lib import plots

if TYPE_CHECKING:
    from optuna import Study

PLOTS: dict[str, Callable[..., Any]] = {
    "history": optuna_plots.plot_optimization_history,
    "slices": optuna_plots.plot_slice,
    "importances": optuna_plots.plot_param_importances,
}


@plots.styled
def draw(study: "Study", metric: str, folder: Path) -> None:
    """Write Optuna's plots as PNG. It asks for matplotlib's style ggplot, which is ours meanwhile."""
    mpl.use("Agg")
    ours = mpl.RcParams(plots.STYLE | {"figure.constrained_layout.use": True})  # or long names are cut off
    mpl.rcParams.update(ours)
    with patch.dict(style.library, {"ggplot": ours}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # all these functions are marked experimental
        for name, plot in PLOTS.items():
            with suppress(ValueError, RuntimeError):  # too few trials for it, or all of the same value
                axes = plot(study, target_name=metric)
                figure = (axes.flat[0] if hasattr(axes, "flat") else axes).figure
                for each in figure.axes:
                    each.xaxis.set_minor_formatter(NullFormatter())  # of a logarithmic axis: they overlap
                plots.save(figure, folder / f"{name}.png")
    import matplotlib.pyplot as plt

    plt.close("all")
