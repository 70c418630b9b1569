"""`make studies`: which models there are, which trainings have changed, as many at once as there are CPUs."""

import json
from pathlib import Path

import pytest

from stages.commands import studies
from stages.commands.state import is_of_older_code
from stages.lib.base.params import load_params
from tests.helpers import SetParams, refusal


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The commands that DVC would have got."""
    found: list[tuple[str, ...]] = []

    def dvc(*arguments: str) -> int:
        found.append(arguments)
        return 0

    monkeypatch.setattr(studies, "dvc", dvc)
    return found


def test_models_follow_params(workspace: Path, set_params: SetParams) -> None:
    set_params({"model_1.arch": "mlp_hidden"})
    studies.write_models(load_params())
    written = Path("studies/models.yaml").read_text()
    assert "- {name: model_1, arch: mlp_hidden}\n- {name: model_2, arch: tiny_vgg}\n" in written


def test_models_are_written_when_they_change(workspace: Path, set_params: SetParams) -> None:
    studies.write_models(load_params())
    before = Path("studies/models.yaml").stat().st_mtime_ns
    set_params({"model_1.lr": 0.5})
    studies.write_models(load_params())
    assert Path("studies/models.yaml").stat().st_mtime_ns == before


def test_each_cell_is_trained_once(calls: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studies, "cpus", lambda: 3)
    cells = [f"studies/seeds/dvc.yaml:cell@model0-{seed:02}" for seed in range(50)]
    assert studies.train_cells(cells) == 0
    assert {len(call[3:]) for call in calls} == {3, 2}
    assert sorted(cell for call in calls for cell in call[3:]) == cells


def test_a_long_training_keeps_no_other_waiting(calls: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studies, "cpus", lambda: 2)
    studies.train_cells(["long", "short", "short", "short"])
    assert all(len(call[3:]) == 1 for call in calls)


@pytest.mark.parametrize(("cpus", "cells"), [(1, ["a", "b"]), (4, ["a"]), (4, [])])
def test_nothing_to_share(
    cpus: int, cells: list[str], calls: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studies, "cpus", lambda: cpus)
    assert (studies.train_cells(cells), calls) == (0, [])


def test_only_trainings_are_dealt_out(monkeypatch: pytest.MonkeyPatch) -> None:
    status: dict[str, list[str]] = {"studies/relu/dvc.yaml:cell@mlp-42": [], "studies/relu/dvc.yaml:results": []}
    monkeypatch.setattr(studies, "dvc_status", lambda *_: status)
    assert studies.changed_cells(["studies/relu/dvc.yaml"]) == ["studies/relu/dvc.yaml:cell@mlp-42"]


def test_unknown_study(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["studies", "sead"])
    line = refusal(studies.parse_pipelines)
    assert "sead" in line
    assert "data_size, frontier, relu, seeds" in line


@pytest.mark.parametrize(("code", "older"), [("a1", False), ("b2", True)])
def test_code_of_the_study_is_older(workspace: Path, code: str, older: bool) -> None:
    """Of code that was edited since, make run and the report would show old figures beside the new models."""
    for folder, stage, md5 in ((workspace, "train_model_0", code), (workspace / "studies/seeds", "cell", "a1")):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "dvc.yaml").write_text(f"stages: {{{stage}: {{}}}}\n")
        deps = [{"path": "stages/lib/learning", "md5": md5}, {"path": "data/prepared", "md5": md5}]
        stages = {f"{stage}@0" if stage == "cell" else stage: {"deps": deps}}
        (folder / "dvc.lock").write_text(json.dumps({"stages": stages}) + "\n")
    assert is_of_older_code(Path("studies/seeds")) is older
