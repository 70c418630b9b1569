"""What `make run` does around DVC, on a pipeline whose stages take no time."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from hashlib import md5, sha256
from pathlib import Path

import pytest
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from filelock import FileLock
from ruamel.yaml import YAML

from stages.commands import run
from stages.lib.base.errors import UserError
from stages.lib.base.files import read_json, write_json
from stages.lib.base.lock import read_lock
from stages.lib.base.params import load_params
from stages.lib.source.idx_sets import RawFile
from tests.helpers import PROJECT, RunStage, SetParams, StageRefusal, model_params

PIPELINE = """
stages:
  prepare:
    cmd: echo prepared > prepared
    outs: [prepared]
"""
for number in range(3):
    PIPELINE += f"""
  train_model_{number}:
    cmd: echo Epoch 1 of model_{number} && cp prepared models/model_{number}.safetensors
    deps: [prepared]
    outs: [models/model_{number}.safetensors]
"""
PIPELINE += f"""
  evaluate:
    cmd: 'true'
    deps: {[f"models/model_{number}.safetensors" for number in range(3)]}
"""
NOBODY = "http://127.0.0.1:1/"  # nobody listens there
NEW = (".dvc/tmp/run.lock",)  # which a refused run may leave
WARNING = "NOT FashionMNIST"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of small stages that has been compared, without git: an unpacked archive. Not to be changed."""
    folder = tmp_path_factory.mktemp("unpacked")
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / "models").mkdir()
    # Without metrics/train, which may know more models than the three of the toy pipeline.
    shutil.copytree(PROJECT / "metrics", folder / "metrics", ignore=shutil.ignore_patterns("train"))
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet", "--no-scm"], cwd=folder, check=True)
    return folder


@pytest.fixture
def project(unpacked: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the unpacked project, the current folder."""
    shutil.copytree(unpacked, workspace, dirs_exist_ok=True)
    monkeypatch.delenv("FASHION_MNIST_MIRROR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(workspace / "cache"))
    return workspace


@pytest.mark.slow
def test_trained_together_with_a_log_each(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.train_together(workers=2) == 0
    printed = capsys.readouterr().out.splitlines()
    for number in (0, 1):
        assert (project / f"models/model_{number}.safetensors").exists()
        log = (project / f"logs/train_model_{number}.log").read_text().splitlines()
        assert f"Epoch 1 of model_{number}" in log
        assert [line for line in printed if line.startswith(f"model_{number} | ")] == [
            f"model_{number} | {line}" for line in log
        ]


@pytest.mark.slow
def test_failed_training_fails_the_run(project: Path) -> None:
    (project / "dvc.yaml").write_text(PIPELINE.replace("echo Epoch 1 of model_1", "false"))
    assert run.train_together(workers=2) != 0
    assert (project / "models/model_0.safetensors").exists()


def test_failure_before_the_trainings(project: Path) -> None:
    (project / "dvc.yaml").write_text(PIPELINE.replace("echo prepared > prepared", "false"))
    assert run.train_together(workers=2) != 0
    assert not (project / "logs").exists()


def test_cores_for_one_training(project: Path) -> None:
    assert run.train_together(workers=1) == 0
    assert not (project / "models/model_0.safetensors").exists()


@pytest.mark.parametrize(
    ("cpus", "changes", "workers"),
    [
        (2, {"train.threads": 1}, 2),
        (8, {"train.threads": 2}, 4),
        (8, {"train.threads": 2, "train.processes": 4}, 1),
        (8, {"train.threads": 1, "model_1.threads": 4}, 2),
        (1, {"train.threads": 2}, 0),
    ],
)
def test_trainings_at_once(
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    set_params: SetParams,
    cpus: int,
    changes: dict[str, int],
    workers: int,
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(cpus)), raising=False)
    set_params(changes)
    assert run.trainings_at_once(load_params()) == workers


def test_ctrl_c_while_dvc_imports(tmp_path: Path) -> None:
    (tmp_path / "dvc").mkdir()
    (tmp_path / "dvc/__init__.py").touch()
    (tmp_path / "dvc/cli.py").write_text("import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(9)")
    done = subprocess.run([*run.DVC, "repro"], env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


@pytest.mark.slow
def test_ends_with_the_comparison(project: Path, set_params: SetParams, run_stage: RunStage) -> None:
    set_params({"fetch.source": "synthetic"})
    done = run_stage("commands.run")
    assert done.returncode == 0
    assert "\nbest by " in done.stdout
    assert done.stdout.count(WARNING) == 2
    assert (project / "models/model_1.safetensors").exists()


def test_copies_are_told_at_every_run(project: Path) -> None:
    data = read_json("metrics/data.json") | {"shared_images": {"train_test": 3}, "test_copies": 5}
    write_json("metrics/data.json", data)
    assert [doubt.partition(":")[0] for doubt in run.doubts()] == [
        "3 test images are in the training set too",
        "5 test images are copies of others",
    ]


@pytest.mark.slow
def test_without_a_mirror(project: Path, set_params: SetParams, run_stage: RunStage) -> None:
    set_params({"fetch.mirrors": [NOBODY]})
    before = (project / "params.yaml").read_text()
    done = run_stage("commands.run")
    assert done.returncode == 0
    assert done.stdout.count(WARNING) == 2
    assert done.stderr.splitlines()[-1].startswith("run: ")
    assert load_params().fetch.source == "synthetic"
    assert (project / "params.yaml").read_text().split() == before.replace("fashion-mnist", "synthetic", 1).split()


@pytest.fixture
def raw_files(project: Path, set_params: SetParams, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The published files: in data/raw, where the second is damaged, whole in DVC's cache, and on no mirror."""
    good = {name: name.encode() * 100 for name in ("images.gz", "labels.gz")}
    published = [
        RawFile(name, len(data), sha256(data).hexdigest(), md5(data).hexdigest()) for name, data in good.items()
    ]
    monkeypatch.setattr(run, "RAW_FILES", published)
    set_params({"fetch.mirrors": [NOBODY]})
    (project / "data/raw").mkdir(parents=True)
    for name, content in good.items():
        (project / "data/raw" / name).write_bytes(content)
    (project / "dvc.yaml").write_text(PIPELINE + "  fetch:\n    cmd: 'true'\n    outs: [data/raw: {persist: true}]\n")
    assert run.dvc("repro", "fetch") == 0
    (project / "data/raw/labels.gz").write_bytes(b"cut short")
    return good


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
def test_damaged_raw_file_without_a_mirror(
    raw_files: dict[str, bytes], project: Path, run_stage: RunStage, survived: Callable[[str], None]
) -> None:
    """It comes back from DVC's cache."""
    done = run_stage("commands.run")
    assert WARNING not in done.stdout
    assert contents(project / "data/raw") == raw_files
    assert load_params().fetch.source == "fashion-mnist"
    survived("damaged raw file, no network")


def test_drawn_images_replace_no_published_ones(
    raw_files: dict[str, bytes], project: Path, run_stage: RunStage
) -> None:
    shutil.rmtree(project / ".dvc/cache")
    done = run_stage("commands.run")
    assert done.returncode == 1
    assert NOBODY in done.stderr.splitlines()[-1]
    assert load_params().fetch.source == "fashion-mnist"
    assert contents(project / "data/raw") == raw_files | {"labels.gz": b"cut short"}


@pytest.mark.slow
def test_two_at_once(project: Path, set_params: SetParams, survived: Callable[[str], None]) -> None:
    """The second waits for the first: both would write the same raw files."""
    set_params({"fetch.source": "synthetic"})
    with FileLock(run.LOCK):
        second = subprocess.Popen(
            [sys.executable, "-m", "stages.commands.run"],
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert second.stderr is not None
        assert "another `make run`" in second.stderr.readline()
        assert not (project / "prepared").exists()
    assert second.stderr.read() == ""
    assert second.wait() == 0
    assert (project / "prepared").exists()
    survived("two make run at once")


@pytest.mark.parametrize(
    "content",
    ["", "schema: '2.0'\nstages:\n", "schema: '2.0'\nstages:\n<<<<<<< HEAD\n  a:\n    cmd: b\n", "\0" * 100, "{}\n"],
    ids=["empty", "cut short", "in conflict", "zeros", "of something else"],
)
def test_damaged_lock(content: str, project: Path, stage_refusal: StageRefusal) -> None:
    (project / "dvc.lock").write_text(content)
    line = stage_refusal("commands.run", new=NEW)
    assert "dvc.lock" in line.split(" is ")[0]
    assert "`git checkout HEAD dvc.lock`" in line


def test_lock_cut_after_any_line(project: Path) -> None:
    """It is refused, or DVC can read it; both occur. Cut within a line it is refused."""
    (project / "dvc.yaml").write_bytes((PROJECT / "dvc.yaml").read_bytes())
    lines = (PROJECT / "dvc.lock").read_text().splitlines(keepends=True)
    (project / "dvc.lock").write_text("".join(lines)[:-1])
    with pytest.raises(UserError):
        read_lock()
    refused, cuts = 0, range(1, len(lines), 29)
    for count in cuts:
        (project / "dvc.lock").write_text(lock := "".join(lines[:count]))
        try:
            read_lock()
        except UserError:
            refused += 1
        else:
            COMPILED_LOCKFILE_SCHEMA(YAML(typ="safe").load(lock))
    assert 0 < refused < len(cuts)


def test_model_without_a_stage(project: Path, set_params: SetParams, stage_refusal: StageRefusal) -> None:
    set_params({"model_3": model_params("mlp").model_dump(exclude_none=True)})
    line = stage_refusal("commands.run", new=NEW)
    assert "params.yaml has model_3" in line
    assert "`make model NAME=model_3 ARCH=mlp`" in line


def test_model_that_is_not_evaluated(project: Path, set_params: SetParams, stage_refusal: StageRefusal) -> None:
    set_params({"model_3": model_params("mlp").model_dump(exclude_none=True)})
    (project / "dvc.yaml").write_text(PIPELINE + "  train_model_3:\n    cmd: 'true'\n")
    assert "evaluate" in stage_refusal("commands.run", new=NEW)


def test_stage_without_a_model(project: Path, stage_refusal: StageRefusal) -> None:
    stage = "  train_model_3:\n    cmd: cp prepared model_3\n"
    (project / "dvc.yaml").write_text(PIPELINE + stage)
    assert "train_model_3" in stage_refusal("commands.run", new=NEW)


def test_metrics_of_a_model_that_is_gone(project: Path, stage_refusal: StageRefusal) -> None:
    """DVC does not notice when a stage depends on less than before: the comparison would still have the model."""
    (project / "metrics/train").mkdir(parents=True, exist_ok=True)
    (project / "metrics/train/model_9.json").write_text("{}")
    line = stage_refusal("commands.run", new=NEW)
    assert "rm metrics/train/model_9.json plots/curves/model_9.csv" in line


@pytest.mark.parametrize("content", ["<<<<<<< HEAD\n" + PIPELINE, "stages", ""])
def test_damaged_pipeline(content: str, project: Path, stage_refusal: StageRefusal) -> None:
    (project / "dvc.yaml").write_text(content)
    assert "dvc.yaml" in stage_refusal("commands.run", new=NEW)


def test_pipe_among_the_raw_files(project: Path, stage_refusal: StageRefusal) -> None:
    """DVC would read it for ever."""
    (project / "data/raw").mkdir(parents=True)
    os.mkfifo("data/raw/pipe")
    assert "data/raw/pipe" in stage_refusal("commands.run", new=NEW)


def test_killed_while_dvc_wrote_what_is_in_use(project: Path, stage_refusal: StageRefusal) -> None:
    (project / ".dvc/tmp").mkdir(exist_ok=True)
    (project / ".dvc/tmp/rwlock").touch()
    assert "`rm .dvc/tmp/rwlock`" in stage_refusal("commands.run", new=NEW)


def test_user_whom_the_system_does_not_know(
    project: Path, stage_refusal: StageRefusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container: DVC ends with an unexpected error."""
    for name in ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 123_456_789)
    line = stage_refusal("commands.run", new=NEW)
    assert "HOME" in line
    assert "USER" in line


def test_outside_of_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage_refusal: StageRefusal) -> None:
    monkeypatch.chdir(tmp_path)
    assert "params.yaml is missing" in stage_refusal("commands.run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_failed_stage_fails_the_run(project: Path, set_params: SetParams, run_stage: RunStage) -> None:
    set_params({"fetch.source": "synthetic"})
    (project / "dvc.yaml").write_text(PIPELINE.replace("echo prepared > prepared", "false"))
    done = run_stage("commands.run")
    assert done.returncode not in (0, None)
    assert "Test images" not in done.stdout


def test_dvc_is_told_about_git(project: Path) -> None:
    (project / ".dvc/config").write_text("")  # as in the repository, which is under git
    run.tell_dvc_about_git()
    assert "no_scm = true" in (project / ".dvc/config.local").read_text()
    subprocess.run(["git", "init", "--quiet"], check=True)
    run.tell_dvc_about_git()
    assert "no_scm" not in (project / ".dvc/config.local").read_text()


def test_comments_survive_another_source(workspace: Path) -> None:
    lecture = PROJECT / "tests/lecture_params.yaml"
    shutil.copy(lecture, "params.yaml")
    run.set_source("synthetic")
    before = lecture.read_text().splitlines()
    now = Path("params.yaml").read_text().splitlines()
    changed = [(old, new) for old, new in zip(before, now, strict=True) if old.split() != new.split()]
    ((old, new),) = changed
    assert new.split() == old.replace("fashion-mnist", "synthetic", 1).split()
