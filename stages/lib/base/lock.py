"""What DVC has recorded in dvc.lock: what each stage read and wrote when it last ran."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.lib.base.errors import UserError
from stages.lib.base.files import md5_of

PIPELINE, LOCK = "dvc.yaml", "dvc.lock"


class _Output(BaseModel):
    path: str
    md5: str


class _Run(BaseModel):
    deps: list[Any] = []
    outs: list[_Output] = []
    params: dict[str, dict[str, Any]] = {}


def read_lock(folder: Path = Path()) -> dict[str, Any]:
    """Return what each stage of dvc.yaml read and wrote when it last ran, from dvc.lock; nothing where one is missing.

    DVC leaves in dvc.lock what it says of stages that are gone: nobody makes their outputs any more.

    Raises:
        UserError: one of the two holds something else.
    """
    pipeline, lock = _stages_in(folder / PIPELINE, Any), _stages_in(folder / LOCK, _Run)
    return {name: entry for name, entry in lock.items() if name.partition("@")[0] in pipeline}


def recorded(stage: str, output: str | Path) -> dict[str, Any]:
    """Return what dvc.lock says of the run of `stage` that made this very `output`; nothing if it knows of none."""
    run: dict[str, Any] = {}
    with suppress(UserError):
        run = _stages_in(Path(LOCK), _Run).get(stage, {})
    return run if _md5_of_file(output) in [out["md5"] for out in run.get("outs", [])] else {}


def is_output(file: str | Path) -> bool:
    """Tell whether dvc.lock records that some stage wrote a file of this name."""
    with suppress(UserError):
        runs = _stages_in(Path(LOCK), _Run).values()
        return os.path.relpath(file) in [out["path"] for run in runs for out in run.get("outs", [])]
    return False


def edited_since(run: dict[str, Any], file: str) -> bool:
    """Tell whether a `run` that dvc.lock has recorded read another content of `file` than it has now."""
    return any(each["path"] == file and each["md5"] != _md5_of_file(file) for each in run.get("deps", []))


def recorded_versions(lock: dict[str, Any]) -> dict[str, str]:
    """Return the version of each library that the stages ran with."""
    used: dict[str, Any] = {}
    for run in lock.values():
        used |= run.get("params", {}).get("versions.toml", {})
    return {library: str(used[library]) for library in sorted(used)}


def _stages_in(path: Path, kind: Any) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        if path.name == LOCK and not text.endswith("\n"):
            raise ValueError("cut short")  # DVC writes it in place: Ctrl-C may leave a part of it
        stages: dict[str, Any] = YAML(typ="safe", pure=True).load(text)["stages"]
        TypeAdapter(dict[str, kind]).validate_python(stages)
    except FileNotFoundError:
        return {}
    except (YAMLError, ValueError, TypeError, LookupError, RecursionError):  # ruamel lets some of its own through
        raise UserError(
            f"{path.name} is empty, damaged or in a merge conflict; take back the committed one (`git checkout HEAD "
            f"{path.name}`) or, where that is no better, an older one, and run `dvc repro`"
        ) from None
    return stages


def _md5_of_file(file: str | Path) -> str | None:
    path = Path(file)
    return md5_of(path.read_bytes()) if path.is_file() else None
