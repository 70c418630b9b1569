"""DVC's experiments on this pipeline: each command that docs/experiments.md shows, and the way round each trap."""

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers import PROJECT, SetParams, Shell, StagesRun, interrupt, start

pytestmark = pytest.mark.slow

# What `make experiments` runs: of the metrics the models' accuracies, of the parameters those that differ.
MAKEFILE = (PROJECT / "Makefile").read_text()
(SHOW,) = re.findall(r"^\t@(dvc exp show .*)$", MAKEFILE.replace("$(OPTIONS) ", "").replace("$$", "$"), re.M)


@pytest.fixture(scope="module")
def sweep(copy_project: Callable[[], Path], shell: Shell) -> Iterator[tuple[Path, dict[str, str]]]:
    """A project after a queue of two runs and one that fails; the runs' names by their hidden units, "10" and "20".

    Not to be changed.
    """
    folder = copy_project()
    queued = shell("dvc exp run --queue -S model_1.lr=0.01 -S 'model_1.hidden_units=choice(10,20)'", folder=folder)
    names = dict(re.findall(r"'model_1.hidden_units=(\d+)'.*\nQueued .* '(\S+)'", queued))
    shell("dvc exp run --queue --name broken -S model_1.lr=-1", folder=folder)
    shell("dvc queue start -j 2", folder=folder)
    try:
        deadline = time.monotonic() + 600
        while re.search("Queued|Running", shell("dvc queue status", folder=folder)):
            assert time.monotonic() < deadline, "the queue does not get done"
            time.sleep(4)
        yield folder, names
    finally:
        shell("dvc queue stop --kill", folder=folder)  # or idle workers would wait for more work, for some seconds


@pytest.fixture
def swept(
    sweep: tuple[Path, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, dict[str, str]]:
    """The same in a copy of the test's own, the current folder."""
    folder, names = sweep
    copy = shutil.copytree(folder, tmp_path / "project", symlinks=True)
    monkeypatch.chdir(copy)
    return copy, names


def test_queue_of_two_workers(swept: tuple[Path, dict[str, str]], shell: Shell) -> None:
    _, names = swept
    assert set(names) == {"10", "20"}
    states = dict(re.findall(r"^[0-9a-f]{7} +(\S+) .* (\w+)$", shell("dvc queue status"), re.M))
    assert states == dict.fromkeys(names.values(), "Success") | {"broken": "Failed"}
    assert shell("git status --short") == ""


def test_table_of_experiments(swept: tuple[Path, dict[str, str]], shell: Shell) -> None:
    _, names = swept
    header, *rows = [
        line.split()
        for line in shell(f"{SHOW} --sort-by models.model_1.accuracy --sort-order desc").splitlines()
        if "──" not in line or "[" in line
    ]
    assert header == ["Experiment", "State", "models.model_1.accuracy", "model_1.hidden_units", "model_1.lr"]
    runs = {row[2].strip("[]"): row[3:] for row in rows if row[0] in ("├──", "└──")}
    assert set(runs) == {*names.values(), "broken"}
    for units, name in names.items():
        assert runs[name][2:] == [units, "0.01"]
    accuracies = [float(run[1]) for run in runs.values()]
    assert accuracies == sorted(accuracies, reverse=True)


def test_log_of_a_failed_run(swept: tuple[Path, dict[str, str]], shell: Shell) -> None:
    assert "train: params.yaml: model_1.lr is -1" in shell("dvc queue logs broken")
    shell("dvc queue remove --failed")
    assert "broken" not in shell("dvc queue status")


def test_apply(swept: tuple[Path, dict[str, str]], shell: Shell) -> None:
    _, names = swept
    shell(f"dvc exp apply {names['20']}")
    assert "  lr: 0.01\n" in Path("params.yaml").read_text()
    shell("dvc status -q dvc.yaml")
    rows = [line.split() for line in shell("dvc params diff").splitlines()[1:]]
    assert sorted(row[1:] for row in rows) == [["model_1.hidden_units", "10", "20"], ["model_1.lr", "0.1", "0.01"]]
    changed = {line.split()[1] for line in shell("dvc metrics diff --targets metrics/compare.json").splitlines()[1:]}
    assert "models.model_1.accuracy" in changed
    assert not [metric for metric in changed if "model_0" in metric or "model_2" in metric]


def test_way_back_from_apply(swept: tuple[Path, dict[str, str]], shell: Shell) -> None:
    _, names = swept
    with Path("params.yaml").open("a") as file:
        file.write("# not committed\n")
    shell(f"dvc exp apply {names['20']}")
    assert "# not committed" not in Path("params.yaml").read_text()

    shell("git checkout . && git stash apply refs/exps/apply/stash && dvc checkout")
    assert "# not committed" in Path("params.yaml").read_text()
    shell("dvc status -q dvc.yaml")


def test_branch(swept: tuple[Path, dict[str, str]], shell: Shell) -> None:
    _, names = swept
    shell(f"dvc exp branch {names['20']} wider")
    shell("git checkout wider")
    shell("dvc status -q dvc.yaml", status=1)  # git has changed dvc.lock, and the data are still the old ones
    shell("dvc checkout")
    shell("dvc status -q dvc.yaml")
    assert "  hidden_units: 20\n" in Path("params.yaml").read_text()


def test_compare_two(swept: tuple[Path, dict[str, str]], shell: Shell) -> None:
    _, names = swept
    first, second = names["10"], names["20"]
    assert shell(f"dvc params diff {first} {second}").split()[-4:] == [
        "params.yaml",
        "model_1.hidden_units",
        "10",
        "20",
    ]
    figures = shell(f"dvc metrics diff {first} {second} --targets metrics/compare.json")
    assert re.search(r"models\.model_1\.parameters +7960 +15910 +7950", figures)
    both = shell(f"dvc exp diff {first} {second}")
    assert "models.model_1.accuracy" in both
    assert re.search(r"model_1\.hidden_units +10 +20 +10", both)

    shell(f"dvc plots diff {first} {second}")
    page = Path("dvc_plots/index.html").read_text()
    assert first in page
    assert second in page
    assert Path(f"dvc_plots/static/{first}_plots_curves.png").exists()
    assert shell("git status --short") == ""


def test_settings_tried_before(swept: tuple[Path, dict[str, str]], shell: Shell, stages_run: StagesRun) -> None:
    assert stages_run(shell("dvc exp run --temp --name again -S model_1.lr=0.01")) == []
    assert shell("git status --short") == ""
    assert "again" in shell("dvc exp list")


def test_file_unknown_to_git(project: Path, shell: Shell, stages_run: StagesRun) -> None:
    shutil.copy("stages/architectures/mlp.py", "stages/architectures/other.py")
    command = "dvc exp run --temp -S model_1.arch=other train_model_1"
    assert "No such file or directory" in shell(command, status=255)
    shell("git add stages/architectures/other.py")
    assert stages_run(shell(command)) == ["train_model_1"]


def test_key_that_params_lack(project: Path, shell: Shell) -> None:
    hint = shell("dvc exp run -S model_1.memory_format=channels_last fetch", status=255)
    assert "To append to your config use +model_1.memory_format=channels_last" in hint
    shell("dvc exp run -S +model_1.memory_format=channels_last fetch")
    assert shell("dvc params diff").split()[-4:] == ["params.yaml", "model_1.memory_format", "-", "channels_last"]


def test_without_a_name_in_git(project: Path, shell: Shell, set_params: SetParams) -> None:
    shell("git config --remove-section user")
    set_params({"confusion.samples": 4})
    command = "dvc exp run --queue -S model_1.lr=0.01"
    assert "Git user name and email must be configured" in shell(command, status=255)
    shell("git config user.name 'A Student' && git config user.email student@example.com")
    shell(command)


def follow_way_back(printed: str, shell: Shell) -> None:
    """Do what the last line of a stage says, and see that all is as committed."""
    (way_back,) = set(re.findall("`(git checkout [^`]+)`", printed))
    shell(way_back)
    shell("dvc status -q dvc.yaml")
    assert shell("git status --short") == ""


def test_way_back_from_a_failed_experiment(project: Path, shell: Shell) -> None:
    printed = shell("dvc exp run -S model_0.lr=900", status=255)
    assert "diverged" in printed
    assert not Path("models/model_0.safetensors").exists()  # DVC has removed it
    follow_way_back(printed, shell)


def test_way_back_from_a_broken_architecture(project: Path, shell: Shell) -> None:
    with Path("stages/architectures/mlp.py").open("a") as file:
        file.write("\nraise ZeroDivisionError('my mistake')\n")
    printed = shell("dvc repro", status=255)
    assert "my mistake" in printed
    follow_way_back(printed, shell)


def test_way_back_from_an_interrupted_experiment(project: Path, environment: dict[str, str], shell: Shell) -> None:
    with start("dvc exp run -S model_1.epochs=10000", environment, stdout=subprocess.PIPE) as run:
        printed = interrupt(run, at="Epoch: 2 ")
    assert "  epochs: 10000\n" in Path("params.yaml").read_text()
    follow_way_back(printed, shell)


def test_missing_architecture_is_named(project: Path, shell: Shell) -> None:
    assert "stages/architectures/nosuch.py" in shell("dvc exp run -S model_1.arch=nosuch", status=255)
