"""Who runs when: after an edit, the stages that depend on it run, and no others.

That a new model leaves the others alone is in test_add_model.py.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers import SetParams, Shell, StagesRun, set_keys

pytestmark = pytest.mark.slow

DRAW = ["compare", "confusion", "prepare"]
TRAIN = ["train_model_0", "train_model_1", "train_model_2"]


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


def same_winner(reproduced: Path) -> bool:
    return Path("metrics/best.json").read_bytes() == (reproduced / "metrics/best.json").read_bytes()


def add_comment(file: str) -> None:
    code = Path(file).read_text()  # it is there: a new file would be another edit
    Path(file).write_text(f"{code}# a comment\n")


def set_version(library: str) -> None:
    versions = Path("versions.toml")
    versions.write_text(versions.read_text().replace(f"\n{library} = ", f'\n{library} = "0.1" # '))


def test_nothing(project: Path, shell: Shell, stages_run: StagesRun) -> None:
    output = shell("dvc repro")
    assert stages_run(output) == []
    assert "Data and pipelines are up to date." in output
    assert shell("git status --short") == ""


def test_learning_rate(with_another_lr: tuple[Path, list[str]], reproduced: Path) -> None:
    folder, ran = with_another_lr
    assert ran == ["train_model_1", "evaluate", "compare"]
    # ... and not confusion, for the winner is the same.
    for file, same in (("metrics/best.json", True), ("metrics/eval/model_1.json", False)):
        assert ((folder / file).read_bytes() == (reproduced / file).read_bytes()) is same


def test_learning_rate_set_back(
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


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"confusion.samples": 4}, ["confusion"]),
        ({"prepare.seed": 43, "confusion.seed": 43}, ["prepare", "confusion"]),
    ],
    ids=str,
)
@pytest.mark.usefixtures("project")
def test_parameter_of_one_stage(
    changes: dict[str, int], expected: list[str], shell: Shell, set_params: SetParams, stages_run: StagesRun
) -> None:
    set_params(changes)
    assert stages_run(shell("dvc repro")) == expected


def test_comment_in_an_architecture(project: Path, shell: Shell, stages_run: StagesRun) -> None:
    add_comment("stages/architectures/tiny_vgg.py")
    assert stages_run(shell("dvc repro")) == ["train_model_2", "evaluate", "confusion"]
    changed = shell("git status --short").split()
    assert changed == ["M", "dvc.lock", "M", "stages/architectures/tiny_vgg.py"]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["stages/lib/source/idx.py"], ["fetch", "prepare"]),  # what prepare writes stays the same: no training
        (["stages/lib/results/statistics.py"], ["compare"]),
        (["stages/commands/report.py", "stages/lecture/training.py", "stages/predict.py"], []),
    ],
    ids=str,
)
@pytest.mark.usefixtures("project")
def test_comment_in_a_room(files: list[str], expected: list[str], shell: Shell, stages_run: StagesRun) -> None:
    for file in files:
        add_comment(file)
    assert stages_run(shell("dvc repro")) == expected


@pytest.mark.usefixtures("project")
def test_another_library_version(shell: Shell, stages_run: StagesRun) -> None:
    set_version("scipy")
    output = shell("dvc repro")
    assert stages_run(output) == ["compare"]
    assert "warning: scipy is " in output


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda: set_keys(Path("params.yaml"), {"seed": 43}), TRAIN),
        (lambda: add_comment("stages/lib/plots.py"), DRAW),
        (lambda: set_version("matplotlib"), DRAW),
        (lambda: set_version("torch"), ["confusion", "evaluate", "prepare", *TRAIN]),
    ],
    ids=["seed", "pictures", "matplotlib", "torch"],
)
@pytest.mark.usefixtures("project")
def test_starts_at(edit: Callable[[], None], expected: list[str], shell: Shell, stages_run: StagesRun) -> None:
    """What would run first; what follows from its results, other tests see."""
    edit()
    assert sorted(stages_run(shell("dvc repro --dry"))) == expected


def test_another_architecture(
    project: Path, reproduced: Path, shell: Shell, set_params: SetParams, stages_run: StagesRun
) -> None:
    set_params({"model_2.arch": "mlp"})
    ran = stages_run(shell("dvc repro"))
    assert ran == ["train_model_2", "evaluate", "compare"] + ([] if same_winner(reproduced) else ["confusion"])


def test_another_winner(project: Path, shell: Shell, set_params: SetParams, stages_run: StagesRun) -> None:
    assert '"model": "model_0"' in Path("metrics/best.json").read_text()
    set_params({"model_0.lr": 0.0001, "model_0.epochs": 1})
    assert stages_run(shell("dvc repro")) == ["train_model_0", "evaluate", "compare", "confusion"]
    assert '"model": "model_0"' not in Path("metrics/best.json").read_text()
