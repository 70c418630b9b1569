"""Look at the best model: what it confuses, and what it gets wrong with the most confidence.

Loads `models/best.safetensors`, checks that it scores as it did when it was evaluated, and writes the confusion matrix,
the metrics of each class, pictures of right and wrong predictions, and what the layers make of an image. Takes some
seconds.

Shapes: N images, K classes.
"""

import math
import random
from argparse import ArgumentParser
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from stages.lib import plots
from stages.lib.base.errors import exit_at_once, exit_cleanly
from stages.lib.base.files import write_csv
from stages.lib.base.inputs import Inputs
from stages.lib.base.params import load_params
from stages.lib.base.versions import check_versions
from stages.lib.data.datasets import Split, load_split
from stages.lib.learning.devices import pick_device, place
from stages.lib.learning.evaluation import check_reloaded, metrics_of, predict
from stages.lib.learning.feature_maps import record_outputs
from stages.lib.learning.models import Checkpoint, load_checkpoint

BEST = "models/best.safetensors"


def main() -> None:
    """Load, predict again, check, tabulate, draw."""
    ArgumentParser(prog="python -m stages.confusion", description="Look at the best model's mistakes.").parse_args()
    inputs, params = Inputs("confusion"), load_params()
    check_versions("matplotlib", "numpy", "pillow", "safetensors", "scikit-learn", "torch")
    torch.set_num_threads(params.train.threads)
    device = pick_device(params.train.device)
    test = load_split("data/prepared/test.safetensors")
    best = load_checkpoint(BEST)
    place(best.model, device, best.memory_format)

    logits_NK = predict(best, test.to(device), params.evaluate.batch_size).cpu()
    metrics = metrics_of(logits_NK, test.labels_N, params.evaluate.batch_size)
    now = {"model": best.name, "accuracy": metrics.accuracy, "loss": metrics.loss}
    check_reloaded(BEST, now, "metrics/best.json")
    probabilities_NK = logits_NK.softmax(dim=1).numpy()
    predictions_N = probabilities_NK.argmax(axis=1)
    labels_N = test.labels_N.numpy()

    tabulate(labels_N, predictions_N, test, best.name)
    shown = random.Random(params.confusion.seed).sample(range(len(test)), k=min(params.confusion.samples, len(test)))
    draw_predictions("plots/predictions.png", f"Predictions of {best.name}", shown, probabilities_NK, test)
    confidence_N = probabilities_NK.max(axis=1)
    wrong = np.flatnonzero(predictions_N != labels_N)
    worst = wrong[np.argsort(-confidence_N[wrong], kind="stable")][: params.confusion.mistakes].tolist()
    draw_predictions("plots/mistakes.png", f"The most confident mistakes of {best.name}", worst, probabilities_NK, test)
    draw_feature_maps(best, test, device)
    inputs.check_unchanged()
    print(f"{best.name}: {len(wrong):,} mistakes in {len(test):,} images; the reloaded model scores as it did before")


def tabulate(labels_N: NDArray[Any], predictions_N: NDArray[Any], test: Split, name: str) -> None:
    """Write the confusion matrix, as a picture and as the table that DVC plots, and the metrics of each class."""
    classes = range(len(test.class_names))
    counts_KK = confusion_matrix(labels_N, predictions_N, labels=classes)
    picture = plots.confusion(counts_KK, test.class_names, f"Confusion matrix of {name}", test.shown_as)
    plots.save(picture, "plots/confusion.png")
    named = np.array(test.class_names)
    write_csv("plots/confusion.csv", ["actual", "predicted"], zip(named[labels_N], named[predictions_N], strict=True))

    precision_K, recall_K, f1_K, support_K = precision_recall_fscore_support(
        labels_N, predictions_N, labels=classes, zero_division=0
    )
    columns = (test.class_names, precision_K.tolist(), recall_K.tolist(), f1_K.tolist(), support_K.tolist())
    write_csv("plots/per_class.csv", ["class", "precision", "recall", "f1", "images"], zip(*columns, strict=True))


def draw_predictions(path: str, title: str, indices: list[int], probabilities_NK: NDArray[Any], test: Split) -> None:
    """Draw a grid of test images, titles green where the model is right and red where it is wrong."""
    titles, colours = [], []
    for index in indices:
        predicted, label = int(probabilities_NK[index].argmax()), int(test.labels_N[index])
        percent = probabilities_NK[index, predicted] * 100
        answer, truth = plots.short(test.class_names[predicted]), plots.short(test.class_names[label])
        titles.append(f"Pred: {answer} ({percent:.0f} %)\nTruth: {truth}")
        colours.append(plots.CORRECT if predicted == label else plots.WRONG)
    columns = math.ceil(math.sqrt(len(indices)))
    grid = plots.image_grid(test.images_NCHW[indices], titles, title, test.shown_as, columns, colours)
    plots.save(grid, path)


def draw_feature_maps(checkpoint: Checkpoint, test: Split, device: torch.device) -> None:
    """Draw what each layer of the model makes of the first test image."""
    outputs, _ = record_outputs(checkpoint.model, test.images_NCHW[:1].to(device) / 255)
    shown = {
        f"{each.name}\n{type(each.module).__name__}": maps_NCHW[0].cpu().numpy()
        for each in outputs
        if (maps_NCHW := each.maps(images=1)) is not None and maps_NCHW.ndim == 4
    }
    title = f"What the layers of {checkpoint.name} make of an image: {plots.short(test.class_names[test.labels_N[0]])}"
    plots.save(plots.feature_maps(test.images_NCHW[0], shown, title, test.shown_as), "plots/feature_maps.png")


if __name__ == "__main__":
    exit_cleanly("confusion", main)
    exit_at_once()
