"""Train one model by the lecture's procedure: `python -m stages.train model_1`.

Reads its block of params.yaml and the prepared images; writes the model, its metrics, its curve and its timing.
On two CPU cores the linear models take some seconds, the convolutional one about half a minute.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from stages.lib.base.batches import few_decide
from stages.lib.base.errors import exit_at_once, exit_cleanly
from stages.lib.base.files import write_csv, write_json
from stages.lib.base.inputs import Inputs
from stages.lib.base.params import Params, load_params
from stages.lib.base.timing import machine, write_timing
from stages.lib.base.versions import check_versions
from stages.lib.learning.cpus import watched_pace
from stages.lib.learning.devices import pick_device
from stages.lib.learning.distributed import is_distributed, join_world, start_processes
from stages.lib.learning.memory import enough_memory, keep_freed_memory
from stages.lib.learning.models import files_read_by, save_checkpoint
from stages.lib.learning.training import Epoch, is_chance, load_images, new_training
from stages.lib.learning.unfinished import Unfinished

# Beginnings of environment variables that choose how libraries compute: sums are rounded in another way.
ARITHMETIC = ("ATEN_", "CUBLAS", "CUDNN_", "DNNL_", "KMP_", "MKL_", "NVIDIA_", "OMP_", "ONEDNN_", "OPENBLAS_", "TORCH_")


def main() -> None:
    """Train in this process, or in several that share each batch."""
    name = parse_name()
    inputs, params = Inputs(f"train_{name}"), load_params()
    arch = params.model(name).arch  # a name that is not there is refused before anything starts
    inputs.check_listed(f"{name} in params.yaml", f"stages/architectures/{arch}.py", *files_read_by(arch))
    if params.train.processes > 1 and not is_distributed():
        start_processes(params.train.processes, partial(train_model, name, params, inputs))
    else:
        train_model(name, params, inputs)


def train_model(name: str, params: Params, inputs: Inputs) -> None:
    """Seed, build, seed again, train, check that the inputs are still the same, write."""
    model_params, threads = params.model(name), params.threads(name)
    torch.set_num_threads(threads)
    keep_freed_memory()
    device = pick_device(params.train.device)

    train, held_out, watched = load_images(name, model_params, device)
    with enough_memory(f"try a smaller {name}.batch_size or {name}.hidden_units"), join_world(device) as world:
        say = print if world.writes else silence
        if world.writes:
            check_versions("numpy", "safetensors", "torch")
            warn_of_short_batch(len(held_out), model_params.batch_size, watched)
        training = new_training(model_params, params.seed, train, held_out, params.train.precision, world)
        model = training.model
        parameters = sum(weights.numel() for weights in model.parameters())
        say(f"{name}: {type(model).__name__}, {parameters:,} parameters, {len(train):,} images of {train.called}")

        # Of a training outside the pipeline nobody knows all that it is made from.
        resumable = world.size == 1 and bool(inputs.at_start)
        unfinished = Unfinished(name, made_from(name, params, inputs, device) if resumable else None)
        seconds_before = unfinished.restore(training)
        if training.epochs:
            say(f"{name} goes on where it was interrupted, after epoch {len(training.epochs)}")
            write_curve(name, training.epochs)
        start = time.perf_counter() - seconds_before
        with watched_pace(name, threads if device.type == "cpu" and world.writes else 1):
            for epoch in training.run():
                unfinished.save(training, time.perf_counter() - start)
                if world.writes:
                    write_curve(name, training.epochs)
                say(epoch.line(watched), flush=True)
        end = time.perf_counter()
    if not world.writes:
        return

    train_seconds = report_train_time(start, end, device)
    kept = training.kept()
    if len(training.epochs) < model_params.epochs or kept is not training.epochs[-1]:
        print(f"{name}: {len(training.epochs)} epochs; the weights are those of epoch {kept.epoch}")
    if is_chance(kept.correct, held_out.labels_N):
        print(f"train: warning: {name} ends no better than chance; try another lr or more epochs", file=sys.stderr)

    inputs.check_unchanged()
    save_checkpoint(f"models/{name}.safetensors", model, name, model_params, train)
    write_json(
        f"metrics/train/{name}.json",
        {
            "train_loss": kept.train_loss,
            "train_acc": kept.train_acc,
            "test_loss": kept.test_loss,
            "test_acc": kept.test_acc,
            "watched": watched,
            "parameters": parameters,
        },
    )
    write_timing(
        name,
        [name],
        {
            "train_seconds": train_seconds,
            "images_per_second": len(training.epochs) * len(train) / train_seconds,
            "device": device.type,
            "threads": threads,
            "torch": torch.__version__,
            "processes": world.size,
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        },
    )
    unfinished.remove()


def made_from(name: str, params: Params, inputs: Inputs, device: torch.device) -> dict[str, Any]:
    """Return all that decides the result of a training."""
    on = {"device": device.type, "threads": params.threads(name), "torch": torch.__version__, "machine": machine()}
    return on | {
        "environment": {key: value for key, value in os.environ.items() if key.startswith(ARITHMETIC)},
        "files": inputs.at_start,
        "model": params.model(name).model_dump(),
        "seed": params.seed,
        "precision": params.train.precision,
    }


def warn_of_short_batch(images: int, batch_size: int, watched: str) -> None:
    """Say on stderr if few of the images that the training watches decide on much of its accuracies."""
    if few_decide(images, batch_size):
        what = f"the last {images % batch_size} of the {images:,} {watched} images count as much as {batch_size} others"
        print(f"train: warning: accuracies of epochs are means over batches: {what}", file=sys.stderr)


def write_curve(name: str, epochs: Sequence[Epoch]) -> None:
    """Write the metrics of the epochs so far: editors and `dvc plots` show them while the training runs."""
    header = ["epoch", "train_loss", "train_acc", "test_loss", "test_acc"]
    write_csv(f"plots/curves/{name}.csv", header, [[getattr(epoch, key) for key in header] for epoch in epochs])


def silence(*_: object, **__: object) -> None:
    """Print nothing: for the processes other than the one that prints."""


def report_train_time(start: float, end: float, device: torch.device) -> float:
    """Print and return the seconds between two readings of a clock."""
    train_seconds = end - start
    print(f"Train time on {device}: {train_seconds:.3f} seconds", flush=True)
    return train_seconds


def parse_name() -> str:
    """Return the model's name from the command line."""
    parser = argparse.ArgumentParser(prog="python -m stages.train", description="Train one model.")
    parser.add_argument("model", help="a block of params.yaml, such as model_1")
    name: str = parser.parse_args().model
    return name


if __name__ == "__main__":
    exit_cleanly("train", main)
    exit_at_once()
