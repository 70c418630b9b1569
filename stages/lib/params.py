"""params.yaml as frozen dataclasses, checked whole before any work.

An unknown or missing key, a wrong type or an impossible value raises `UserError` with the key's full name, the value,
and what is allowed.
"""

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.lib.errors import UserError

ARCHITECTURES = Path(__file__).parents[1] / "architectures"
MODEL_NAME = re.compile(r"model_\d+")

Block = TypeVar("Block")
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
        if not number or not 0 < value <= high:  # NaN fails too
            raise ValueError(f"a number above 0, up to {high:,}")
        return float(value)

    return check


def _one_of(*choices: str) -> Check:
    def check(value: Any) -> str:
        if value not in choices:
            raise ValueError("one of " + ", ".join(choices))
        return str(value)

    return check


def architectures() -> list[str]:
    """The names of the files in stages/architectures/, as they are now: a new file is a new choice."""
    return sorted(file.stem for file in ARCHITECTURES.glob("[!_]*.py"))


def _architecture(value: Any) -> str:
    return str(_one_of(*architectures())(value))


def _addresses(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) and item.strip() for item in value):
        raise ValueError("a list of addresses or folders")
    return tuple(value)


@dataclass(frozen=True)
class SyntheticParams:
    """How many images the synthetic source draws."""

    train: Annotated[int, _whole(10, 10_000_000)]
    test: Annotated[int, _whole(10, 10_000_000)]


@dataclass(frozen=True)
class FetchParams:
    """Where the raw files come from."""

    source: Annotated[str, _one_of("fashion-mnist", "synthetic")]
    mirrors: Annotated[tuple[str, ...], _addresses]
    synthetic: SyntheticParams


@dataclass(frozen=True)
class PrepareParams:
    """How the training images are split."""

    validation: Annotated[int, _whole(0, 10_000_000)]


@dataclass(frozen=True)
class TrainParams:
    """What the training runs on."""

    device: Annotated[str, _one_of("auto", "cpu", "cuda", "mps")]
    threads: Annotated[int, _whole(1, 256)]
    precision: Annotated[str, _one_of("float32", "bfloat16")] = "float32"
    processes: Annotated[int, _whole(1, 256)] = 1


@dataclass(frozen=True)
class ModelParams:
    """One model: its architecture and hyperparameters."""

    arch: Annotated[str, _architecture]
    hidden_units: Annotated[int, _whole(1, 4096)]
    epochs: Annotated[int, _whole(1, 10_000)]
    batch_size: Annotated[int, _whole(1, 65_536)]
    lr: Annotated[float, _positive(1000)]
    memory_format: Annotated[str, _one_of("contiguous", "channels_last")] = "contiguous"
    threads: Annotated[int | None, _whole(1, 256)] = None


@dataclass(frozen=True)
class EvaluateParams:
    """How the test images are batched."""

    batch_size: Annotated[int, _whole(1, 65_536)]


@dataclass(frozen=True)
class CompareParams:
    """What makes a model the best."""

    by: Annotated[str, _one_of("accuracy", "loss")]


@dataclass(frozen=True)
class ConfusionParams:
    """How many images the pictures of the best model show."""

    samples: Annotated[int, _whole(1, 100)]
    mistakes: Annotated[int, _whole(1, 100)]


@dataclass(frozen=True)
class Params:
    """The whole of params.yaml."""

    seed: Annotated[int, _whole(0, 2**32 - 1)]
    fetch: FetchParams
    prepare: PrepareParams
    train: TrainParams
    evaluate: EvaluateParams
    compare: CompareParams
    confusion: ConfusionParams
    models: dict[str, ModelParams]

    def model(self, name: str) -> ModelParams:
        """The block of one model.

        Raises:
            UserError: there is no such model.
        """
        if name not in self.models:
            known = ", ".join(self.models) or "none"
            raise UserError(f"no model named {name!r} in params.yaml; there are: {known}")
        return self.models[name]

    def threads(self, name: str) -> int:
        """CPU threads that a model trains on: its own number, or the one for all."""
        return self.model(name).threads or self.train.threads


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
    except (YAMLError, ValueError, LookupError, RecursionError) as error:  # ruamel lets some of its own through
        raise UserError(f"{path} is not valid YAML: {_in_one_line(error)}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path} must hold keys such as `seed: 42`, not {_shown(tree)}")

    blocks = {str(key): value for key, value in tree.items() if MODEL_NAME.fullmatch(str(key))}
    rest = {key: value for key, value in tree.items() if str(key) not in blocks}
    models = {name: _read(ModelParams, blocks[name], name, path) for name in sorted(blocks, key=_number)}
    return _read(Params, rest, "", path, models=models)


def _read(kind: type[Block], tree: Any, prefix: str, path: str | Path, **given: Any) -> Block:
    """Build dataclass `kind` from the mapping `tree` found at key `prefix`; `given` fields are taken as they are."""
    if not isinstance(tree, Mapping):
        raise UserError(f"{path}: {prefix} is {_shown(tree)}; it must be a block of keys")
    hints = get_type_hints(kind, include_extras=True)
    expected = {spec.name: spec for spec in fields(kind) if spec.name not in given}  # type: ignore[arg-type]

    for key in tree:
        if key not in expected:
            near = difflib.get_close_matches(str(key), [*expected, *given.get("models", ())], n=1)
            advice = f"did you mean {near[0]}?" if near else "known here: " + ", ".join(expected)
            raise UserError(f"{path}: unknown key {_join(prefix, key)}; {advice}")

    values = dict(given)
    for name, spec in expected.items():
        full_name, hint = _join(prefix, name), hints[name]
        if name not in tree:
            if spec.default is MISSING:
                raise UserError(f"{path}: {full_name} is missing; the comments in params.yaml say what it takes")
        elif isinstance(hint, type):  # a block within the block
            values[name] = _read(hint, tree[name], full_name, path)
        else:
            (check,) = hint.__metadata__
            try:
                values[name] = check(tree[name])
            except (ValueError, TypeError) as allowed:
                raise UserError(f"{path}: {full_name} is {_shown(tree[name])}; it must be {allowed}") from None
    return kind(**values)


def _join(prefix: str, key: object) -> str:
    name = str(key) if str(key).isprintable() and str(key) else repr(key)
    return f"{prefix}.{name}" if prefix else name


def _shown(value: object) -> str:
    """The value as it can be printed in one short line."""
    try:
        return f"{value!r:.60}"
    except ValueError:  # Python refuses to write out a whole number of more than 4,300 digits
        return "a number of thousands of digits"


def _number(name: str) -> int:
    return int(name.removeprefix("model_"))


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())
