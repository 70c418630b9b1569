"""Draw what a classifier of points in the plane decides.

Shapes: N labelled points, M points of the grid, which has G x G, K classes.
"""

from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from stages.lib.plots import new_figure, styled


@styled
@torch.inference_mode()
def decision_boundary(model: nn.Module, points_N2: Tensor, labels_N: Tensor, steps: int = 101) -> Figure:
    """Draw the classes that `model` gives to a grid of `steps` x `steps` points, under the labelled points.

    Args:
        model: maps float32 points `[N, 2]` to logits: `[N]` or `[N, 1]` for two classes, `[N, K]` for K classes.
        points_N2: the points, float32; the grid covers them and a margin of 0.1.
        labels_N: their classes, whole numbers from 0.
        steps: grid points along each axis.
    """
    model.eval()
    device = next((weights.device for weights in model.parameters()), torch.device("cpu"))
    points_N2, labels_N = points_N2.cpu(), labels_N.cpu()
    (x_low, y_low), (x_high, y_high) = (points_N2.amin(0) - 0.1).tolist(), (points_N2.amax(0) + 0.1).tolist()
    x_GG, y_GG = np.meshgrid(np.linspace(x_low, x_high, steps), np.linspace(y_low, y_high, steps))
    grid_M2 = torch.from_numpy(np.column_stack([x_GG.ravel(), y_GG.ravel()])).float()

    logits = model(grid_M2.to(device)).cpu()
    one_column = logits.ndim == 1 or logits.shape[1] == 1
    classes_M = (logits.reshape(-1) > 0).long() if one_column else logits.argmax(dim=1)

    figure = new_figure((6, 5), "Decision boundary")
    axes = figure.subplots()
    axes.grid(visible=False)
    highest = max(int(classes_M.max()), int(labels_N.max()), 1)
    colours: dict[str, Any] = {"cmap": "RdYlBu", "vmin": 0, "vmax": highest}
    axes.pcolormesh(x_GG, y_GG, classes_M.reshape(x_GG.shape).numpy(), alpha=0.5, shading="auto", **colours)
    x_N, y_N = points_N2.numpy().T
    axes.scatter(x_N, y_N, c=labels_N.numpy(), s=30, edgecolors="black", linewidths=0.4, **colours)
    axes.set(xlim=(x_low, x_high), ylim=(y_low, y_high))
    return figure
