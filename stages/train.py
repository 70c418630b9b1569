"""Train one model by the lecture's procedure: `python -m stages.train model_1`.

Reads its block of params.yaml and the prepared images; writes the model, its metrics, its curve and its timing.
On two CPU cores the linear models take some seconds, the convolutional one about half a minute.
"""

import argparse
import sys
import time
from functools import partial

import torch

from stages.lib.base.errors import exit_at_once, exit_cleanly
from stages.lib.base.files import write_csv, write_json
from stages.lib.base.inputs import Inputs
from stages.lib.base.params import Params, load_params
from stages.lib.base.timing import write_timing
from stages.lib.base.versions import check_versions
from stages.lib.data.datasets import load_split
from stages.lib.learning.cpus import watched_pace
from stages.lib.learning.devices import pick_device, place, set_seeds
from stages.lib.learning.distributed import is_distributed, join_world, start_processes
from stages.lib.learning.memory import enough_memory, keep_freed_memory
from stages.lib.learning.models import build_model, save_checkpoint
from stages.lib.learning.training import check_training, fit, is_chance


def main() -> None:
    """Train in this process, or in several that share each batch."""
    name = parse_name()
    params = load_params()
    params.model(name)  # a name that is not there is refused before anything starts
    inputs = Inputs(f"train_{name}")
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

    train = load_split("data/prepared/train.safetensors").to(device)
    validation = load_split("data/prepared/validation.safetensors").to(device)
    # Without a validation set training watches the test images, as the lecture does.
    watched = "validation" if len(validation) else "test"
    held_out = validation if len(validation) else load_split("data/prepared/test.safetensors").to(device)

    with enough_memory(f"try a smaller {name}.batch_size or {name}.hidden_units"), join_world(device) as world:
        say = print if world.writes else silence
        if world.writes:
            check_versions("numpy", "safetensors", "torch")
        set_seeds(params.seed)
        classes = len(train.class_names)
        model = build_model(model_params.arch, model_params.hidden_units, classes, model_params.settings)
        place(model, device, model_params.memory_format)
        check_training(model, model_params, train, world)
        parameters = sum(weights.numel() for weights in model.parameters())
        say(f"{name}: {type(model).__name__}, {parameters:,} parameters, {len(train):,} images of {train.source}")

        set_seeds(params.seed)
        epochs = []
        start = time.perf_counter()
        with watched_pace(name, threads if device.type == "cpu" and world.writes else 1):
            for epoch in fit(model, model_params, train, held_out, params.train.precision, world):
                say(epoch.line(watched), flush=True)
                epochs.append(epoch)
        end = time.perf_counter()
    if not world.writes:
        return

    train_seconds = report_train_time(start, end, device)
    last = epochs[-1]
    if is_chance(last.correct, held_out.labels_N):
        print(f"train: warning: {name} ends no better than chance; try another lr or more epochs", file=sys.stderr)

    inputs.check_unchanged()
    save_checkpoint(f"models/{name}.safetensors", model, name, model_params, train.class_names)
    curve = [(epoch.epoch, epoch.train_loss, epoch.train_acc, epoch.test_loss, epoch.test_acc) for epoch in epochs]
    write_csv(f"plots/curves/{name}.csv", ["epoch", "train_loss", "train_acc", "test_loss", "test_acc"], curve)
    write_json(
        f"metrics/train/{name}.json",
        {
            "train_loss": last.train_loss,
            "train_acc": last.train_acc,
            "test_loss": last.test_loss,
            "test_acc": last.test_acc,
            "watched": watched,
            "parameters": parameters,
        },
    )
    write_timing(
        name,
        [name],
        {
            "train_seconds": train_seconds,
            "images_per_second": model_params.epochs * len(train) / train_seconds,
            "device": device.type,
            "threads": threads,
            "torch": torch.__version__,
            "processes": world.size,
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        },
    )


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
