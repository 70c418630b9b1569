"""The workflow that reports a pull request: its steps, one after the other, in a clone, as a runner runs them."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from stages.lib.base.files import read_json, write_json
from tests.helpers import PROJECT, set_keys

WORKFLOW = YAML(typ="safe").load(PROJECT / ".github/workflows/results.yml")
CHECKS = YAML(typ="safe").load(PROJECT / ".github/workflows/checks.yml")
AUTHOR = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
EXPRESSION = re.compile(r"\$\{\{ (.*?) \}\}")
GH = """#!/bin/sh
echo "$@" >> calls
case "$*" in *--jq*) printf '%s' "$EARLIER" ;; *) cat > sent ;; esac
"""

Step = dict[str, Any]
RunJob = Callable[..., None]


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *AUTHOR, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def write_script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True)  # and fails where a link leads to somebody's environment
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of the project on a branch that changes a parameter and its results; main has gone on meanwhile."""
    origin = tmp_path / "origin"
    git(tmp_path, "init", "--quiet", "--initial-branch=main", "origin")
    (origin / ".git/info/exclude").write_text(".venv\n")  # which git adds where it is a link
    git(tmp_path, f"--git-dir={origin}/.git", f"--work-tree={PROJECT}", "add", "--all", "--", str(PROJECT))
    git(origin, "checkout-index", "--all")
    git(origin, "commit", "--quiet", "--message=Results")
    git(origin, "checkout", "--quiet", "-b", "slower")
    set_keys(origin / "params.yaml", {"model_1.lr": 0.05})
    comparison = read_json(origin / "metrics/compare.json")
    comparison["models"]["model_1"]["accuracy"] -= 0.5
    write_json(origin / "metrics/compare.json", comparison)
    git(origin, "commit", "--quiet", "--all", "--message=Slower")
    git(origin, "checkout", "--quiet", "main")
    set_keys(origin / "params.yaml", {"model_0.lr": 0.2})
    git(origin, "commit", "--quiet", "--all", "--message=Somebody else")
    git(tmp_path, "clone", "--quiet", "--branch=slower", "origin", "clone")
    return tmp_path / "clone"


@pytest.fixture
def runner(clone: Path, tmp_path: Path) -> dict[str, str]:
    """The variables that a runner gives, an environment that is set up, no torch, a `gh` that keeps what it gets."""
    write_script(clone / ".venv/bin/python", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (clone / ".venv/bin/.installed").touch()
    write_script(tmp_path / "bin/gh", GH)
    (tmp_path / "no torch").mkdir()
    (tmp_path / "no torch/torch.py").write_text("raise ImportError('make setup TORCH=none leaves it out')\n")
    files = {name: str(tmp_path / name) for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT")}
    return {
        "PATH": os.pathsep.join([str(tmp_path / "bin"), os.environ["PATH"]]),
        "HOME": str(tmp_path),
        "PYTHONPATH": str(tmp_path / "no torch"),
        "GITHUB_SERVER_URL": "https://github.com",
        "GITHUB_REPOSITORY": "somebody/project",
        **files,
    }


@pytest.fixture
def run_job(clone: Path, runner: dict[str, str]) -> RunJob:
    """`run_job("report", values)` runs the steps of a job; `values` are those of the expressions."""

    def run(job: str, values: dict[str, str], **variables: str) -> None:
        for step in WORKFLOW["jobs"][job]["steps"]:
            if "run" not in step:
                continue
            given = {
                key: EXPRESSION.sub(lambda found: values[found[1]], text) for key, text in step.get("env", {}).items()
            }
            command = ["bash", "--noprofile", "--norc", "-e", "-c", step["run"]]
            done = subprocess.run(
                command, cwd=clone, env={**runner, **given, **variables}, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr

    return run


def outputs(file: str) -> dict[str, str]:
    """What a runner reads from $GITHUB_OUTPUT."""
    blocks = re.findall(r"^(\w+)<<(.+)\n(.*?)\n\2$", Path(file).read_text(), re.DOTALL | re.MULTILINE)
    return {name: text for name, _, text in blocks}


def test_report(clone: Path, runner: dict[str, str], run_job: RunJob) -> None:
    main = git(clone, "rev-parse", "origin/main")
    run_job("report", {"github.event.pull_request.base.sha": main})
    summary = Path(runner["GITHUB_STEP_SUMMARY"]).read_text()
    head = git(clone, "rev-parse", "HEAD")
    assert "| `model_1.lr` | `0.1` | `0.05` |" in summary
    assert "model_0.lr" not in summary  # another's change on main
    assert "out of date" in summary  # the branch did not run its pipeline
    assert f"https://github.com/somebody/project/blob/{head}/plots/curves.png?raw=true" in summary
    assert outputs(runner["GITHUB_OUTPUT"])["markdown"] == summary.rstrip("\n")


@pytest.mark.parametrize(("earlier", "method"), [("", "/7/comments"), ("31\n32\n", "PATCH")])
def test_one_comment(clone: Path, run_job: RunJob, earlier: str, method: str) -> None:
    values = {
        "github.token": "token",
        "github.event.pull_request.number": "7",
        "needs.report.outputs.markdown": "## Results\n\n`$(touch gone)`",
    }
    run_job("comment", values, EARLIER=earlier)
    listed, sent = (clone / "calls").read_text().splitlines()
    assert "repos/somebody/project/issues/7/comments" in listed
    assert method in sent
    assert ("comments/31" in sent) is bool(earlier)
    mark, text = (clone / "sent").read_text().split("\n", 1)
    assert mark in listed
    assert text == "## Results\n\n`$(touch gone)`\n"
    assert not (clone / "gone").exists()


def test_code_of_forks_cannot_write() -> None:
    jobs = WORKFLOW["jobs"]
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert [name for name, job in jobs.items() if "permissions" in job] == ["comment"]
    assert all("uses" not in step for step in jobs["comment"]["steps"])
    assert "head.repo.full_name == github.repository" in jobs["comment"]["if"]


def test_no_expression_in_a_script() -> None:
    scripts = [step["run"] for job in WORKFLOW["jobs"].values() for step in job["steps"] if "run" in step]
    assert [script for script in scripts if "${{" in script] == []


def test_actions_are_pinned() -> None:
    jobs = [*WORKFLOW["jobs"].values(), *CHECKS["jobs"].values()]
    used = {step["uses"] for job in jobs for step in job["steps"] if "uses" in step}
    assert used
    assert [action for action in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action)] == []


def test_editor_finds_the_environment() -> None:
    settings = json.loads((PROJECT / ".vscode/settings.json").read_text())
    container = re.sub(
        r"\s//.*|^//.*", "", (PROJECT / ".devcontainer/devcontainer.json").read_text(), flags=re.MULTILINE
    )
    extensions = json.loads((PROJECT / ".vscode/extensions.json").read_text())["recommendations"]
    assert json.loads(container)["customizations"]["vscode"]["extensions"] == extensions
    assert "iterative.dvc" in extensions
    assert settings["python.defaultInterpreterPath"].endswith("/.venv/bin/python")
