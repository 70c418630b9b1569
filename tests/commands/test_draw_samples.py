"""The pictures in docs/samples: what the command draws, and what predict makes of them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.commands.draw_samples import SAMPLES, picture
from stages.lib.photos import read_garment
from tests.helpers import PROJECT, RunStage

FILES = PROJECT / "docs/samples"


@pytest.mark.parametrize("name", SAMPLES)
def test_committed_pictures(name: str) -> None:
    with Image.open(FILES / name) as committed:
        drawn, kept = (np.asarray(each.convert("RGB")).astype(int) for each in (picture(SAMPLES[name]), committed))
    assert np.abs(drawn - kept).max() <= 1  # a sine may round another way on another machine


def test_no_others_and_small() -> None:
    assert {path.name for path in FILES.iterdir()} == set(SAMPLES)
    assert sum(path.stat().st_size for path in FILES.iterdir()) < 100_000


def test_written_below_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_stage: RunStage) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_stage("commands.draw_samples").returncode == 0
    assert {path.name for path in Path("docs/samples").iterdir()} == set(SAMPLES)


@pytest.mark.parametrize("name", SAMPLES)
def test_doubts(name: str) -> None:
    assert bool(read_garment(FILES / name).doubts) == SAMPLES[name].on_cloth
