"""The end of `make experiments`: which rows of DVC's table have figures that are of other parameters than theirs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.commands.test_changes import commit, git, write_results
from tests.helpers import RunStage, set_keys

PIPELINE = """
stages:
  train_model_1: {cmd: 'true', outs: [models/model_1.safetensors]}
  evaluate: {cmd: 'true', deps: [models/model_1.safetensors]}
  confusion: {cmd: 'true'}
"""
Warnings = Callable[..., list[str]]


def write_lock(trained: str, evaluated: str, **params: Any) -> None:
    """Write what DVC records: which model was trained and evaluated, and values that the training read."""
    model = {"path": "models/model_1.safetensors"}
    stages = {
        "train_model_1": {"outs": [model | {"md5": trained}], "params": {"params.yaml": {"seed": 42} | params}},
        "evaluate": {"deps": [model | {"md5": evaluated}]},
        "confusion": {"params": {"params.yaml": {"confusion.seed": 41}}},  # which the table does not show
    }
    Path("dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": stages}) + "\n")


@pytest.fixture
def head(workspace: Path) -> str:
    """A commit whose parameters and figures belong together; the workspace is the same."""
    Path("dvc.yaml").write_text(PIPELINE)
    write_lock("a1", "a1")
    git(workspace, "init", "--quiet")
    return commit(workspace, "Results")


@pytest.fixture
def warnings(head: str, run_stage: RunStage) -> Warnings:
    def run(*options: str) -> list[str]:
        done = run_stage("commands.experiments", *options)
        assert (done.returncode, done.stdout) == (0, "")
        return done.stderr.splitlines()

    return run


def keep_experiment(folder: Path, base: str, name: str) -> None:
    """Commit the workspace as an experiment on top of `base`, as DVC does, and go back."""
    git(folder, "update-ref", f"refs/exps/{base[:2]}/{base[2:]}/{name}", commit(folder, name))
    git(folder, "reset", "--quiet", "--hard", base)


def test_nothing_to_say(workspace: Path, head: str, warnings: Warnings) -> None:
    write_lock("b2", "b2", seed=7)
    set_keys(Path("params.yaml"), {"seed": 7})
    keep_experiment(workspace, head, "whole")
    assert warnings() == []


def test_training_alone(workspace: Path, head: str, warnings: Warnings) -> None:
    for number in range(5):
        write_lock("b2", "a1", seed=number)
        set_keys(Path("params.yaml"), {"seed": number})
        keep_experiment(workspace, head, f"trial-{number}")
    (line,) = warnings()
    assert "trial-0, trial-1, trial-2 and 2 more" in line
    assert line.endswith("evaluate has not run since models/model_1.safetensors was made")


def test_edit_that_nothing_ran_with(warnings: Warnings) -> None:
    set_keys(Path("params.yaml"), {"seed": 7})
    (line,) = warnings()
    assert "workspace:" in line
    assert line.endswith("seed was edited since train_model_1 ran")


def test_experiments_of_other_commits(workspace: Path, head: str, warnings: Warnings) -> None:
    write_lock("b2", "a1")
    keep_experiment(workspace, head, "old")
    (workspace / "notes").touch()
    commit(workspace, "Notes")
    assert warnings() == []
    (line,) = warnings("-A")
    assert "old:" in line


def test_report_against_such_a_commit(workspace: Path, head: str, run_stage: RunStage) -> None:
    """Kept by `dvc exp apply` and a commit, it has the figures of an older training beside its parameters."""
    for evaluated, told in (("a1", True), ("b2", False)):
        write_lock("b2", evaluated)
        write_results(workspace, {"model_1": 750}, "model_1")
        base = commit(workspace, "Kept")
        write_results(workspace, {"model_1": 850}, "model_1")
        text = run_stage("commands.report", "--markdown", base).stdout
        assert ("not of its parameters" in text) is told
        assert ("evaluate has not run since" in text) is told
