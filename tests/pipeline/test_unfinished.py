"""A training that was killed goes on at its last whole epoch, and ends with the bytes of an undisturbed one."""

import random
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers import SetParams, Shell, start

pytestmark = pytest.mark.slow

TRAIN = "python -m stages.train model_0"
KILLS = 5
OUTPUTS = ("models/model_0.safetensors", "metrics/train/model_0.json", "plots/curves/model_0.csv")
RECIPES = {
    "sgd": {
        "arch": "tiny_vgg",
        "momentum": 0.9,
        "nesterov": True,
        "schedule": "onecycle",
        "lr": 0.05,
        "label_smoothing": 0.1,
        "augment": ["flip", "shift", "erase"],
        "ema": 0.99,
        "keep": "best",
    },
    "adam": {"optimizer": "adamw", "lr": 0.003, "weight_decay": 0.1, "schedule": "cosine", "patience": 150},
}


def outputs() -> list[bytes]:
    return [Path(output).read_bytes() for output in OUTPUTS]


@pytest.fixture
def recipe(request: pytest.FixtureRequest, project: Path, shell: Shell, set_params: SetParams) -> None:
    """The project with this recipe for model_0, which trains for some seconds, and validation images."""
    keys = RECIPES[request.param]
    epochs = 25 if "arch" in keys else 200
    set_params({"prepare.validation": 100, "model_0.epochs": epochs} | {f"model_0.{key}": keys[key] for key in keys})
    shell("python -m stages.prepare")


@pytest.mark.parametrize("recipe", RECIPES, indirect=True)
@pytest.mark.usefixtures("recipe")
def test_killed_at_any_moment(shell: Shell, environment: dict[str, str], survived: Callable[..., None]) -> None:
    shell(TRAIN)
    undisturbed = outputs()
    for output in OUTPUTS:
        Path(output).unlink()
    moments, went_on = random.Random(42), 0
    for _ in range(KILLS):
        process = start(TRAIN, environment, stdout=subprocess.PIPE)
        assert process.stdout is not None
        wait_for = moments.randint(1, 4)  # epochs
        for line in process.stdout:
            went_on += "goes on" in line
            wait_for -= line.startswith("Epoch: ")
            if not wait_for:
                break
        process.send_signal(signal.SIGKILL)
        process.communicate()
    printed = shell(TRAIN)
    assert went_on >= KILLS - 1
    assert re.search(r"goes on where it was interrupted, after epoch \d", printed)
    assert outputs() == undisturbed
    assert not Path("models/unfinished/model_0.safetensors").exists()
    survived("kill -9 of a training that goes on later", KILLS)


@pytest.mark.usefixtures("project")
def test_changed_parameter_starts_anew(shell: Shell, environment: dict[str, str], set_params: SetParams) -> None:
    set_params({"model_0.epochs": 300})
    process = start(TRAIN, environment, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert any("Epoch: 2 " in line for line in process.stdout)
    process.kill()
    process.communicate()
    assert Path("models/unfinished/model_0.safetensors").exists()
    assert "\n1," in Path("plots/curves/model_0.csv").read_text()  # the curve is there while the training runs
    set_params({"model_0.epochs": 2})
    printed = shell(TRAIN)
    assert "goes on" not in printed
    assert "Epoch: 1 " in printed
