"""What git and DVC say of the project's folder."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.commands.yaml_files import PARAMS, PIPELINE, load_yaml
from stages.lib.base.errors import UserError
from stages.lib.base.files import parse_json
from stages.lib.base.lock import read_lock
from stages.lib.base.params import MODEL_NAME

TRAINING_CODE = ("stages/lib/data", "stages/lib/learning")


@dataclass(frozen=True)
class State:
    """A commit, or, without a revision, the files as they are."""

    revision: str | None
    name: str

    def text(self, path: str) -> str | None:
        """Return the content of a text file; None where this state lacks it."""
        if self.revision:
            return git("show", f"{self.revision}:{path}")
        return Path(path).read_text(encoding="utf-8", errors="replace") if Path(path).is_file() else None

    def tree(self, path: str) -> dict[str, Any]:
        """Return what a JSON or YAML file holds; nothing where this state lacks it.

        Raises:
            UserError: it holds something else.
        """
        text = self.text(path)
        if text is None:
            return {}
        try:
            tree = parse_json(text) if path.endswith(".json") else YAML(typ="safe", pure=True).load(text)
        except (YAMLError, ValueError, RecursionError):
            tree = None
        if not isinstance(tree, dict):
            raise UserError(f"{path} of {self.name} is damaged; compare with another commit, or mend it")
        return tree

    def metrics(self) -> dict[tuple[str, str], Any]:
        """Return each figure and word of the metrics that git keeps, by file and key; lists are left out."""
        if self.revision:
            listed = (git("ls-tree", "-r", "--name-only", self.revision, "metrics") or "").splitlines()
        else:
            listed = [path.as_posix() for path in Path("metrics").rglob("*.json")]
        files = sorted(path for path in listed if path.endswith(".json") and not path.startswith("metrics/timing/"))
        leaves = {(path, key): value for path in files for key, value in flat(self.tree(path))}
        return {key: value for key, value in leaves.items() if not isinstance(value, list)}

    def picture(self, path: str) -> tuple[str, str] | None:
        """Return the commit that has this picture, and its checksum; None where no commit has."""
        revision = self.revision or git("rev-parse", "HEAD")
        blob = git("rev-parse", "--verify", "--quiet", f"{revision}:{path}")
        here = blob if self.revision else git("hash-object", "--", path)
        return (str(revision), blob) if blob and blob == here else None


def changed(compared: list[str]) -> list[str] | None:
    """Ask DVC which files, parameters and commands are no longer those of the run; None where DVC cannot tell.

    Data and models that are not here do not count, nor do studies. Of a model that was taken out DVC says nothing.
    """
    if not Path(".dvc").is_dir():
        return None
    try:
        stages = dvc_status(PIPELINE)
    except UserError:
        return None
    models = {key for key in load_yaml(PARAMS) if MODEL_NAME.fullmatch(str(key))}
    names = {f"{model} in params.yaml" for model in models ^ set(compared)}
    names |= {f"{stage}, which is frozen" for stage in frozen(load_yaml(PIPELINE))}
    for stage, changes in stages.items():
        for change in changes:
            if change == "changed command":
                names.add(f"the command of {stage}")
            elif isinstance(change, dict):
                for path, state in {**change.get("changed deps", {}), **change.get("changed outs", {})}.items():
                    names |= {f"{key} in {path}" for key in state} if isinstance(state, dict) else set()
                    names |= {path} if state == "modified" else set()
    return sorted(names)


def frozen(pipeline: dict[str, Any]) -> list[str]:
    """Return the stages that DVC keeps from running, whatever has changed; `pipeline` is what dvc.yaml holds."""
    return [stage for stage, each in pipeline.get("stages", {}).items() if each.get("frozen")]


def dvc_status(*pipelines: str | Path) -> dict[str, list[Any]]:
    """Return what has changed in each stage of the pipelines that DVC would run again.

    Raises:
        UserError: DVC cannot tell; the message is its own.
    """
    command = [sys.executable, "-m", "dvc", "status", "--json", *map(str, pipelines)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode != 0:
        raise UserError(f"DVC cannot tell what has changed: {' '.join(done.stderr.split())}")
    stages: dict[str, list[Any]] = json.loads(done.stdout)
    return stages


def older_than_read(lock: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each stage that, by dvc.lock, has read something older than what is there now, and what that is."""
    made = {out["path"]: out["md5"] for run in lock.values() for out in run.get("outs", [])}
    for stage, run in lock.items():
        for dep in run.get("deps", []):
            if made.get(dep["path"], dep.get("md5")) != dep.get("md5"):
                yield stage, dep["path"]


def is_of_older_code(study: Path) -> bool:
    """Tell whether, by the two dvc.lock, the trainings of a study ran with other code than those of the pipeline."""
    trainings = [run for stage, run in read_lock().items() if stage.startswith("train_")]
    cells = read_lock(study).values()
    now, then = (
        {(dep["path"], dep.get("md5")) for run in runs for dep in run.get("deps", []) if dep["path"] in TRAINING_CODE}
        for runs in (trainings, cells)
    )
    return bool(now and then) and now != then


def git_state() -> dict[str, Any]:
    """Return the commit that is checked out and what differs from it; empty where the project is no git repository."""
    top = git("rev-parse", "--show-toplevel")
    if not top or Path(top).resolve() != Path.cwd().resolve():  # an unpacked archive may lie inside another repository
        return {}
    log = git("log", "-1", "--no-show-signature", "--format=%H%n%cs%n%s")
    if not log:
        return {}
    revision, date, subject = log.split("\n", 2)
    return {
        "revision": revision,
        "date": date,
        "subject": subject,
        # New files too, whatever git's configuration says: an architecture may be one.
        "changes": (git("status", "--porcelain", "--untracked-files=normal") or "").splitlines(),
    }


def git(*arguments: str) -> str | None:
    """Return what a git command prints; None where it fails or there is no git."""
    try:
        done = _run_git("--no-optional-locks", *arguments, errors="replace")
    except FileNotFoundError:
        return None
    return done.stdout.rstrip("\n") if done.returncode == 0 else None


def checked_git(*arguments: str) -> str:
    """Run git and return what it prints.

    Raises:
        UserError: git failed; the message is its own.
    """
    done = _run_git(*arguments, errors="surrogateescape")  # names of files, to be opened
    if done.returncode != 0:
        raise UserError(f"git {arguments[0]} failed: {' '.join(done.stderr.split())}")
    return done.stdout.rstrip("\n")


def flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested mappings, named as DVC names them: `model_1.lr`."""
    if not isinstance(value, dict):
        yield prefix, value
        return
    for key, inner in value.items():
        yield from flat(inner, f"{prefix}.{key}" if prefix else str(key))


def _run_git(*arguments: str, errors: str) -> "subprocess.CompletedProcess[str]":
    """Run git in the repository of the current folder, whichever the environment names."""
    elsewhere = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR")
    here = {name: value for name, value in os.environ.items() if name not in elsewhere}
    return subprocess.run(
        ["git", *arguments], env=here, capture_output=True, text=True, encoding="utf-8", errors=errors, check=False
    )
