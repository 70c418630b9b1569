"""What a classifier of points in the plane decides, drawn."""

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn


@torch.inference_mode()
def decision_boundary(model: nn.Module, points_N2: Tensor, labels_N: Tensor, steps: int = 101) -> Figure:
    """The classes that `model` gives to a grid of `steps` x `steps` points, under the labelled points.

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

    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.subplots()
    highest = max(int(classes_M.max()), int(labels_N.max()), 1)
    axes.pcolormesh(
        x_GG,
        y_GG,
        classes_M.reshape(x_GG.shape).numpy(),
        cmap="RdYlBu",
        alpha=0.5,
        vmin=0,
        vmax=highest,
        shading="auto",
    )
    axes.scatter(
        points_N2[:, 0].numpy(),
        points_N2[:, 1].numpy(),
        c=labels_N.numpy(),
        s=30,
        cmap="RdYlBu",
        vmin=0,
        vmax=highest,
        edgecolors="black",
        linewidths=0.4,
    )
    axes.set(xlim=(x_low, x_high), ylim=(y_low, y_high), title="Decision boundary")
    return figure
