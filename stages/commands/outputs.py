"""What the stages have written, read and checked: metrics, tables, dvc.lock.

Checked are the keys named here, and that each has a value of the kind that a stage writes. Other keys may stand beside
them.
"""

from importlib.metadata import distributions
from pathlib import Path
from typing import Annotated, Any

from packaging.version import Version
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, conlist, create_model
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.lib.base.errors import Outdated, UserError
from stages.lib.base.files import read_json
from stages.lib.base.params import MODEL_NAME

# Descriptions for pydantic, which makes types of them while this runs: mypy cannot follow.


def _keys(kind: Any, *names: str) -> dict[str, Any]:
    return dict.fromkeys(names, kind)


def _block(**fields: Any) -> Any:
    return create_model("block", __config__=ConfigDict(strict=True, allow_inf_nan=False), **fields)


_ROW = _block(
    architecture=str,
    **_keys(float, "accuracy", "accuracy_low", "accuracy_high", "loss", "calibration_error_pct"),
    **_keys(int, "parameters", "multiply_adds", "file_bytes"),
)
_PAIR = _block(
    **_keys(str, "first", "second", "verdict"),
    **_keys(int, "only_first_right", "only_second_right"),
    p_value_holm=float,
)
COMPARISON = _block(
    **_keys(str, "source", "by", "chosen_on", "best"),
    models=dict[Annotated[str, Field(pattern=f"^{MODEL_NAME.pattern}$")], _ROW],  # type: ignore[valid-type]
    pairs=list[_PAIR],  # type: ignore[valid-type]
)
EVALUATION = _block(**_keys(int, "images", "undecided"), never_predicted=list[str])
TRAINING = _block(watched=str, **_keys(float, "train_acc", "test_acc"))
DATA = _block(
    source=str,
    sha256=dict[str, str],
    counts=_block(**_keys(int, "train", "validation", "test")),
    shape=list[int],
    **_keys(float, "mean", "std"),
    shared_images=_block(train_test=int),
)
CURVE = conlist(_block(epoch=int, **_keys(float, "train_loss", "train_acc", "test_loss", "test_acc")))
LAYERS = conlist(_block(**_keys(str, "layer", "kind", "how"), **_keys(int, "parameters", "multiply_adds")))
CLASSES = conlist(_block(**_keys(float, "precision", "recall", "f1"), images=int))
_OUTS = conlist(_block(**_keys(str, "path", "md5")))
_STAGE = _block(deps=(list[Any], []), outs=(_OUTS, []), params=(dict[str, dict[str, Any]], {}))
_PIPELINE = _block(stages=dict[str, Any])
_LOCK = _block(stages=dict[str, _STAGE])  # type: ignore[valid-type]


def read_checked(path: str, kind: Any) -> Any:
    """Read a JSON file, or a CSV file as a list of its rows.

    Raises:
        UserError: it is missing or damaged, or a value is of another kind than `kind` says.
    """
    from stages.lib.results.tables import read_table  # half a second, for pandas; verify reads no tables

    value = read_json(path) if path.endswith(".json") else read_table(path).to_dict("records")
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise Outdated(path, f"has a wrong {key} ({first['msg'].lower()})") from None
    return value


def read_lock(folder: Path = Path()) -> dict[str, Any]:
    """Return what each stage of dvc.yaml read and wrote when it last ran, from dvc.lock; nothing where one is missing.

    DVC leaves in dvc.lock what it says of stages that are gone: nobody makes their outputs any more.

    Raises:
        UserError: one of the two holds something else.
    """
    pipeline, lock = _stages_in(folder / "dvc.yaml", _PIPELINE), _stages_in(folder / "dvc.lock", _LOCK)
    return {name: entry for name, entry in lock.items() if name.partition("@")[0] in pipeline}


def recorded_versions(lock: dict[str, Any]) -> dict[str, str]:
    """Return the version of each library that the stages ran with."""
    used: dict[str, Any] = {}
    for stage in lock.values():
        used |= stage.get("params", {}).get("versions.toml", {})
    return {library: str(used[library]) for library in sorted(used)}


def installed_version(library: str) -> str:
    """Return the version of a library here, without what follows a plus, such as +cpu; `none` if it is not here."""
    return next((Version(found.version).public for found in distributions(name=library)), "none")


def _stages_in(path: Path, kind: Any) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        if path.name == "dvc.lock" and not text.endswith("\n"):
            raise ValueError("cut short")  # DVC writes it in place: Ctrl-C may leave a part of it
        tree = YAML(typ="safe", pure=True).load(text)
        TypeAdapter(kind).validate_python(tree)
    except FileNotFoundError:
        return {}
    except (YAMLError, ValueError, LookupError, RecursionError):  # ruamel lets some of its own through
        raise UserError(
            f"{path.name} is empty, damaged or in a merge conflict; take back the committed one (`git checkout HEAD "
            f"{path.name}`) or, where that is no better, an older one, and run `dvc repro`"
        ) from None
    stages: dict[str, Any] = tree["stages"]
    return stages
