"""Evaluate the trained models, all that params.yaml names.

Each model is built again from its file alone and sees every test image once. Writes its metrics, the lecture's result
dictionary among them, its predictions, a table of its layers, and how its accuracy changes when the images are changed
a little. Takes some seconds.
"""

import sys
import time
from argparse import ArgumentParser
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stages.lib.base.errors import Outdated, UserError, exit_at_once, exit_cleanly
from stages.lib.base.files import NOT_COUNTED, write_csv, write_json
from stages.lib.base.inputs import Inputs
from stages.lib.base.params import load_params
from stages.lib.base.tensors import save_tensors
from stages.lib.base.timing import write_timing
from stages.lib.base.versions import check_versions
from stages.lib.data.datasets import Split, load_split
from stages.lib.learning.behaviour import AS_THEY_ARE, changed_images
from stages.lib.learning.devices import pick_device, place
from stages.lib.learning.evaluation import accuracy_pct, check_reloaded, metrics_of, predict
from stages.lib.learning.layers import trace_layers
from stages.lib.learning.models import Checkpoint, load_checkpoint


def main() -> None:
    """For each model: load, predict, measure, write."""
    ArgumentParser(prog="python -m stages.evaluate", description="Evaluate the trained models.").parse_args()
    inputs, params = Inputs("evaluate"), load_params()
    names = list(params.models)
    check_versions("numpy", "safetensors", "torch")
    torch.set_num_threads(params.train.threads)
    device = pick_device(params.train.device)
    test = load_split("data/prepared/test.safetensors").to(device)
    validation = load_split("data/prepared/validation.safetensors").to(device)
    batch_size = params.evaluate.batch_size

    images_per_second, behaviours = {}, []
    for name in names:
        checkpoint = load_named(name)
        place(checkpoint.model, device, checkpoint.memory_format)
        tabulate_layers(f"plots/layers/{name}.csv", checkpoint)  # runs the model once: the clock below sees no start-up
        start = time.perf_counter()
        logits_NK = predict(checkpoint, test, batch_size)
        images_per_second[name] = len(test) / (time.perf_counter() - start)
        results = measure(checkpoint, logits_NK, test, batch_size) | find_gaps(logits_NK, test.class_names)
        watched, watched_logits_NK = test, logits_NK
        if len(validation):
            watched, watched_logits_NK = validation, predict(checkpoint, validation, batch_size)
            results["validation"] = measure(checkpoint, watched_logits_NK, validation, batch_size)
        behaviours.append((name, AS_THEY_ARE, results["accuracy"]))
        for what, changed in changed_images(test):
            behaviours.append((name, what, accuracy_on(checkpoint, changed, batch_size)))
        check_as_trained(name, watched_logits_NK, watched.labels_N, params.model(name).batch_size)

        write_json(f"metrics/eval/{name}.json", results)
        save_tensors(
            f"data/predictions/{name}.safetensors",
            {"probabilities": logits_NK.softmax(dim=1).cpu(), "labels": test.labels_N.cpu()},
            {"name": name, "class_names": list(test.class_names)},
        )
        print(f"{name}: {results['accuracy']:.2f}% of {results['images']:,} images, loss {results['loss']:.5f}")
        if results["never_predicted"]:
            print(f"{name}: never answers {', '.join(results['never_predicted'])}")
        if results["undecided"]:
            print(f"{name}: gives all classes the same probability for {results['undecided']:,} images")
    write_csv("plots/behaviour.csv", ["model", "images", "accuracy"], behaviours)
    write_timing(
        "inference",
        names,
        {
            "images_per_second": images_per_second,
            "batch_size": batch_size,
            "device": device.type,
            "threads": params.train.threads,
            "torch": torch.__version__,
        },
    )
    inputs.check_unchanged()


def load_named(name: str) -> Checkpoint:
    """Load the model `name` from its file.

    Raises:
        UserError: the file is missing, or holds another model.
    """
    path = f"models/{name}.safetensors"
    if not Path(path).exists():
        raise UserError(f"{path} is missing; run `dvc repro`; dvc.yaml must have a stage train_{name}")
    checkpoint = load_checkpoint(path)
    if checkpoint.name != name:
        raise Outdated(path, f"holds {checkpoint.name}, not {name}")
    return checkpoint


def check_as_trained(name: str, logits_NK: Tensor, labels_N: Tensor, batch_size: int) -> None:
    """Check that the model has the loss of its last epoch, a mean over batches of `batch_size` images in training.

    Raises:
        UserError: the weights are those of another run, or the architecture has changed and they still fit.
    """
    loss = metrics_of(logits_NK, labels_N, batch_size).model_loss
    check_reloaded(f"models/{name}.safetensors", {"test_loss": loss}, f"metrics/train/{name}.json")


def measure(checkpoint: Checkpoint, logits_NK: Tensor, split: Split, batch_size: int) -> dict[str, Any]:
    """Return the lecture's result dictionary with the exact metrics beside it."""
    metrics = metrics_of(logits_NK, split.labels_N, batch_size)
    return {"model_name": type(checkpoint.model).__name__, **asdict(metrics)}


def accuracy_on(checkpoint: Checkpoint, split: Split, batch_size: int) -> float:
    """Return the accuracy of a model on some images, in percent."""
    return accuracy_pct(split.labels_N, predict(checkpoint, split, batch_size).argmax(dim=1))


def find_gaps(logits_NK: Tensor, class_names: tuple[str, ...]) -> dict[str, Any]:
    """Return the classes that the model never answers, and for how many images all classes are equally probable."""
    answers = set(logits_NK.argmax(dim=1).tolist())
    return {
        "never_predicted": [name for label, name in enumerate(class_names) if label not in answers],
        "undecided": int((logits_NK.amax(dim=1) == logits_NK.amin(dim=1)).sum()),
    }


def tabulate_layers(path: str, checkpoint: Checkpoint) -> None:
    """Write a table of the model's layers: what each turns an image into, and what it costs."""
    layers = trace_layers(checkpoint.model, checkpoint.input_shape)
    if uncounted := sorted({layer.kind for layer in layers if not layer.counted}):
        what = f"{checkpoint.name} has more multiply-adds than its table says: {', '.join(uncounted)} cannot be counted"
        print(f"warning: {what}", file=sys.stderr)
    listed = sum(layer.parameters for layer in layers)
    if unlisted := sum(weights.numel() for weights in checkpoint.model.parameters()) - listed:
        what = f"{checkpoint.name} may have more multiply-adds than its table says: {unlisted:,} of its weights"
        print(f"warning: {what} are in layers that it does not call", file=sys.stderr)
    write_csv(
        path,
        ["layer", "kind", "input", "output", "how", "parameters", "multiply_adds"],
        (
            (
                layer.name,
                layer.kind,
                "x".join(map(str, layer.input_shape)),
                "x".join(map(str, layer.output_shape)),
                layer.shape_formula if layer.counted else NOT_COUNTED,
                layer.parameters,
                layer.multiply_adds,
            )
            for layer in layers
        ),
    )


if __name__ == "__main__":
    exit_cleanly("evaluate", main)
    exit_at_once()
