"""Evaluate the trained models: `python -m stages.evaluate model_0 model_1 model_2`.

Each model is built again from its file alone and sees every test image once. Writes its figures, the lecture's result
dictionary among them, its predictions, and a table of its layers. Takes some seconds.
"""

import argparse
import time
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from stages.lib.checkpoints import Checkpoint, load_checkpoint
from stages.lib.datasets import Split, load_split, make_loader
from stages.lib.devices import pick_device, place
from stages.lib.errors import UserError, end_at_once, exit_cleanly
from stages.lib.files import write_csv, write_json
from stages.lib.inference import predict_logits
from stages.lib.layers import trace_layers
from stages.lib.memory import enough_memory
from stages.lib.metrics import figures_of
from stages.lib.params import load_params
from stages.lib.tensors import save_tensors
from stages.lib.versions import check_versions


def main() -> None:
    """For each model: load, predict, measure, write."""
    names = parse_names()
    params = load_params()
    versions = check_versions("torch")
    torch.set_num_threads(params.train.threads)
    device = pick_device(params.train.device)
    test = load_split("data/prepared/test.safetensors").to(device)
    validation = load_split("data/prepared/validation.safetensors").to(device)
    batch_size = params.evaluate.batch_size

    images_per_second = {}
    for name in names:
        checkpoint = load_named(name)
        place(checkpoint.model, device, checkpoint.memory_format)
        tabulate_layers(f"plots/layers/{name}.csv", checkpoint)  # runs the model once: what starts late has started
        start = time.perf_counter()
        logits_NK = predict(checkpoint, test, batch_size)
        images_per_second[name] = len(test) / (time.perf_counter() - start)
        results = measure(checkpoint, logits_NK, test, batch_size)
        if len(validation):
            results["validation"] = measure(
                checkpoint, predict(checkpoint, validation, batch_size), validation, batch_size
            )

        write_json(f"metrics/eval/{name}.json", results)
        save_tensors(
            f"data/predictions/{name}.safetensors",
            {"probabilities": logits_NK.softmax(dim=1).cpu(), "labels": test.labels_N.cpu()},
            {"name": name, "class_names": list(test.class_names)},
        )
        print(f"{name}: {results['accuracy']:.2f}% of {results['images']:,} images, loss {results['loss']:.5f}")
    write_json(
        "metrics/timing/inference.json",
        {
            "images_per_second": images_per_second,
            "batch_size": batch_size,
            "device": device.type,
            "threads": params.train.threads,
            "torch": versions["torch"],
        },
    )


def load_named(name: str) -> Checkpoint:
    """The model `name` from its file.

    Raises:
        UserError: the file holds another model.
    """
    path = f"models/{name}.safetensors"
    checkpoint = load_checkpoint(path)
    if checkpoint.name != name:
        raise UserError(f"{path} holds {checkpoint.name}, not {name}; run `dvc repro train_{name}`")
    return checkpoint


@torch.inference_mode()
def predict(checkpoint: Checkpoint, split: Split, batch_size: int) -> Tensor:
    """Logits float32 `[N, K]`, on the model's device, which has finished when this returns.

    Raises:
        UserError: the model knows other classes than the data, or gives what is no number.
    """
    if checkpoint.class_names != split.class_names:
        raise UserError(f"{checkpoint.name} was trained for other classes than the data has; run `dvc repro`")
    with enough_memory("try a smaller evaluate.batch_size"):
        logits_NK = predict_logits(checkpoint.model, make_loader(split, batch_size))
    if not logits_NK.isfinite().all():
        raise UserError(f"{checkpoint.name} gives answers that are no numbers; train it again with a smaller lr")
    return logits_NK


def measure(checkpoint: Checkpoint, logits_NK: Tensor, split: Split, batch_size: int) -> dict[str, Any]:
    """The lecture's result dictionary with the exact figures beside it."""
    figures = figures_of(logits_NK, split.labels_N, batch_size)
    return {"model_name": type(checkpoint.model).__name__, **asdict(figures)}


def tabulate_layers(path: str, checkpoint: Checkpoint) -> None:
    """Write a table of the model's layers: what each turns an image into, and what it costs."""
    write_csv(
        path,
        ["layer", "kind", "input", "output", "how", "parameters", "multiply_adds"],
        (
            (
                layer.name,
                layer.kind,
                "x".join(map(str, layer.input_shape)),
                "x".join(map(str, layer.output_shape)),
                layer.how,
                layer.parameters,
                layer.multiply_adds,
            )
            for layer in trace_layers(checkpoint.model)
        ),
    )


def parse_names() -> list[str]:
    """The models' names from the command line."""
    parser = argparse.ArgumentParser(prog="python -m stages.evaluate", description="Evaluate trained models.")
    parser.add_argument("models", nargs="+", metavar="model", help="a trained model, such as model_1")
    names: list[str] = parser.parse_args().models
    return names


if __name__ == "__main__":
    exit_cleanly("evaluate", main)
    end_at_once()
