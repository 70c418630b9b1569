"""Real runs of DVC on small synthetic images, in copies of the project as it is on disk.

One copy is reproduced, once for all workers, and the tests work on copies of that one, in folders with a space in
their name. Commands there know nothing of this machine's user: no settings, no name, no shared state.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from ruamel.yaml import YAML

from tests.helpers import PROJECT, SetParams, Shell, StagesRun, set_keys

SMALL = {
    "fetch.source": "synthetic",
    "fetch.synthetic.train": 600,
    "fetch.synthetic.test": 200,
    "train.device": "cpu",
    "train.threads": 1,
    "model_0.epochs": 10,  # so that it wins by far
    "model_1.epochs": 1,
    "model_2.epochs": 1,
}


def leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested mappings by their full names."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of every command: this interpreter's `python` and `dvc` first, and nothing of the user's."""
    home = tmp_path_factory.mktemp("home")
    personal = ("AWS_", "DVC_", "GIT_", "XDG_", "FASHION_MNIST_MIRROR", "PYTHONPATH", "EMAIL")
    return {name: value for name, value in os.environ.items() if not name.startswith(personal)} | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "HOME": str(home),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "DVC_GLOBAL_CONFIG_DIR": str(home / "dvc-global"),
        "DVC_SYSTEM_CONFIG_DIR": str(home / "dvc-system"),
        "DVC_SITE_CACHE_DIR": str(home / "dvc-site"),
        "DVC_NO_ANALYTICS": "1",
        "DVC_STUDIO_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture(scope="session")
def shell(environment: dict[str, str]) -> Shell:
    """`shell("dvc repro", status=0)` runs a command in the current folder and gives what it printed, stderr included.

    Any other exit status than `status` fails the test. Variables can be added: `shell("dvc push", AWS_REGION="x")`.
    """

    def run(command: str, *, status: int = 0, folder: Path | None = None, **variables: str) -> str:
        done = subprocess.run(
            command,
            shell=True,
            cwd=folder,
            env=environment | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == status, f"{command}: exit status {done.returncode}\n{done.stdout}"
        return done.stdout

    return run


@pytest.fixture(scope="session")
def reproduced(tmp_path_factory: pytest.TempPathFactory, shell: Shell) -> Path:
    """The project, reproduced on a few images, once for all workers. Not to be changed: take a copy."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    project, done = shared / "reproduced/my project", shared / "reproduced/done"
    with FileLock(shared / "reproduced.lock"):
        if not done.exists():
            shutil.rmtree(project, ignore_errors=True)  # what a worker left that failed
            reproduce(project, shell)
            done.touch()
    return project


def reproduce(project: Path, shell: Shell) -> None:
    """Copy the project to this folder, and run its pipeline on a few images."""
    project.mkdir(parents=True)
    # What is on disk, committed or not, less what git ignores. That works from an unpacked archive as well.
    shell("git init -q -b main", folder=project)
    shell(f"git --git-dir='{project}/.git' --work-tree='{PROJECT}' add --all")
    shell("git checkout-index --all", folder=project)
    shell("git config user.name Tester && git config user.email tester@example.com", folder=project)
    # Whatever somebody made of params.yaml: the lecture's models have the lecture's parameters, others stay.
    lecture = YAML(typ="safe").load(PROJECT / "tests/lecture_params.yaml")
    set_keys(project / "params.yaml", dict(leaves(lecture)) | SMALL)
    shell("git add --all && git commit -qm 'Small parameters'", folder=project)
    shell("dvc repro", folder=project)
    shell("git add --all && git commit -qm 'Results'", folder=project)


@pytest.fixture(scope="session")
def copy_project(reproduced: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """`copy_project()` makes a copy of the reproduced project, DVC's cache included, and gives its folder."""

    def copy() -> Path:
        return Path(shutil.copytree(reproduced, tmp_path_factory.mktemp("copy") / "my project", symlinks=True))

    return copy


@pytest.fixture
def project(copy_project: Callable[[], Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the reproduced project of the test's own, the current folder; gone after the test."""
    folder = copy_project()
    monkeypatch.chdir(folder)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def set_params() -> SetParams:
    """`set_params({"model_1.lr": 0.05})` edits params.yaml in the current folder, and keeps its comments."""
    return lambda changes: set_keys(Path("params.yaml"), changes)


@pytest.fixture(scope="session")
def stages_run() -> StagesRun:
    """`stages_run(output)` gives the stages that DVC ran, in order. Those restored from its cache do not count."""
    return lambda output: re.findall(r"Running stage '(\w+)'", output)
