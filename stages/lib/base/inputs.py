"""What a stage reads, by dvc.yaml: has it stayed the same while the stage ran?

DVC reads parameters and checksums when a stage has ended. What was edited meanwhile it would record as what the result
was made from, and its cache would bring that result back ever after.
"""

import re
import time
import tomllib
from collections.abc import Mapping
from functools import partial, reduce
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.lib.base.errors import UserError
from stages.lib.base.files import sha256_of
from stages.lib.base.process import STARTED_NS

CODE = "stages/"
INTERPOLATED = re.compile(r"\$\{([\w.]+)\}")  # a value of params.yaml, or of a matrix: ${model_0.arch}, ${item.seed}
PIPELINE = Path("dvc.yaml")
HASHED_BYTES = 1 << 20  # the content decides up to here, size and time of change for larger files


class Inputs:
    """The parameters and files that dvc.yaml lists for a stage, as they are now.

    To be made before the stage reads any of them.

    Args:
        stage: its name.
        pipeline: another file of stages, whose paths are relative to the current folder all the same.
        item: the values of a stage's matrix.
    """

    def __init__(self, stage: str, pipeline: Path = PIPELINE, item: Mapping[str, Any] | None = None) -> None:
        self.stage = stage
        self.read = partial(read_inputs, stage, pipeline, item)
        self.at_start = self.read()
        code, now = [name for name in self.at_start if name.startswith(CODE)], time.time_ns()
        edited = [name for name in code if STARTED_NS < _changed_ns(name) <= now]
        self.at_start |= dict.fromkeys(edited)  # while Python loaded it: which content it loaded nobody knows

    def check_listed(self, *names: str) -> None:
        """Check that dvc.yaml lists all of `names`, where it knows the stage.

        Raises:
            UserError: names what it lacks.
        """
        for name in names if self.at_start else ():
            if name not in self.at_start:
                raise UserError(f"dvc.yaml: {self.stage} does not list {name}; DVC would not notice a change of it")

    def check_unchanged(self) -> None:
        """Check that all is still as it was.

        Raises:
            UserError: names what changed.
        """
        now = self.read()
        changed = sorted(name for name in self.at_start | now if self.at_start.get(name) != now.get(name, "gone"))
        if changed:
            names = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
            raise UserError(f"{names} changed while this stage ran; its result is discarded: run it again")


def read_inputs(stage: str, pipeline: Path = PIPELINE, item: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the values of the parameters and the fingerprints of the files that dvc.yaml lists for `stage`.

    Empty where dvc.yaml has no such stage: then DVC records nothing either.
    """
    listed = value_of(_load(str(pipeline)), f"stages.{stage}") or {}
    known = {**(_load("params.yaml") or {}), "item": item}

    def filled(text: str) -> str:
        return INTERPOLATED.sub(lambda found: str(value_of(known, found[1])), text)

    parameters: dict[str, Any] = {}
    for entry in listed.get("params", []):
        for file, keys in entry.items() if isinstance(entry, dict) else [("params.yaml", [entry])]:
            tree = _load(file)
            parameters |= {f"{key} in {file}": value_of(tree, key) for key in map(filled, keys)}
    paths = map(filled, listed.get("deps", []))
    return parameters | {str(file): _fingerprint(file) for path in paths for file in _files(Path(path))}


def value_of(tree: Any, key: str) -> Any:
    """Return what stands under a key such as `fetch.source`; None where there is nothing."""
    return reduce(lambda branch, step: branch.get(step) if isinstance(branch, dict) else None, key.split("."), tree)


def _load(file: str) -> Any:
    """Read a YAML or TOML file; None where it cannot be read, as while an editor writes it."""
    try:
        if file.endswith(".toml"):
            return tomllib.loads(Path(file).read_text(encoding="utf-8"))
        return YAML(typ="safe", pure=True).load(Path(file))
    except (OSError, YAMLError, ValueError):
        return None


def _files(path: Path) -> list[Path]:
    """Return the files at `path` or below it, but for those that .dvcignore keeps from DVC."""
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    return [file for file in files if not any(map(_is_ignored, file.parts))]


def _is_ignored(name: str) -> bool:
    return name.startswith((".", "#", "__pycache__")) or name.endswith(("~", ".tmp"))


def _fingerprint(file: Path) -> Any:
    try:
        status = file.stat()
        return sha256_of(file) if status.st_size <= HASHED_BYTES else (status.st_size, status.st_mtime_ns)
    except OSError:  # removed
        return None


def _changed_ns(file: str) -> int:
    return Path(file).stat().st_mtime_ns if Path(file).exists() else 0
