"""What is edited while a stage runs is never recorded as what its result was made from."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.helpers import SetParams, Shell, start

pytestmark = pytest.mark.slow
Training = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def training(project: Path, environment: dict[str, str], set_params: SetParams) -> Iterator[Training]:
    """`training("dvc repro ...")` starts 300 epochs of model_0, about three seconds, and returns after the first."""
    started: list[subprocess.Popen[str]] = []

    def begin(command: str, epochs: int = 300, **variables: str) -> "subprocess.Popen[str]":
        set_params({"model_0.epochs": epochs})
        process = start(command, environment | variables, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None
        assert any("Epoch: 1 " in line for line in process.stdout)
        return process

    yield begin
    for process in started:
        process.communicate()


def the_rest(process: "subprocess.Popen[str]") -> str:
    """Wait until nobody writes to the process's output any more: the process and all that it started have ended."""
    assert process.stdout is not None
    return process.stdout.read()


def is_training(process: psutil.Process) -> bool:
    """Tell the training from the shell that DVC starts it in, which may stay above it."""
    return "stages.train" in process.cmdline()


def test_code_edited(training: Training, survived: Callable[[str], None]) -> None:
    process = training("dvc repro --single-item train_model_0")
    with Path("stages/architectures/linear.py").open("a") as file:
        file.write("# another comment\n")
    assert "linear.py" in the_rest(process)
    assert not Path("models/model_0.safetensors").exists()
    survived("edit during a training")


def test_second_experiment_during_the_first(
    training: Training, shell: Shell, set_params: SetParams, survived: Callable[[str], None]
) -> None:
    process = training("dvc exp run -S model_0.lr=0.05 train_model_0")
    (trainer,) = [child for child in psutil.Process(process.pid).children(recursive=True) if is_training(child)]
    trainer.suspend()  # however long the second takes to find that the first is still running
    shell("dvc exp run -S model_0.lr=0.0001 train_model_0", status=255)
    set_params({"model_0.lr": 0.0001})  # which it mostly has done, before it asked whether it may run
    trainer.resume()
    assert "model_0 in params.yaml" in the_rest(process)
    assert "0.0001" not in Path("dvc.lock").read_text()
    survived("edit during a training")


@pytest.mark.parametrize("shell_of_dvc", ["sh", "bash"])
def test_dvc_killed_alone(training: Training, survived: Callable[[str], None], shell_of_dvc: str) -> None:
    """Some shells stay between DVC and its stage, others make room for it."""
    process = training("dvc repro --single-item train_model_0", epochs=5000, SHELL=f"/bin/{shell_of_dvc}")
    os.kill(process.pid, signal.SIGKILL)
    assert "Epoch: 5000" not in the_rest(process)
    assert not Path("models/model_0.safetensors").exists()
    survived("kill -9 of DVC alone")
