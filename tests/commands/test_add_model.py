"""`make model`: the edits of params.yaml and dvc.yaml, and what is refused."""

import difflib
import re
import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages.lib.base import params
from stages.lib.base.params import load_params
from tests.helpers import PROJECT, RunStage, StageRefusal

FILES = (Path("params.yaml"), Path("dvc.yaml"))


@pytest.fixture
def project(workspace: Path) -> Path:
    """The workspace with the project's own params.yaml and dvc.yaml."""
    for file in FILES:
        shutil.copy(PROJECT / file, file)
    return workspace


def lines_changed(file: Path) -> tuple[list[str], list[str]]:
    """The lines that the project's file has lost and won."""
    difference = list(difflib.ndiff((PROJECT / file).read_text().splitlines(), file.read_text().splitlines()))
    return [line[2:] for line in difference if line[0] == "-"], [line[2:] for line in difference if line[0] == "+"]


def test_lines_are_only_added(project: Path, run_stage: RunStage) -> None:
    assert run_stage("commands.add_model", "model_77", "linear").returncode == 0
    for file in FILES:
        lost, won = lines_changed(file)
        assert lost == []
        assert won


def test_block_of_the_new_model(project: Path, run_stage: RunStage) -> None:
    run_stage("commands.add_model", "model_77", "mlp")
    model = load_params().model("model_77")
    assert (model.arch, model.hidden_units, model.epochs, model.batch_size, model.lr) == ("mlp", 10, 3, 32, 0.1)


def test_stage_of_the_new_model(project: Path, run_stage: RunStage) -> None:
    run_stage("commands.add_model", "model_77", "mlp")
    stages = YAML(typ="safe").load(Path("dvc.yaml"))["stages"]
    old, new = str(stages["train_model_0"]), str(stages["train_model_77"])
    assert new == old.replace("model_0", "model_77")


def test_at_most_three_lines_elsewhere(project: Path, run_stage: RunStage) -> None:
    run_stage("commands.add_model", "model_77", "mlp")
    _, won = lines_changed(Path("dvc.yaml"))
    stage = won.index("  train_model_77:")
    assert len([line for line in won[stage:] if line.startswith("      - models/")]) == 2
    assert len([line for line in won if "${model_77.arch}" in line]) == 2  # of the stage, and of evaluate


def test_second_new_model(project: Path, run_stage: RunStage) -> None:
    for name in ("model_77", "model_78"):
        assert run_stage("commands.add_model", name, "mlp").returncode == 0
    assert list(load_params().models)[-2:] == ["model_77", "model_78"]
    for file in FILES:
        assert "\n\n\n" not in file.read_text()


def test_block_at_the_end(project: Path, run_stage: RunStage) -> None:
    """Where `dvc exp run -S +model_5...` would put it; and the last line has no line end."""
    with Path("params.yaml").open("a") as file:
        file.write("\nmodel_76: {arch: mlp, hidden_units: 5, epochs: 1, batch_size: 8, lr: 0.1}")
    assert run_stage("commands.add_model", "model_77", "mlp").returncode == 0
    assert list(load_params().models)[-2:] == ["model_76", "model_77"]


def test_comment_above_the_next_block(project: Path, run_stage: RunStage) -> None:
    params = Path("params.yaml")
    params.write_text(params.read_text().replace("\nevaluate:", "\n# How test images are read\nevaluate:"))
    run_stage("commands.add_model", "model_77", "mlp")
    assert "\n\n# How test images are read\nevaluate:" in params.read_text()
    assert "# How" not in params.read_text().split("model_77:")[0]


@pytest.mark.usefixtures("write_architecture")
def test_file_that_is_no_module(project: Path, stage_refusal: StageRefusal) -> None:
    (params.ARCHITECTURES / "mlp.v2.py").touch()
    assert "ARCH is one of linear, mlp" in stage_refusal("commands.add_model", "model_77", "mlp.v2")


def test_no_model_yet(project: Path, stage_refusal: StageRefusal) -> None:
    file = Path("params.yaml")
    file.write_text(re.sub(r"(?m)^model_\d+:\n(  .*\n)+", "", file.read_text()))
    assert "params.yaml has no model" in stage_refusal("commands.add_model", "model_77", "mlp")


def test_line_ends_stay(project: Path, run_stage: RunStage) -> None:
    for file in FILES:
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert run_stage("commands.add_model", "model_77", "mlp").returncode == 0
    for file in FILES:
        assert file.read_bytes().count(b"\n") == file.read_bytes().count(b"\r\n")


def test_difference_is_printed(project: Path, run_stage: RunStage) -> None:
    printed = run_stage("commands.add_model", "model_77", "mlp").stdout.splitlines()
    for line in ("+model_77:", "+  train_model_77:", "+      - models/model_77.safetensors"):
        assert line in printed


@pytest.mark.parametrize(
    ("name", "arch", "word"),
    [
        ("model_0", "mlp", "model_0"),
        ("model_77", "no_such", "no_such"),
        ("resnet", "mlp", "'resnet'"),
        ("model_03", "mlp", "'model_03'"),
        ("", "mlp", "NAME"),
        ("model_77", "", "ARCH"),
        ("model_77", "../linear", "../linear"),
    ],
)
def test_refused_without_a_trace(name: str, arch: str, word: str, project: Path, stage_refusal: StageRefusal) -> None:
    assert word in stage_refusal("commands.add_model", name, arch)
