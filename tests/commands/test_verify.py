"""`make verify` on a project of one small stage: the same results, nearly the same, and changed ones."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from stages.commands.verify import APART, CHANGED, WITHIN, judge

# Its figures are a factor off when OFF says so; the factor is a fault of the machine that DVC does not know of.
STAGE = """
import json, os
import numpy as np
from pathlib import Path
from safetensors.numpy import save_file

off = 1 + float(os.environ.get("OFF", "0"))
Path("metrics/timing").mkdir(parents=True, exist_ok=True)
Path("metrics/a.json").write_text(json.dumps({"name": "a", "accuracies": [80 * off, 90.0], "best": True}))
Path("curve.csv").write_text(f"epoch,loss\\n1,{0.5 * off}\\n2,nan\\n")
Path("picture.png").write_bytes(b"PNG" + os.environ.get("PICTURE", "").encode())
Path("metrics/timing/a.json").write_text(json.dumps({"device": os.environ.get("DEVICE", "cpu"), "seconds": off}))
save_file({"weights": np.full((20, 20), off, np.float32)}, "weights.safetensors")
"""
PIPELINE = """
stages:
  make:
    cmd: python make.py
    deps: [make.py]
    outs:
      - weights.safetensors
      - metrics/a.json: {cache: false}
      - metrics/timing/a.json: {cache: false}
      - curve.csv: {cache: false}
      - picture.png: {cache: false}
"""


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with its results committed. Not to be changed."""
    folder = tmp_path_factory.mktemp("verify") / "project"
    folder.mkdir()
    (folder / "make.py").write_text(STAGE)
    (folder / "dvc.yaml").write_text(PIPELINE.replace("python", sys.executable))
    identity = ["-c", "user.name=Tester", "-c", "user.email=tester@example.com"]
    for command in (
        ["git", "init", "--quiet"],
        [sys.executable, "-m", "dvc", "init", "--quiet"],
        [sys.executable, "-m", "dvc", "repro", "--quiet"],
        ["git", "add", "--all"],
        ["git", *identity, "commit", "--quiet", "--message=Results"],
    ):
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return folder


@pytest.fixture
def verify(
    committed: Path, monkeypatch: pytest.MonkeyPatch, run_stage: Callable[..., CompletedProcess[str]]
) -> Callable[..., CompletedProcess[str]]:
    """`verify(OFF="0.1")` verifies the committed results on a machine with that fault."""

    def run(**faults: str) -> CompletedProcess[str]:
        monkeypatch.chdir(committed)
        for name, value in faults.items():
            monkeypatch.setenv(name, value)
        return run_stage("verify")

    return run


def results(output: str) -> dict[str, str]:
    """What the table says of each output."""
    lines = [line.split("  ", 1) for line in output.splitlines() if "  " in line]
    return {path: result.strip() for path, result in lines if path != "output"}


def test_the_same_machine_gives_the_same_bytes(verify: Callable[..., CompletedProcess[str]]) -> None:
    done = verify()
    assert done.returncode == 0
    assert results(done.stdout).pop("metrics/timing/a.json") == APART
    assert "4 of 4 outputs have the same bytes; worst: same bytes" in done.stdout
    assert done.stdout.endswith("device, processes, threads, torch and CPU capability are those of the committed run\n")


def test_another_processor_gives_figures_within_tolerance_and_by_how_much(
    verify: Callable[..., CompletedProcess[str]],
) -> None:
    done = verify(OFF="0.001", DEVICE="cuda")
    assert done.returncode == 2
    assert results(done.stdout) == {
        "curve.csv": "within tolerance: 1 of 6 entries differ, numbers by up to 0.001",
        "metrics/a.json": "within tolerance: 1 of 7 entries differ, numbers by up to 0.001",
        "metrics/timing/a.json": "timing, not compared",
        "picture.png": "same bytes",
        "weights.safetensors": "within tolerance: 400 of 400 entries differ, numbers by up to 0.001",
    }
    assert done.stdout.endswith("metrics/timing/a.json: device was cpu, is cuda\n")


def test_figures_that_are_far_off_have_changed(verify: Callable[..., CompletedProcess[str]]) -> None:
    done = verify(OFF="0.5")
    assert done.returncode == 3
    assert results(done.stdout)["weights.safetensors"].startswith(f"{CHANGED}: 400 of 400 entries differ")


def test_another_picture_has_changed(verify: Callable[..., CompletedProcess[str]]) -> None:
    done = verify(PICTURE="x")
    assert done.returncode == 3
    assert results(done.stdout)["picture.png"] == f"{CHANGED}: a picture or another format"


def test_without_a_repository_there_is_nothing_to_verify(
    workspace: Path, run_stage: Callable[..., CompletedProcess[str]]
) -> None:
    done = run_stage("verify")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "no git repository here" in done.stderr


def test_without_a_committed_run_there_is_nothing_to_verify(
    workspace: Path, run_stage: Callable[..., CompletedProcess[str]]
) -> None:
    subprocess.run(["git", "init", "--quiet"], check=True)
    done = run_stage("verify")
    assert done.returncode == 1
    assert "dvc.lock is not committed: run `dvc repro`" in done.stderr


def test_numbers_a_little_off_are_within_tolerance() -> None:
    assert judge([100.0, 0.5], [101.0, 0.5], figures=True)[0] == WITHIN


def test_numbers_far_off_have_changed() -> None:
    assert judge([100.0, 0.5], [150.0, 0.5], figures=True)[0] == CHANGED


def test_a_few_words_of_a_table_may_differ_and_many_may_not() -> None:
    old = ["Shirt"] + [json.dumps(number) for number in range(39)]
    assert judge(old, ["Coat", *old[1:]], figures=False)[0] == WITHIN
    assert judge(old, ["x"] * 3 + old[3:], figures=False)[0] == CHANGED


def test_another_best_model_is_a_change_however_many_figures_are_the_same() -> None:
    figures = [float(number) for number in range(100)]
    assert judge(["model_2", *figures], ["model_0", *figures], figures=True)[0] == CHANGED


def test_one_figure_that_is_quite_another_is_a_change_however_many_are_the_same() -> None:
    figures = [float(number) for number in range(100)]
    assert judge([83.0, *figures], [25.0, *figures], figures=True)[0] == CHANGED


def test_a_few_figures_may_be_off_by_more_than_the_rest() -> None:
    figures = [float(number) for number in range(100)]
    assert judge([239.0, *figures], [250.0, *figures], figures=True)[0] == WITHIN
    assert judge([239.0] * 10 + figures, [250.0] * 10 + figures, figures=True)[0] == CHANGED


def test_tiny_probabilities_may_differ_by_powers_of_ten() -> None:
    assert judge([2.3e-107], [1.4e-101], figures=True)[0] == WITHIN
    assert judge([0.03], [0.04], figures=True)[0] == CHANGED
