"""Classify and draw one image file, in a notebook."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from torch import nn

from stages.lib.photos import Background, read_garment
from stages.predict import Prediction, classify, draw


def predict_image(
    model: nn.Module, path: str | Path, class_names: Sequence[str], background: Background = "auto"
) -> Prediction:
    """Classify one image file.

    Args:
        model: takes float32 images `[N, 1, 28, 28]` in [0, 1], a light garment on black; gives logits `[N, K]`.
        path: the image file, of any size, colour and rotation.
        class_names: the K names, in the order of the logits.
        background: `light` or `dark` overrules what the corners of the picture show.

    Raises:
        OSError, UserError: the file cannot be read as an image, or shows nothing but one colour.
    """
    [prediction] = classify(model, [(Path(path), read_garment(path, background))], class_names)
    return prediction


def predict_and_plot_image(
    model: nn.Module, path: str | Path, class_names: Sequence[str], background: Background = "auto"
) -> Figure:
    """Classify one image file as `predict_image` does, and draw it beside the probabilities of its classes.

    The figure is not shown: display it in a notebook, or write it with `stages.lib.plots.save`.
    """
    return draw([predict_image(model, path, class_names, background)])
