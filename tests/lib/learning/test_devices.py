"""The device that computes, the layout of weights on it, and the seed."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from stages.lib.learning.devices import pick_device, place, set_seeds
from tests.helpers import refusal


def pretend(monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(cuda))
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)


@pytest.mark.parametrize(
    ("wanted", "cuda", "mps", "picked"),
    [
        ("auto", True, True, "cuda"),
        ("auto", True, False, "cuda"),
        ("auto", False, True, "mps"),
        ("auto", False, False, "cpu"),
        ("cpu", True, False, "cpu"),
    ],
)
def test_device(monkeypatch: pytest.MonkeyPatch, wanted: str, cuda: bool, mps: bool, picked: str) -> None:
    pretend(monkeypatch, cuda, mps)
    assert pick_device(wanted).type == picked


@pytest.mark.parametrize("wanted", ["cuda", "mps"])
def test_missing_device(monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    pretend(monkeypatch, cuda=False, mps=False)
    message = refusal(pick_device, wanted)
    assert message.startswith(f"train.device is {wanted}, ")
    assert "only cpu" in message


def test_more_processes_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, cuda=True, mps=False)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert pick_device("auto") == torch.device("cuda", 0)  # alone, it may be a cluster's
    monkeypatch.setattr("stages.lib.learning.devices.is_distributed", lambda: True)
    assert "train.processes can be 1" in refusal(pick_device, "auto")


def test_gpu_is_exact_and_deterministic(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, cuda=True, mps=False)
    torch.backends.cuda.matmul.allow_tf32 = True  # as an environment variable does
    with torch.backends.cudnn.flags(deterministic=False, allow_tf32=True):
        pick_device("auto")
        assert torch.backends.cudnn.deterministic
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32


def test_mps_takes_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, cuda=False, mps=True)
    monkeypatch.setattr("stages.lib.learning.devices.is_distributed", lambda: True)
    assert "train.processes to 1" in refusal(pick_device, "auto")


def test_seed_is_pytorchs() -> None:
    draws = []
    for seed in (set_seeds, torch.manual_seed):
        seed(42)
        draws.append(torch.randn(5))
    assert torch.equal(*draws)
    set_seeds(43)
    assert not torch.equal(torch.randn(5), draws[0])


def test_seed_of_python_and_numpy() -> None:
    draws = []
    for seed in (42, 42, 43):
        set_seeds(seed)
        draws.append((random.random(), np.random.rand()))  # noqa: NPY002
    assert draws[0] == draws[1]
    assert not set(draws[0]) & set(draws[2])


@pytest.mark.parametrize(
    ("memory_format", "layout"),
    [("contiguous", torch.contiguous_format), ("channels_last", torch.channels_last)],
)
def test_memory_format(memory_format: str, layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 36, 2))
    images = torch.rand(4, 3, 8, 8)
    expected = model(images)
    placed = place(model, torch.device("cpu"), memory_format)
    assert next(placed.parameters()).is_contiguous(memory_format=layout)
    torch.testing.assert_close(placed(images), expected)
