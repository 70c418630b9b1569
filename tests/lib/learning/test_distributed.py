"""Several processes compute the same training as one."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from stages.lib.base.files import read_json
from stages.lib.data.datasets import Split
from stages.lib.learning.distributed import SINGLE_PROCESS, join_world, start_processes
from stages.lib.learning.training import Training
from tests.helpers import PROJECT, MakeSplit, SetParams, model_params, refusal, run_process

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "stages.train"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}

Train = Callable[..., dict[str, float]]


@pytest.mark.parametrize(
    "variables",
    [
        {"RANK": "1"},
        {"WORLD_SIZE": "1"},
        {"RANK": "1", "WORLD_SIZE": "2"},
        {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"},
        {"RANK": "", "WORLD_SIZE": "", "MASTER_ADDR": "", "MASTER_PORT": ""},
    ],
    ids=" ".join,
)
def test_some_variables_of_a_cluster(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with join_world(torch.device("cpu")) as world:
        assert world == SINGLE_PROCESS


@pytest.mark.parametrize(
    ("rank", "size", "port"), [("one", "2", "29500"), ("2", "2", "29500"), ("-1", "2", "29500"), ("0", "1", "a port")]
)
def test_variables_that_make_no_sense(monkeypatch: pytest.MonkeyPatch, rank: str, size: str, port: str) -> None:
    for name, value in {"RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "localhost", "MASTER_PORT": port}.items():
        monkeypatch.setenv(name, value)
    line = refusal(join_world(torch.device("cpu")).__enter__)
    assert all(words in line for words in ("RANK", rank, "WORLD_SIZE", size, "unset"))


@pytest.fixture
def train(prepared: Path, set_params: SetParams) -> Train:
    """`train("model_0", processes=2)` trains on 330 images, whose last batch has 10, and gives the metrics."""

    def run(model: str, processes: int, **hyperparameters: int) -> dict[str, float]:
        changes = {f"{model}.{key}": value for key, value in hyperparameters.items()}
        set_params({"train.processes": processes, **changes})
        done = run_process("train", model, OMP_NUM_THREADS="1")
        assert done.returncode == 0, done.stderr
        return read_json(prepared / f"metrics/train/{model}.json")

    return run


@pytest.mark.slow
def test_two_processes(train: Train, prepared: Path) -> None:
    """By the parameter and by torchrun the same, and nearly what one process gives."""
    one, two = train("model_2", processes=1), train("model_2", processes=2)
    for key in ("train_loss", "test_loss"):
        assert two[key] == pytest.approx(one[key], abs=1e-4)
    for key in ("train_acc", "test_acc"):
        assert two[key] == pytest.approx(one[key], abs=0.3)

    metrics = prepared / "metrics/train/model_2.json"
    metrics.unlink()
    # torchrun leaves a folder of logs behind
    subprocess.run([*TORCHRUN, "model_2"], env=ENVIRONMENT | {"TMPDIR": str(prepared)}, check=True, timeout=300)
    assert read_json(metrics) == two


def network() -> nn.Sequential:
    """Return a network that draws in training, and whose statistics each process has of its own slices."""
    convolution: list[nn.Module] = [nn.Conv2d(1, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5)]
    return nn.Sequential(*convolution, nn.Flatten(), nn.Linear(4 * 13 * 13, 10))


def record(folder: Path, split: Split) -> None:
    """Train as one of several processes; write what each epoch showed it, its metrics, and the first mask it drew."""
    torch.set_num_threads(1)
    with join_world(torch.device("cpu")) as world:
        torch.manual_seed(42)
        model, masks, shown = network(), list[Tensor](), list[Tensor]()
        model[3].register_forward_hook(lambda _, inputs, output: masks.append((output == 0) & (inputs[0] > 0)))
        training = Training(model, model_params(patience=2), split, split, world=world)
        model.register_forward_pre_hook(
            lambda _, images: shown.append(images[0].sum((1, 2, 3))) if model.training else None
        )
        epochs = []
        for epoch in training.run():
            epochs.append((epoch, torch.cat(shown)))
            shown.clear()
        torch.save((epochs, masks[0][:3]), folder / f"{world.rank}")


@pytest.mark.slow
def test_network_that_draws(tmp_path: Path, make_split: MakeSplit) -> None:
    """On slices of unequal size: each image is shown once in each epoch, and all processes go by the same metrics."""
    split = make_split(100)
    start_processes(3, partial(record, tmp_path, split))
    ranks = [torch.load(tmp_path / f"{rank}", weights_only=False) for rank in range(3)]
    everything = (split.images_NCHW / 255).sum((1, 2, 3)).sort().values
    for epochs in zip(*(epochs for epochs, _ in ranks), strict=True):
        shown = torch.cat([images for _, images in epochs])
        assert torch.equal(shown.sort().values, everything)
        assert epochs[0][0] == epochs[1][0] == epochs[2][0]
    first, second, _ = (mask for _, mask in ranks)
    assert not torch.equal(first, second)


@pytest.mark.slow
def test_more_processes_than_images(train: Train) -> None:
    one, three = (train("model_0", processes, batch_size=47) for processes in (1, 3))  # 330 = 7 * 47 + 1
    assert three["train_loss"] == pytest.approx(one["train_loss"], abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("missing", [False, True])
def test_error_of_two_processes_is_one_line(prepared: Path, set_params: SetParams, missing: bool) -> None:
    set_params({"train.processes": 2, "model_0.lr": 1000})
    if missing:
        (prepared / "data/prepared/train.safetensors").unlink()
    done = run_process("train", "model_0", OMP_NUM_THREADS="1")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert ("data/prepared/train.safetensors is missing" if missing else "lr = 1000; training has diverged") in line


@pytest.fixture
def long_training(prepared: Path, set_params: SetParams) -> Iterator[subprocess.Popen[str]]:
    """Two processes, and the one that started them, in the midst of a training that would take hours."""
    set_params({"train.processes": 2, "model_0.epochs": 1000, "model_0.batch_size": 1})
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.train", "model_0"],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # as from a terminal: Ctrl-C reaches every process of the group
    )
    assert process.stdout is not None
    while not process.stdout.readline().startswith("Epoch: 1 "):
        assert process.poll() is None
    yield process
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.slow
def test_ctrl_c(
    long_training: subprocess.Popen[str], group_lives: Callable[[int], bool], survived: Callable[[str], None]
) -> None:
    os.killpg(long_training.pid, signal.SIGINT)
    _, stderr = long_training.communicate(timeout=300)
    assert long_training.returncode == 130
    empty, line = stderr.splitlines()
    assert (empty, "interrupted" in line) == ("", True)
    assert not group_lives(long_training.pid)
    survived("Ctrl-C in a training of several processes")


@pytest.mark.slow
def test_one_process_is_killed(
    long_training: subprocess.Popen[str], group_lives: Callable[[int], bool], survived: Callable[[str], None]
) -> None:
    children = Path(f"/proc/{long_training.pid}/task/{long_training.pid}/children").read_text().split()
    trainers = [child for child in children if b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes()]
    os.kill(int(trainers[1]), signal.SIGKILL)
    _, stderr = long_training.communicate(timeout=300)
    assert long_training.returncode == 1
    # Python's own resource tracker may add that the killed process left a semaphore, which it removes.
    assert stderr.splitlines()[0].startswith("train: process 1 of 2 ended by SIGKILL")
    assert "Traceback" not in stderr
    assert not group_lives(long_training.pid)
    survived("kill -9 of one of several processes")
