"""Several processes compute the same training as one."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import torch

from stages.lib.learning.distributed import ALONE, World, join_world

ROOT = Path(__file__).parents[2]


def test_the_slices_of_all_processes_are_the_batch() -> None:
    index_B = torch.randperm(33)
    slices = [World(rank, 4).share_of(index_B) for rank in range(4)]
    assert torch.equal(torch.cat(slices), index_B)


def test_slices_differ_by_one_image_at_most() -> None:
    sizes = {len(World(rank, 4).share_of(torch.arange(33))) for rank in range(4)}
    assert sizes == {8, 9}


def test_a_process_alone_takes_the_whole_batch() -> None:
    index_B = torch.arange(7)
    assert World().share_of(index_B) is index_B


@pytest.mark.parametrize("variable", ["RANK", "WORLD_SIZE"])
def test_one_variable_of_a_cluster_is_no_company(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "1")
    with join_world(torch.device("cpu")) as world:
        assert world == ALONE


SetParams = Callable[[dict[str, Any]], None]
TRAIN = [sys.executable, "-m", "stages.train"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "stages.train"]
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def figures_of(workspace: Path, model: str) -> dict[str, float]:
    figures: dict[str, float] = json.loads((workspace / f"metrics/train/{model}.json").read_text())
    return figures


@pytest.fixture
def train(prepared: Path, set_params: SetParams) -> Callable[..., dict[str, float]]:
    """`train("model_0", processes=2)` trains on 330 images, whose last batch has 10, and gives the figures."""

    def run(model: str, processes: int, **hyperparameters: int) -> dict[str, float]:
        changes = {f"{model}.{key}": value for key, value in hyperparameters.items()}
        set_params({"train.processes": processes, **changes})
        subprocess.run([*TRAIN, model], env=ENVIRONMENT, check=True, timeout=300)
        return figures_of(prepared, model)

    return run


@pytest.mark.slow
@pytest.mark.parametrize("model", ["model_0", "model_2"])
def test_two_processes_compute_the_training_of_one(train: Callable[..., dict[str, float]], model: str) -> None:
    one, two = train(model, processes=1), train(model, processes=2)
    for key in ("train_loss", "test_loss"):
        assert two[key] == pytest.approx(one[key], abs=1e-4)
    for key in ("train_acc", "test_acc"):
        assert two[key] == pytest.approx(one[key], abs=0.3)


@pytest.mark.slow
def test_torchrun_computes_the_same_as_the_parameter(train: Callable[..., dict[str, float]], prepared: Path) -> None:
    by_parameter = train("model_2", processes=2)
    (prepared / "metrics/train/model_2.json").unlink()
    subprocess.run([*TORCHRUN, "model_2"], env=ENVIRONMENT, check=True, timeout=300)
    assert figures_of(prepared, "model_2") == by_parameter


@pytest.mark.slow
def test_more_processes_than_images_in_the_last_batch_do_no_harm(train: Callable[..., dict[str, float]]) -> None:
    one, three = (train("model_0", processes, batch_size=47) for processes in (1, 3))  # 330 = 7 * 47 + 1
    assert three["train_loss"] == pytest.approx(one["train_loss"], abs=1e-4)


# --- how several processes end ----------------------------------------------------------------------------------------


@pytest.fixture
def fails(prepared: Path, set_params: SetParams) -> Callable[..., CompletedProcess[str]]:
    """`fails({"model_0.lr": 1000})` trains model_0 on two processes, which must not end well."""

    def run(changes: dict[str, Any]) -> CompletedProcess[str]:
        set_params({"train.processes": 2, **changes})
        done = subprocess.run([*TRAIN, "model_0"], env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
        assert done.returncode == 1
        return done

    return run


@pytest.mark.slow
def test_a_training_that_diverges_on_two_processes_is_one_line(fails: Callable[..., CompletedProcess[str]]) -> None:
    (line,) = fails({"model_0.lr": 1000}).stderr.splitlines()
    assert re.fullmatch("train: the loss is .* with lr = 1000; training has diverged: try a smaller lr", line)


@pytest.mark.slow
def test_missing_images_are_one_line_from_two_processes(
    fails: Callable[..., CompletedProcess[str]], prepared: Path
) -> None:
    (prepared / "data/prepared/train.safetensors").unlink()
    (line,) = fails({}).stderr.splitlines()
    assert "data/prepared/train.safetensors" in line


@pytest.fixture
def long_training(prepared: Path, set_params: SetParams) -> Iterator[subprocess.Popen[str]]:
    """Two processes, and the one that started them, in the midst of a training that would take hours."""
    set_params({"train.processes": 2, "model_0.epochs": 1000, "model_0.batch_size": 1})
    process = subprocess.Popen(
        [*TRAIN, "model_0"],
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
def test_ctrl_c_ends_all_processes_with_one_line(
    long_training: subprocess.Popen[str], group_lives: Callable[[int], bool]
) -> None:
    os.killpg(long_training.pid, signal.SIGINT)
    _, stderr = long_training.communicate(timeout=60)
    assert long_training.returncode == 130
    assert stderr.split("\n") == ["", "train: interrupted; nothing half-written is left behind", ""]
    assert not group_lives(long_training.pid)


@pytest.mark.slow
def test_when_one_process_is_killed_the_others_end_and_a_line_says_so(
    long_training: subprocess.Popen[str], group_lives: Callable[[int], bool]
) -> None:
    children = Path(f"/proc/{long_training.pid}/task/{long_training.pid}/children").read_text().split()
    trainers = [child for child in map(int, children) if b"resource_tracker" not in command_line(child)]
    os.kill(trainers[1], signal.SIGKILL)
    _, stderr = long_training.communicate(timeout=60)
    assert long_training.returncode == 1
    # Python's own resource tracker may add that the killed process left a semaphore, which it removes.
    assert stderr.splitlines()[0] == "train: process 1 of 2 ended by SIGKILL; was memory short? Run it again"
    assert "Traceback" not in stderr
    assert not group_lives(long_training.pid)


def command_line(process: int) -> bytes:
    return Path(f"/proc/{process}/cmdline").read_bytes()
