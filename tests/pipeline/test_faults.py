"""Faults at the worst moment: afterwards one run gives what an undisturbed run gives, and nothing is half-written.

The table of the faults tried ends the test run.
"""

import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.helpers import PROJECT, RunStage, SetParams, Shell, start

pytestmark = pytest.mark.slow

STAGES: dict[str, Any] = YAML(typ="safe").load(PROJECT / "dvc.yaml")["stages"]
KILLED = ["fetch", "prepare", "train_model_0", "evaluate", "compare", "confusion"]
KILLS_PER_STAGE = 2
# The ways back of docs/experiments.md: DVC may have been ended in the middle of writing dvc.lock or what is in use.
MEND_LOCKS = "git checkout --quiet dvc.lock && rm -f .dvc/tmp/rwlock"
Survived = Callable[..., None]


def outputs(stage: str) -> list[Path]:
    """Files and folders that a stage writes."""
    entries = [entry for kind in ("outs", "metrics", "plots") for entry in STAGES[stage].get(kind, [])]
    return [Path(next(iter(entry)) if isinstance(entry, dict) else entry) for entry in entries]


def files(stage: str) -> list[Path]:
    """Files that a stage has written."""
    found = [file for path in outputs(stage) for file in (path.rglob("*") if path.is_dir() else [path])]
    return [file for file in found if file.is_file() and file.parent.suffix != ".tmp"]


def contents(stages: list[str]) -> dict[Path, bytes]:
    """The bytes of all outputs that exist."""
    return {file: file.read_bytes() for stage in stages for file in files(stage)}


def remove_outputs(stage: str) -> None:
    """As DVC does before it runs a stage."""
    for path in outputs(stage):
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)


def left_overs() -> list[Path]:
    return [path for path in Path().rglob("*.tmp") if ".dvc" not in path.parts and path.name != "tmp"]


def kill_group(process: "subprocess.Popen[str]") -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize("stage", KILLED)
@pytest.mark.usefixtures("project")
def test_stage_killed_at_any_moment(stage: str, environment: dict[str, str], shell: Shell, survived: Survived) -> None:
    command = STAGES[stage]["cmd"]
    expected = contents([stage])
    begun = time.monotonic()
    shell(command)
    duration = time.monotonic() - begun
    moments = random.Random(stage)
    for _ in range(KILLS_PER_STAGE):
        remove_outputs(stage)
        process = start(command, environment)
        # Imports take most of the time and write nothing: aim at the second half.
        time.sleep(duration * moments.uniform(0.4, 1.05))
        kill_group(process)
        for path, found in contents([stage]).items():
            # A curve grows with the training, row by row; all else is there as a whole or not at all.
            whole_rows = path.parent.name == "curves" and found.endswith(b"\n") and expected[path].startswith(found)
            assert found == expected[path] or whole_rows, path
    shell(command)
    assert contents([stage]) == expected
    assert left_overs() == []
    survived("kill -9 of a stage", KILLS_PER_STAGE)


@pytest.mark.usefixtures("project")
def test_killed_repro(
    environment: dict[str, str],
    shell: Shell,
    set_params: SetParams,
    survived: Survived,
) -> None:
    expected = contents(list(STAGES))
    set_params({"fetch.synthetic.seed": 7})  # everything has to run
    for seconds in (4, 10):
        process = start("dvc repro", environment)
        time.sleep(seconds)
        kill_group(process)
    shell(MEND_LOCKS)
    shell("dvc repro")  # the killed stage itself has to run: only it clears what it has left
    assert left_overs() == []
    set_params({"fetch.synthetic.seed": 42})
    shell("dvc repro")
    assert contents(list(STAGES)) == expected
    shell("dvc status -q dvc.yaml")
    survived("kill -9 of dvc repro", 2)


@pytest.mark.usefixtures("project")
def test_ctrl_c_in_repro(
    environment: dict[str, str],
    shell: Shell,
    set_params: SetParams,
    survived: Survived,
) -> None:
    expected = contents(list(STAGES))
    set_params({"fetch.synthetic.seed": 7})
    for seconds in (3, 7):
        process = start("dvc repro", environment)
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGINT)  # as from a terminal: every process of the group gets it
        assert process.wait(timeout=300) != 0
        assert left_overs() == []
    set_params({"fetch.synthetic.seed": 42})
    shell(MEND_LOCKS)
    shell("dvc repro")
    assert contents(list(STAGES)) == expected
    shell("dvc status -q dvc.yaml")
    survived("Ctrl-C in dvc repro", 2)


@pytest.mark.usefixtures("project")
def test_two_repros_at_once(environment: dict[str, str], shell: Shell, survived: Survived) -> None:
    expected = contents(list(STAGES))
    remove_outputs("compare")
    both = [start("dvc repro --no-run-cache", environment) for _ in range(2)]
    assert 0 in [process.wait(timeout=300) for process in both]
    shell("dvc repro")
    assert contents(list(STAGES)) == expected
    assert left_overs() == []
    survived("two dvc repro at once")


@pytest.fixture
def run(project: Path, run_stage: RunStage) -> Callable[[str], CompletedProcess[str]]:
    """`run("train_model_0")` runs the stage in this process, which has the code of its own folder."""
    shutil.rmtree(project / "stages")
    return lambda stage: run_stage(*STAGES[stage]["cmd"].removeprefix("python -m stages.").split())


@pytest.mark.parametrize("stage", ["prepare", "train_model_0", "evaluate", "compare", "confusion"])
@pytest.mark.usefixtures("project")
def test_full_disk(stage: str, run: Callable[[str], CompletedProcess[str]], survived: Survived) -> None:
    expected = contents([stage])
    remove_outputs(stage)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # No file may grow beyond a kilobyte: every stage writes a larger one.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
    try:
        done = run(stage)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert done.returncode == 1
    assert "File too large" in done.stderr.splitlines()[-1]
    found = contents([stage])
    assert {path: expected[path] for path in found} == found
    assert left_overs() == []
    assert run(stage).returncode == 0
    assert contents([stage]) == expected
    survived("full disk")


@pytest.mark.parametrize("stage", ["prepare", "train_model_0", "evaluate", "compare", "confusion"])
@pytest.mark.usefixtures("project")
def test_output_folder_cannot_be_made(
    stage: str, run: Callable[[str], CompletedProcess[str]], survived: Survived
) -> None:
    folder = files(stage)[0].parent
    remove_outputs(stage)
    shutil.rmtree(folder, ignore_errors=True)
    folder.write_text("a file where the folder should be")
    done = run(stage)
    assert done.returncode == 1
    assert str(folder) in done.stderr.splitlines()[-1]
    survived("output folder that cannot be made")


@pytest.mark.parametrize("stage", ["prepare", "train_model_0", "evaluate", "compare", "confusion"])
@pytest.mark.usefixtures("project")
def test_read_only_output_folder(stage: str, shell: Shell, survived: Survived) -> None:
    expected = contents([stage])
    folders = {file.parent for file in files(stage)}
    # Modes do not bind root, unless it gives up the capability to override them.
    bound = "setpriv --bounding-set -dac_override " if os.geteuid() == 0 else ""
    for folder in folders:
        folder.chmod(0o555)
    try:
        printed = shell(f"{bound}{STAGES[stage]['cmd']}", status=1)
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert "Traceback" not in printed
    assert "Permission denied" in printed.splitlines()[-1]
    assert contents([stage]) == expected
    assert left_overs() == []
    survived("read-only output folder")
