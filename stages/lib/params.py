"""params.yaml as frozen dataclasses, checked whole before any work.

An unknown or missing key, a wrong type or an impossible value raises `UserError` with the key's full name, the value,
and what is allowed.
"""

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.lib.errors import UserError

ARCHITECTURES = Path(__file__).parents[1] / "architectures"
MODEL_NAME = re.compile(r"model_\d+")

Check = Callable[[Any], Any]  # gives the value back, typed, or raises ValueError with what is allowed


def _whole(low: int, high: int) -> Check:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"a whole number from {low:,} to {high:,}")
        return value

    return check


def _positive(high: float) -> Check:
    def check(value: Any) -> float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or not 0 < value <= high:
            raise ValueError(f"a number above 0, up to {high:,}")
        return float(value)

    return check


def _one_of(*choices: str) -> Check:
    def check(value: Any) -> str:
        if value not in choices:
            raise ValueError("one of " + ", ".join(choices))
        return str(value)

    return check


def _architecture(value: Any) -> str:
    # Read at check time: a new file is a new choice.
    return str(_one_of(*sorted(file.stem for file in ARCHITECTURES.glob("[!_]*.py")))(value))


def _addresses(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) and item.strip() for item in value):
        raise ValueError("a list of addresses or folders")
    return tuple(value)


def _key(check: Check, **default: Any) -> Any:
    return field(metadata={"check": check}, **default)


@dataclass(frozen=True)
class SyntheticParams:
    """How many images the synthetic source draws."""

    train: int = _key(_whole(10, 10_000_000))
    test: int = _key(_whole(10, 10_000_000))


@dataclass(frozen=True)
class FetchParams:
    """Where the raw files come from."""

    source: str = _key(_one_of("fashion-mnist", "synthetic"))
    mirrors: tuple[str, ...] = _key(_addresses)
    synthetic: SyntheticParams = field()


@dataclass(frozen=True)
class PrepareParams:
    """How the training images are split."""

    validation: int = _key(_whole(0, 10_000_000))


@dataclass(frozen=True)
class TrainParams:
    """What the training runs on."""

    device: str = _key(_one_of("auto", "cpu", "cuda", "mps"))
    threads: int = _key(_whole(1, 256))


@dataclass(frozen=True)
class ModelParams:
    """One model: its architecture and hyperparameters."""

    arch: str = _key(_architecture)
    hidden_units: int = _key(_whole(1, 4096))
    epochs: int = _key(_whole(1, 10_000))
    batch_size: int = _key(_whole(1, 65_536))
    lr: float = _key(_positive(1000))
    memory_format: str = _key(_one_of("contiguous", "channels_last"), default="contiguous")


@dataclass(frozen=True)
class EvaluateParams:
    """How the test images are batched."""

    batch_size: int = _key(_whole(1, 65_536))


@dataclass(frozen=True)
class CompareParams:
    """What makes a model the best."""

    by: str = _key(_one_of("accuracy", "loss"))


@dataclass(frozen=True)
class ConfusionParams:
    """How many images the pictures of the best model show."""

    samples: int = _key(_whole(1, 100))
    mistakes: int = _key(_whole(1, 100))


@dataclass(frozen=True)
class Params:
    """The whole of params.yaml."""

    seed: int = _key(_whole(0, 2**32 - 1))
    fetch: FetchParams = field()
    prepare: PrepareParams = field()
    train: TrainParams = field()
    evaluate: EvaluateParams = field()
    compare: CompareParams = field()
    confusion: ConfusionParams = field()
    models: dict[str, ModelParams] = field(default_factory=dict)

    def model(self, name: str) -> ModelParams:
        """The block of one model.

        Raises:
            UserError: there is no such model.
        """
        if name not in self.models:
            known = ", ".join(self.models) or "none"
            raise UserError(f"no model named {name!r} in params.yaml; there are: {known}")
        return self.models[name]


def load_params(path: str | Path = "params.yaml") -> Params:
    """Read and check the parameters.

    Raises:
        UserError: the file is missing or no YAML, or a key or value is not what it must be.
    """
    # ruamel reads `1e-3` as a number, as DVC does; PyYAML reads a string.
    try:
        tree = YAML(typ="safe", pure=True).load(Path(path))
    except FileNotFoundError:
        raise UserError(f"{path} is missing; run from the project's folder, or restore it from git") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {_in_one_line(error)}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path} must hold keys such as `seed: 42`, not {tree!r:.60}")

    blocks = {str(key): value for key, value in tree.items() if MODEL_NAME.fullmatch(str(key))}
    rest = {key: value for key, value in tree.items() if str(key) not in blocks}
    models = {name: _read(ModelParams, blocks[name], name, path) for name in sorted(blocks, key=_number)}
    return _read(Params, rest, "", path, also=["model_0"], models=models)


def _read(
    kind: type[Any], tree: Any, prefix: str, path: str | Path, also: Iterable[str] = (), **given: Any
) -> Any:
    """Build dataclass `kind` from the mapping `tree` found at key `prefix`; `given` fields are taken as they are."""
    if not isinstance(tree, Mapping):
        raise UserError(f"{path}: {prefix} is {tree!r:.60}; it must be a block of keys")
    hints = get_type_hints(kind)
    expected = {spec.name: spec for spec in fields(kind) if spec.name not in given}

    for key in tree:
        if key not in expected:
            near = difflib.get_close_matches(str(key), [*expected, *also], n=1)
            hint = f"did you mean {near[0]}?" if near else "known here: " + ", ".join(expected)
            raise UserError(f"{path}: unknown key {_join(prefix, key)}; {hint}")

    values = dict(given)
    for name, spec in expected.items():
        full_name = _join(prefix, name)
        if name not in tree:
            if spec.default is MISSING:
                raise UserError(f"{path}: {full_name} is missing; the comments in params.yaml say what it takes")
            continue
        if "check" in spec.metadata:
            try:
                values[name] = spec.metadata["check"](tree[name])
            except (ValueError, TypeError) as allowed:
                raise UserError(f"{path}: {full_name} is {tree[name]!r:.60}; it must be {allowed}") from None
        else:
            values[name] = _read(hints[name], tree[name], full_name, path)
    return kind(**values)


def _join(prefix: str, key: object) -> str:
    return f"{prefix}.{key}" if prefix else str(key)


def _number(name: str) -> int:
    return int(name.removeprefix("model_"))


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())
