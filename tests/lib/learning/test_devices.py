"""Where the arithmetic runs."""

import pytest
import torch
from torch import nn

from stages.lib.learning.devices import pick_device, place, set_seeds
from stages.lib.base.errors import UserError


def pretend(monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(cuda))
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)


@pytest.mark.parametrize(
    ("cuda", "mps", "picked"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_takes_the_first_there_is(monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, picked: str) -> None:
    pretend(monkeypatch, cuda, mps)
    assert pick_device("auto").type == picked


def test_the_cpu_can_be_asked_for_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, cuda=True, mps=False)
    assert pick_device("cpu") == torch.device("cpu")


def test_a_process_for_which_there_is_no_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, cuda=True, mps=False)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(UserError, match=r"train\.processes can be 1 at most"):
        pick_device("auto")


def test_a_gpu_computes_in_whole_float32_and_in_the_same_order_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, cuda=True, mps=False)
    with torch.backends.cudnn.flags(deterministic=False, allow_tf32=True):
        pick_device("auto")
        assert torch.backends.cudnn.deterministic
        assert not torch.backends.cudnn.allow_tf32


def test_one_of_several_processes_is_refused_on_mps(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, cuda=False, mps=True)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(UserError, match=r"set train\.processes to 1, or train\.device to cpu"):
        pick_device("auto")


def test_one_variable_of_a_cluster_does_not_keep_a_training_from_mps(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, cuda=False, mps=True)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert pick_device("auto").type == "mps"


@pytest.mark.parametrize("wanted", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(
    monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    pretend(monkeypatch, cuda=False, mps=False)
    with pytest.raises(UserError) as caught:
        pick_device(wanted)
    assert str(caught.value) == f"train.device is {wanted}, but this machine has only cpu; auto picks for you"


def test_a_seed_decides_every_draw_that_follows() -> None:
    set_seeds(42)
    first = torch.randn(5)
    assert not torch.equal(torch.randn(5), first)
    set_seeds(42)
    assert torch.equal(torch.randn(5), first)
    set_seeds(43)
    assert not torch.equal(torch.randn(5), first)


def test_the_seed_is_pytorchs_own_as_in_the_lecture() -> None:
    set_seeds(42)
    drawn = torch.randn(5)
    torch.manual_seed(42)
    assert torch.equal(torch.randn(5), drawn)


@pytest.mark.parametrize(
    ("memory_format", "layout"),
    [("contiguous", torch.contiguous_format), ("channels_last", torch.channels_last)],
)
def test_a_model_is_laid_out_as_asked_and_computes_the_same(memory_format: str, layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 36, 2))
    images = torch.rand(4, 3, 8, 8)
    expected = model(images)
    placed = place(model, torch.device("cpu"), memory_format)
    weights = next(placed.parameters())
    assert weights.is_contiguous(memory_format=layout)
    torch.testing.assert_close(placed(images), expected)
