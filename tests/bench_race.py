"""The race to an accuracy: `make bench`, or `python -m tests.bench_race 90 92 --rounds 3`.

Trains one recipe for each goal to its end by the train stage's own code, by Lightning and by fastai, each in a process
of its own, in turns, with the same architecture, optimizer, schedule, mirrored images, batches and number of epochs.
Prints the seconds of the training, with an evaluation of the test images after each epoch, and the accuracy in the end.

Lightning and fastai are the extra `bench` of pyproject.toml; without them their rows are left out. They read their
batches as their users have them do: a DataLoader over tensors in memory. Needs the prepared images, and a machine that
has nothing else to do. On a GPU all sides train on it: `python -m tests.bench_race 94`.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# Nothing of ours is imported up here: `stages` changes how threads wait, and those of the others wait as by default.
PROJECT = Path(__file__).parents[1]
SEED = 42
RECIPE: dict[str, Any] = {
    "arch": "residual",
    "hidden_units": 16,
    "settings": {"convolution": "plain", "widths": [32, 64], "blocks": [0, 1], "mirror": True},
    "batch_size": 128,
    "lr": 0.01,
    "optimizer": "adamw",
    "schedule": "onecycle",
    "augment": ["flip"],
    "memory_format": "channels_last",
}
LATE = {"widths": [32, 56], "blocks": [1, 1], "late_pooling": True}
# Test accuracy in percent, and what reaches it. The numbers of epochs were chosen by validation images.
GOALS: dict[str, dict[str, Any]] = {
    "90": RECIPE | {"epochs": 2},
    "92": RECIPE | {"epochs": 6},
    "94": RECIPE | {"epochs": 20, "settings": {**RECIPE["settings"], **LATE}},
}


def main() -> None:
    arguments = parse_arguments()
    if arguments.side:
        print(json.dumps(SIDES[arguments.side](arguments.goals[0])))
        return
    print(f"{platform.platform()}, {os.cpu_count()} CPUs, {arguments.rounds} round(s), ", end="")
    print(f"load {os.getloadavg()[0]:.2f} at the start\n")
    sides = [side for side in SIDES if side == "stage" or find_spec(side)]
    if missing := SIDES.keys() - sides:
        print(f"without {' and '.join(sorted(missing))}: docs/speed.md says how to install them\n")
    print(f"{'goal %':<8}{'by':<12}{'epochs':>6}{'parameters':>12}{'seconds':>28}{'accuracy %':>26}")
    for goal in arguments.goals:
        results: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
        for _ in range(arguments.rounds):
            for side in sides:
                results[side].append(run_side(side, goal))
        for side, each in results.items():
            seconds, accuracy = (spread([result[key] for result in each]) for key in ("seconds", "accuracy"))
            about = f"{each[0]['epochs']:>6}{each[0]['parameters']:>12,}"
            print(f"{goal:<8}{side:<12}{about}{seconds:>28}{accuracy:>26}", flush=True)


# --- the sides, each run in a process of its own ----------------------------------------------------------------------


def stage_side(goal: str) -> dict[str, Any]:
    """Do what `python -m stages.train` does between reading the images and writing the model."""
    import stages  # noqa: F401  # sets how threads wait, before torch is imported

    import torch  # isort: skip

    from stages.lib.data.datasets import load_split
    from stages.lib.learning.devices import pick_device
    from stages.lib.learning.memory import keep_freed_memory
    from stages.lib.learning.training import new_training

    params = params_of(goal)
    torch.set_num_threads(os.cpu_count() or 1)
    keep_freed_memory()
    device = pick_device("auto")
    train, test = (load_split(f"data/prepared/{name}.safetensors").to(device) for name in ("train", "test"))
    start = time.perf_counter()
    training = new_training(params, SEED, train, test)
    *_, last = training.run()
    seconds = time.perf_counter() - start
    return result(seconds, last.correct / len(test) * 100, training.model, params)


def lightning_side(goal: str) -> dict[str, Any]:
    """Train with Lightning's Trainer."""
    import torch
    from lightning import LightningModule, Trainer, seed_everything
    from torch.nn.functional import cross_entropy

    params = params_of(goal)
    torch.set_num_threads(os.cpu_count() or 1)
    train, test = loaders(params.batch_size)
    start = time.perf_counter()
    seed_everything(SEED, verbose=False)

    class Recipe(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = network(params)
            self.correct = torch.tensor(0)

        def training_step(self, batch: Any, _index: int) -> Any:
            images_BCHW, labels_B = batch
            return cross_entropy(self.network(mirrored(images_BCHW)), labels_B)

        def on_validation_epoch_start(self) -> None:
            self.correct = torch.tensor(0, device=self.device)

        def validation_step(self, batch: Any, _index: int) -> None:
            images_BCHW, labels_B = batch
            self.correct += (self.network(images_BCHW).argmax(dim=1) == labels_B).sum()

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.AdamW(self.parameters(), params.lr, weight_decay=params.weight_decay, fused=True)
            steps = int(self.trainer.estimated_stepping_batches)
            schedule = torch.optim.lr_scheduler.OneCycleLR(
                optimizer, params.lr, total_steps=steps, cycle_momentum=False
            )
            return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    recipe = Recipe()
    trainer = Trainer(
        max_epochs=params.epochs,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(recipe, train, test)
    accuracy = recipe.correct.item() / len(test.dataset) * 100
    return result(time.perf_counter() - start, accuracy, recipe.network, params)


def fastai_side(goal: str) -> dict[str, Any]:
    """Train with fastai's Learner."""
    from functools import partial

    import torch
    from fastai.callback.core import Callback
    from fastai.callback.schedule import Learner  # with fit_one_cycle
    from fastai.data.core import DataLoaders
    from fastai.metrics import accuracy
    from fastai.optimizer import OptimWrapper

    params = params_of(goal)
    torch.set_num_threads(os.cpu_count() or 1)
    train, test = loaders(params.batch_size)
    start = time.perf_counter()
    torch.manual_seed(SEED)

    class Mirror(Callback):
        def before_batch(self) -> None:
            if self.training:
                self.learn.xb = (mirrored(self.xb[0]),)

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    learner = Learner(
        DataLoaders(train, test, device=device),
        network(params),
        loss_func=torch.nn.CrossEntropyLoss(),
        opt_func=partial(OptimWrapper, opt=partial(torch.optim.AdamW, fused=True)),
        metrics=accuracy,
        cbs=Mirror(),
    )
    with learner.no_bar(), learner.no_logging():
        # torch's OneCycleLR by fastai's names
        learner.fit_one_cycle(
            params.epochs,
            params.lr,
            pct_start=0.3,
            div=25,
            div_final=25e4,
            wd=params.weight_decay,
            moms=(0.9, 0.9, 0.9),
        )
    reached = learner.recorder.values[-1][-1] * 100
    return result(time.perf_counter() - start, reached, learner.model, params)


SIDES = {"stage": stage_side, "lightning": lightning_side, "fastai": fastai_side}


def loaders(batch_size: int) -> list[Any]:
    """Return torch's loaders over the training and the test images, as float tensors in memory."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    from stages.lib.data.datasets import load_split

    splits = [load_split(f"data/prepared/{name}.safetensors") for name in ("train", "test")]
    sets = [TensorDataset(split.images_NCHW / 255, split.labels_N) for split in splits]
    torch.manual_seed(SEED)
    return [DataLoader(sets[0], batch_size, shuffle=True), DataLoader(sets[1], batch_size)]


def network(params: Any) -> Any:
    import torch

    from stages.lib.learning.devices import place
    from stages.lib.learning.models import build_model

    model = build_model(params.arch, (1, 28, 28), params.hidden_units, 10, params.settings)
    return place(model, torch.device("cpu"), params.memory_format)


def mirrored(images_BCHW: Any) -> Any:
    """Mirror every other image, as `augment: [flip]` does."""
    import torch

    chosen_B = torch.rand(len(images_BCHW), device=images_BCHW.device) < 0.5
    return torch.where(chosen_B[:, None, None, None], images_BCHW.flip(3), images_BCHW)


def params_of(goal: str) -> Any:
    from stages.lib.base.params import ModelParams

    return ModelParams.model_validate(GOALS[goal])


def result(seconds: float, accuracy: float, model: Any, params: Any) -> dict[str, Any]:
    parameters = sum(weights.numel() for weights in model.parameters())
    return {"seconds": seconds, "accuracy": accuracy, "parameters": parameters, "epochs": params.epochs}


def run_side(side: str, goal: str) -> dict[str, Any]:
    command = [sys.executable, "-W", "ignore", "-m", "tests.bench_race", goal, "--side", side]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{side}: {done.stderr}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


# --- small things -----------------------------------------------------------------------------------------------------


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench_race", description="Race to an accuracy.")
    parser.add_argument("goals", nargs="*", choices=GOALS, default=["90", "92"], help="test accuracy, in percent")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
