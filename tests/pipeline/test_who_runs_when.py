"""Who runs when: after an edit, the stages that depend on it run, and no others.

That a new model leaves the others alone is in test_add_a_model.py.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

Shell = Callable[..., str]
SetParams = Callable[[dict[str, Any]], None]
StagesRun = Callable[[str], list[str]]


@pytest.fixture(scope="module")
def with_another_lr(
    copy_project: Callable[[], Path], shell: Shell, set_params: SetParams, stages_run: StagesRun
) -> tuple[Path, list[str]]:
    """A project after an edit of `model_1.lr` and `dvc repro`, and the stages that ran."""
    folder = copy_project()
    before = Path.cwd()
    os.chdir(folder)
    try:
        set_params({"model_1.lr": 0.01})
        return folder, stages_run(shell("dvc repro"))
    finally:
        os.chdir(before)


def test_without_an_edit_nothing_runs(project: Path, shell: Shell, stages_run: StagesRun) -> None:
    output = shell("dvc repro")
    assert stages_run(output) == []
    assert "Data and pipelines are up to date." in output
    assert shell("git status --short") == ""


def test_a_learning_rate_runs_its_own_training_and_what_follows(
    with_another_lr: tuple[Path, list[str]], reproduced: Path
) -> None:
    folder, ran = with_another_lr
    assert ran == ["train_model_1", "evaluate", "compare"]
    # ... and not confusion, for the winner is the same.
    assert (folder / "metrics/best.json").read_bytes() == (reproduced / "metrics/best.json").read_bytes()
    assert (folder / "metrics/eval/model_1.json").read_bytes() != (
        reproduced / "metrics/eval/model_1.json"
    ).read_bytes()


def test_a_learning_rate_set_back_trains_nothing_and_brings_everything_back(
    with_another_lr: tuple[Path, list[str]],
    reproduced: Path,
    monkeypatch: pytest.MonkeyPatch,
    shell: Shell,
    stages_run: StagesRun,
) -> None:
    folder, _ = with_another_lr
    monkeypatch.chdir(folder)
    shell("git checkout params.yaml")
    output = shell("dvc repro")
    assert stages_run(output) == []
    assert output.count("is cached - skipping run, checking out outputs") == 3
    assert shell("git status --short") == ""
    assert Path("models/model_1.safetensors").read_bytes() == (reproduced / "models/model_1.safetensors").read_bytes()


def test_the_number_of_pictures_runs_the_stage_that_draws_them(
    project: Path, shell: Shell, set_params: SetParams, stages_run: StagesRun
) -> None:
    set_params({"confusion.samples": 4})
    assert stages_run(shell("dvc repro")) == ["confusion"]


def test_a_comment_in_an_architecture_runs_its_training_evaluation_and_comparison(
    project: Path, shell: Shell, stages_run: StagesRun
) -> None:
    with Path("stages/architectures/tiny_vgg.py").open("a") as file:
        file.write("# a comment\n")
    # The figures are the same, the times are not, and the comparison shows both.
    assert stages_run(shell("dvc repro")) == ["train_model_2", "evaluate", "compare"]
    assert shell("git status --short").split() == [
        *("M", "dvc.lock"),
        *("M", "metrics/timing/inference.json"),
        *("M", "metrics/timing/model_2.json"),
        *("M", "metrics/timing/speed.png"),
        *("M", "stages/architectures/tiny_vgg.py"),
    ]


def test_another_architecture_runs_the_training_of_its_model_and_what_follows(
    project: Path, reproduced: Path, shell: Shell, set_params: SetParams, stages_run: StagesRun
) -> None:
    set_params({"model_2.arch": "mlp"})
    ran = stages_run(shell("dvc repro"))
    same_winner = Path("metrics/best.json").read_bytes() == (reproduced / "metrics/best.json").read_bytes()
    assert ran == ["train_model_2", "evaluate", "compare"] + ([] if same_winner else ["confusion"])


def test_another_winner_is_looked_at_anew(
    project: Path, shell: Shell, set_params: SetParams, stages_run: StagesRun
) -> None:
    assert '"model": "model_0"' in Path("metrics/best.json").read_text()
    set_params({"model_0.lr": 0.0001, "model_0.epochs": 1})
    assert stages_run(shell("dvc repro")) == ["train_model_0", "evaluate", "compare", "confusion"]
    assert '"model": "model_0"' not in Path("metrics/best.json").read_text()
