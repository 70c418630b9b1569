"""The benchmark: `make bench`, or `python -m tests.bench --rounds 5 --epochs 1`.

Trains each model by the lecture's plain loop (`ToTensor` for every image) and by the train stage's own code, each in a
process of its own, in turns, and prints medians with their spread. Checks that both compute the same training: equal
losses for the linear models, and for the convolutional one when it is given the lecture's memory format.

Needs the prepared images of an up-to-date pipeline, and a machine that has nothing else to do. Measures also
- the whole: the lecture's three trainings against `dvc repro` from the fetched files to the end, start-ups included,
- what threads that wait for each other cost on an idle and on a busy machine,
- how far the convolutional model is from what the machine can calculate, by a large matrix product.
"""

import argparse
import gzip
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# Nothing of ours is imported up here: `stages` changes how threads wait, and the lecture's shall wait as by default.
PROJECT = Path(__file__).parents[1]
MODELS = ("model_0", "model_1", "model_2")
SLOW_ROUNDS = 3  # of what takes minutes
# Threads of a training, and how they wait for each other; the lecture's loop takes two that spin by default.
WAITING: dict[str, tuple[str, int, dict[str, str]]] = {
    "the lecture's loop": ("lecture", 2, {}),
    "one thread": ("stage", 1, {}),
    # OMP_WAIT_POLICY would do nothing: the count that stages set wins.
    "two that sleep at once": ("stage", 2, {"GOMP_SPINCOUNT": "0"}),
    "two that spin a little": ("stage", 2, {}),
    "two that spin by default": ("stage", 2, {"GOMP_SPINCOUNT": "300000"}),
}


def main() -> None:
    arguments = parse_arguments()
    if arguments.side:
        print(json.dumps(SIDES[arguments.side](arguments.model, arguments.epochs, arguments.threads)))
        return
    print(f"{platform.platform()}, {os.cpu_count()} CPUs, {processor()}, commit {commit()}, ", end="")
    print(f"{arguments.rounds} rounds of {arguments.epochs} epoch(s), load {os.getloadavg()[0]:.2f} at the start\n")
    with tempfile.TemporaryDirectory() as raw:
        unpack_raw(Path(raw))
        os.environ["BENCH_RAW"] = raw
        race_models(arguments.rounds, arguments.epochs)
        race_pipeline(SLOW_ROUNDS)
        busy_machine(SLOW_ROUNDS)
    arithmetic_limit()


# --- the two sides, each run in a process of its own ------------------------------------------------------------------


def lecture_side(name: str, epochs: int, threads: int | None) -> dict[str, Any]:
    """Train by the plain loop: a Python object for every image, a DataLoader collates them, metrics at every step."""
    import torch
    from torch import nn
    from torch.utils.data import DataLoader
    from torchvision.datasets import FashionMNIST
    from torchvision.transforms import ToTensor

    from stages.lib.base.params import load_params
    from stages.lib.learning.models import build_model

    params = load_params()
    model_params = params.model(name)
    torch.set_num_threads(threads or params.threads(name))
    root = os.environ["BENCH_RAW"]
    train_data = FashionMNIST(root, train=True, transform=ToTensor())
    test_data = FashionMNIST(root, train=False, transform=ToTensor())
    train_loader = DataLoader(train_data, batch_size=model_params.batch_size, shuffle=True)
    test_loader = DataLoader(test_data, batch_size=model_params.batch_size)

    torch.manual_seed(params.seed)
    model = build_model(
        model_params.arch, (1, 28, 28), model_params.hidden_units, len(train_data.classes), model_params.settings
    )
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False  # the lecture's; ours saves memory traffic
    loss_function = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=model_params.lr)
    torch.manual_seed(params.seed)
    start = time.perf_counter()
    losses = []
    for _ in range(epochs):
        train_loss: Any = 0
        train_accuracy = 0.0
        for images, labels in train_loader:
            model.train()
            logits = model(images)
            loss = loss_function(logits, labels)
            train_loss += loss.detach()
            train_accuracy += (logits.argmax(dim=1) == labels).sum().item() / len(labels) * 100
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        test_loss: Any = 0
        test_accuracy = 0.0
        model.eval()
        with torch.inference_mode():
            for images, labels in test_loader:
                logits = model(images)
                test_loss += loss_function(logits, labels)
                test_accuracy += (logits.argmax(dim=1) == labels).sum().item() / len(labels) * 100
        losses += [(train_loss / len(train_loader)).item(), (test_loss / len(test_loader)).item()]
    return {"seconds": time.perf_counter() - start, "losses": losses, "images": epochs * len(train_data)}


def stage_side(name: str, epochs: int, threads: int | None, memory_format: str | None = None) -> dict[str, Any]:
    """Do what `python -m stages.train` does between reading the images and writing the model."""
    import stages  # noqa: F401  # sets how threads wait, before torch is imported

    import torch  # isort: skip

    from stages.lib.base.params import load_params
    from stages.lib.data.datasets import load_split
    from stages.lib.learning.devices import pick_device, place, set_seeds
    from stages.lib.learning.memory import keep_freed_memory
    from stages.lib.learning.models import build_model
    from stages.lib.learning.training import Training

    params = load_params()
    changes = {"epochs": epochs} | ({"memory_format": memory_format} if memory_format else {})
    model_params = params.model(name).model_copy(update=changes)
    torch.set_num_threads(threads or params.threads(name))
    keep_freed_memory()
    device = pick_device(params.train.device)
    train = load_split("data/prepared/train.safetensors").to(device)
    test = load_split("data/prepared/test.safetensors").to(device)
    set_seeds(params.seed)
    model = build_model(
        model_params.arch, (1, 28, 28), model_params.hidden_units, len(train.class_names), model_params.settings
    )
    place(model, device, model_params.memory_format)
    set_seeds(params.seed)
    start = time.perf_counter()
    training = Training(model, model_params, train, test)
    losses = [loss for epoch in training.run() for loss in (epoch.train_loss, epoch.test_loss)]
    return {"seconds": time.perf_counter() - start, "losses": losses, "images": epochs * len(train)}


def contiguous_side(name: str, epochs: int, threads: int | None) -> dict[str, Any]:
    return stage_side(name, epochs, threads, memory_format="contiguous")


SIDES = {"lecture": lecture_side, "stage": stage_side, "contiguous": contiguous_side}


def run_side(side: str, name: str, epochs: int, threads: int | None = None, **environment: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.bench", "--side", side, "--model", name, "--epochs", str(epochs)]
    if threads:
        command += ["--threads", str(threads)]
    variables = os.environ | environment
    done = subprocess.run(command, cwd=PROJECT, env=variables, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


# --- the races --------------------------------------------------------------------------------------------------------


def race_models(rounds: int, epochs: int) -> None:
    print(f"{'model':<24}{'lecture s':>20}{'stage s':>20}{'stage images/s':>16}{'ratio':>22}")
    for name in MODELS:
        sides: dict[str, list[dict[str, Any]]] = {"lecture": [], "stage": []}
        for _ in range(rounds):
            for side, results in sides.items():
                results.append(run_side(side, name, epochs))
        lecture, stage = ([result["seconds"] for result in results] for results in sides.values())
        ratios = [slow / fast for slow, fast in zip(lecture, stage, strict=True)]
        speed = sides["stage"][0]["images"] / statistics.median(stage)
        print(f"{name:<24}{spread(lecture):>20}{spread(stage):>20}{speed:>16,.0f}{spread(ratios, 'x'):>22}", flush=True)
        same = sides["stage"][0] if name != "model_2" else run_side("contiguous", name, epochs)
        if same["losses"] != sides["lecture"][0]["losses"]:
            sys.exit(f"{name}: losses differ: {sides['lecture'][0]['losses']} and {same['losses']}")
        seconds = f", contiguous {same['seconds']:.1f} s" if name == "model_2" else ""
        print(f"{'':<24}losses of both sides equal to the last digit{seconds}", flush=True)


def race_pipeline(rounds: int) -> None:
    """Time three plain trainings, each a process of its own, against everything `dvc repro` does after prepare."""
    lecture, pipeline = [], []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            start = time.perf_counter()
            for name in MODELS:
                run_side("lecture", name, 3)
            lecture.append(time.perf_counter() - start)
            project = Path(folder) / "project"
            shutil.rmtree(project, ignore_errors=True)
            subprocess.run(["git", "clone", "--quiet", PROJECT, project], check=True)
            shutil.copytree(PROJECT / "data/raw", project / "data/raw")
            stages = ["prepare", *(f"train_{name}" for name in MODELS), "evaluate", "compare", "confusion"]
            dvc = [sys.executable, "-m", "dvc", "repro", "--quiet", "--force", "--single-item", *stages]
            start = time.perf_counter()
            subprocess.run(dvc, cwd=project, check=True, stdout=subprocess.DEVNULL)
            pipeline.append(time.perf_counter() - start)
    ratios = [slow / fast for slow, fast in zip(lecture, pipeline, strict=True)]
    print(f"\nthe whole, 3 epochs: three plain trainings {spread(lecture)} s, dvc repro from prepare to the pictures")
    print(f"{spread(pipeline)} s: {spread(ratios, 'x')}", flush=True)


def busy_machine(most: int) -> None:
    """Time one epoch beside as many spinning processes as there are CPUs, and without; of model_2 one round only."""
    from stages.lib.base.params import load_params

    params = load_params()
    cpus = os.cpu_count() or 1
    print(f"\n{f'one epoch beside {cpus} busy processes':<47}{'idle s':>20}{'busy s':>24}")
    for name, rounds in (("model_1", most), ("model_2", 1)):
        for label, (side, threads, setting) in WAITING.items():
            times: dict[bool, list[float]] = {False: [], True: []}
            for _ in range(rounds):
                for busy, seconds in times.items():
                    burners = [
                        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cpus) if busy
                    ]
                    try:
                        seconds.append(run_side(side, name, 1, threads, **setting)["seconds"])
                    finally:
                        for burner in burners:
                            burner.kill()
                            burner.wait()
            as_stage = side == "stage" and threads == params.threads(name) and not setting
            chosen = ", as its stage" if as_stage else ""
            print(f"{f'{name}, {label}{chosen}':<47}{spread(times[False]):>20}{spread(times[True]):>24}", flush=True)


def arithmetic_limit() -> None:
    import torch

    from stages.lib.base.params import load_params
    from stages.lib.learning.layers import trace_layers
    from stages.lib.learning.models import build_model

    params = load_params()
    model_params = params.model("model_2")
    torch.set_num_threads(params.threads("model_2"))
    size = 2048
    a, b = torch.randn(size, size), torch.randn(size, size)
    times = []
    for _ in range(10):
        start = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - start)
    peak = 2 * size**3 / min(times) / 1e9
    layers = trace_layers(
        build_model(model_params.arch, (1, 28, 28), model_params.hidden_units, 10, model_params.settings), (1, 28, 28)
    )
    # Forward, gradient of the inputs, gradient of the weights; the first layer needs no gradient of its inputs.
    multiply_adds = 3 * sum(layer.multiply_adds for layer in layers) - layers[0].multiply_adds
    epoch = statistics.median(run_side("stage", "model_2", 1)["seconds"] for _ in range(3))
    reached = 2 * multiply_adds * 60_000 / epoch / 1e9
    print(f"\na {size} x {size} matrix product reaches {peak:.0f} GFLOP/s with {params.threads('model_2')} threads;")
    print(f"training model_2 {reached:.0f} GFLOP/s, {reached / peak * 100:.0f} % of it ({epoch:.1f} s an epoch)")


# --- small things -----------------------------------------------------------------------------------------------------


def spread(values: list[float], unit: str = "") -> str:
    return f"{statistics.median(values):.1f}{unit} ({min(values):.1f} to {max(values):.1f})"


def unpack_raw(root: Path) -> None:
    """Unpack the raw files below `root`, where torchvision looks for them."""
    folder = root / "FashionMNIST/raw"
    folder.mkdir(parents=True)
    for packed in (PROJECT / "data/raw").glob("*.gz"):
        (folder / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))


def processor() -> str:
    names = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return names[0] if names else platform.processor()


def commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Race the stages against the lecture.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--side", choices=["lecture", "stage", "contiguous"], help=argparse.SUPPRESS)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
