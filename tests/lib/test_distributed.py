"""Several processes compute the same training as one."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from stages.lib.distributed import World

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


@pytest.fixture
def train(prepared: Path, set_params: Callable[[dict[str, Any]], None]) -> Callable[..., dict[str, float]]:
    """`train("model_0", processes=2)` trains on 330 images, whose last batch has 10, and gives the figures."""

    def run(model: str, processes: int, **hyperparameters: int) -> dict[str, float]:
        changes = {f"{model}.{key}": value for key, value in hyperparameters.items()}
        set_params({"train.processes": processes, **changes})
        command = [sys.executable, "-m", "stages.train", model]
        environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        subprocess.run(command, env=environment, check=True, timeout=300)
        figures: dict[str, float] = json.loads((prepared / f"metrics/train/{model}.json").read_text())
        return figures

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
def test_more_processes_than_images_in_the_last_batch_do_no_harm(train: Callable[..., dict[str, float]]) -> None:
    one, three = (train("model_0", processes, batch_size=47) for processes in (1, 3))  # 330 = 7 * 47 + 1
    assert three["train_loss"] == pytest.approx(one["train_loss"], abs=1e-4)
