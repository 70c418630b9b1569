"""params.yaml, checked whole before any work.

An unknown or missing key, a wrong type or an impossible value raises `UserError` with the key's full name, the value,
and what is allowed.
"""

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo
from pydantic_core import ErrorDetails, PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer, ComposerError
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import Node

from stages.lib.base.errors import UserError

ARCHITECTURES = Path(__file__).parents[2] / "architectures"
MODEL_NAME = re.compile(r"model_(0|[1-9][0-9]*)")
MOST_HIDDEN_UNITS = 4096
UNKNOWN_KEY = {"extra_forbidden", "invalid_key"}  # pydantic's names for a key that is not known, or is no text


def architectures() -> list[str]:
    """Return the names of the files in stages/architectures/, as they are now: a new file is a new choice."""
    return sorted(file.stem for file in ARCHITECTURES.glob("[!_]*.py") if file.stem.isidentifier())


def _known_architecture(name: str) -> str:
    if name not in architectures():
        raise PydanticCustomError("architecture", f"Input should be one of {', '.join(architectures())}")
    return name


def _of_sgd(momentum: float, info: ValidationInfo) -> float:
    optimizer = info.data.get("optimizer", "sgd")
    if momentum and optimizer != "sgd":
        raise PydanticCustomError("momentum", f"Input should be left out: {optimizer} has momenta of its own")
    return momentum


def _with_momentum(nesterov: bool, info: ValidationInfo) -> bool:
    if nesterov and not info.data.get("momentum"):
        raise PydanticCustomError("nesterov", "Input should be left out, or there should be a momentum")
    return nesterov


def _each_once(kinds: list[str]) -> list[str]:
    if len(set(kinds)) < len(kinds):
        raise PydanticCustomError("augment", "Input should name each kind once")
    return kinds


Seed = Annotated[int, Field(ge=0, lt=2**32)]
Threads = Annotated[int, Field(ge=1, le=256)]
BatchSize = Annotated[int, Field(ge=1, le=65_536)]
Images = Annotated[int, Field(ge=10, le=10_000_000)]
Shown = Annotated[int, Field(ge=1, le=100)]


class Block(BaseModel):
    """A block of keys: no key more, no type converted, nothing changed afterwards."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class SyntheticParams(Block):
    """How many images the synthetic source draws."""

    train: Images
    test: Images
    seed: Seed = 42


class ImagesParams(Block):
    """Which images of one's own, pinned by their content."""

    name: str = ""
    path: str = ""
    sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    test: Annotated[float, Field(gt=0, lt=1)] = 0.2


class FetchParams(Block):
    """Where the raw files come from."""

    source: Literal["fashion-mnist", "mnist", "images", "synthetic"]
    mirrors: list[Annotated[str, Field(min_length=1)]]
    synthetic: SyntheticParams
    images: ImagesParams = ImagesParams()


class PrepareParams(Block):
    """To what images of one's own are brought; how the training images are split, and which of them are drawn."""

    image_size: Annotated[int, Field(ge=4, le=1024)] = 28
    channels: Literal[1, 3] = 1
    fit: Literal["pad", "crop"] = "pad"
    validation: Annotated[int, Field(ge=0, le=10_000_000)]
    train_images: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    seed: Seed = 42


class TrainParams(Block):
    """What the training runs on."""

    device: Literal["auto", "cpu", "cuda", "mps"]
    threads: Threads
    precision: Literal["float32", "bfloat16"] = "float32"
    processes: Annotated[int, Field(ge=1, le=256)] = 1


class ModelParams(Block):
    """One model: its architecture and hyperparameters."""

    arch: Annotated[str, AfterValidator(_known_architecture)]
    settings: dict[str, Any] = {}  # of the architecture, which knows what they must be
    hidden_units: Annotated[int, Field(ge=1, le=MOST_HIDDEN_UNITS)]
    epochs: Annotated[int, Field(ge=1, le=10_000)]
    batch_size: BatchSize
    lr: Annotated[float, Field(gt=0, le=1000)]
    memory_format: Literal["contiguous", "channels_last"] = "contiguous"
    threads: Threads | None = None
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    momentum: Annotated[float, Field(ge=0, lt=1), AfterValidator(_of_sgd)] = 0
    nesterov: Annotated[bool, AfterValidator(_with_momentum)] = False
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0
    schedule: Literal["constant", "cosine", "onecycle"] = "constant"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0
    augment: Annotated[list[Literal["flip", "shift", "erase"]], AfterValidator(_each_once)] = []
    ema: Annotated[float, Field(ge=0, lt=1)] = 0
    patience: Annotated[int, Field(ge=0, le=10_000)] = 0
    keep: Literal["last", "best"] = "last"


class EvaluateParams(Block):
    """How the test images are batched."""

    batch_size: BatchSize


class CompareParams(Block):
    """What makes a model the best."""

    by: Literal["accuracy", "loss"]


class ConfusionParams(Block):
    """How many images the pictures of the best model show, and which."""

    samples: Shown
    mistakes: Shown
    seed: Seed = 42


class Params(Block):
    """The whole of params.yaml."""

    seed: Seed  # of the trainings
    fetch: FetchParams
    prepare: PrepareParams
    train: TrainParams
    evaluate: EvaluateParams
    compare: CompareParams
    confusion: ConfusionParams
    models: dict[str, ModelParams]

    def model(self, name: str) -> ModelParams:
        """Return the block of one model.

        Raises:
            UserError: there is no such model.
        """
        if name not in self.models:
            known = ", ".join(self.models) or "none"
            raise UserError(f"no model named {name!r} in params.yaml; there are: {known}")
        return self.models[name]

    def threads(self, name: str) -> int:
        """Return the number of CPU threads that a model trains on: its own, or the one for all."""
        return self.model(name).threads or self.train.threads


class PlainComposer(Composer):
    """Refuses aliases: what a few lines of them stand for fills the memory, and `dvc exp run -S` writes it out."""

    def return_alias(self, node: Node) -> NoReturn:
        """Say where the alias stands."""
        what = f"an alias (*{node.anchor}) is not allowed; write out what it stands for, which is"
        raise ComposerError(problem=what, problem_mark=node.start_mark)


def read_yaml(yaml: YAML, path: str | Path) -> Any:
    """Read a YAML file of keys with the reader `yaml`.

    Raises:
        UserError: the file is missing, is no YAML, or has no keys.
    """
    try:
        tree = yaml.load(Path(path))
    except FileNotFoundError:
        raise UserError(f"{path} is missing; run from the project's folder, or restore it from git") from None
    except (YAMLError, ValueError, LookupError, RecursionError) as error:  # ruamel lets some of its own through
        raise UserError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path} must hold keys and values, not {_shown(tree)}")
    return tree


def load_params(path: str | Path = "params.yaml") -> Params:
    """Read and check the parameters.

    Raises:
        UserError: the file is missing or no YAML, has an alias, or a key or value is not what it must be.
    """
    yaml = YAML(typ="safe", pure=True)  # reads `1e-3` as a number, as DVC does; PyYAML reads a string
    yaml.Composer = PlainComposer
    return check_params(read_yaml(yaml, path), path)


def check_params(tree: Mapping[str, Any], path: str | Path = "params.yaml") -> Params:
    """Return the parameters that the keys and values of `tree` are.

    Raises:
        UserError: a key or value is not what it must be; it names `path`.
    """
    models = sorted((key for key in tree if MODEL_NAME.fullmatch(str(key))), key=_by_number)
    if "models" in tree:  # our own name for all blocks of models
        raise UserError(f"{path}: unknown key models; each model has a block of its own, such as model_0")
    try:
        return Params.model_validate(
            {key: value for key, value in tree.items() if key not in models}
            | {"models": {key: tree[key] for key in models}}
        )
    except ValidationError as error:
        # A misspelt key comes up twice, as unknown and as missing: unknown says more.
        first = min(error.errors(include_url=False), key=lambda each: each["type"] not in UNKNOWN_KEY)
        raise UserError(f"{path}: {_in_words(first, models)}") from None


def _in_words(error: ErrorDetails, models: list[str]) -> str:
    """Say in one line what is wrong: which key, its value, and what it should be."""
    steps = [str(step) for step in error["loc"] if step != "models"]
    name = ".".join(step if step.isprintable() and step else repr(step) for step in steps)
    if error["type"] in UNKNOWN_KEY:
        known = [key for key in _block_of(steps).model_fields if key != "models"]
        near = difflib.get_close_matches(steps[-1], [*known, *models], n=1)
        return f"unknown key {name}; " + (f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}")
    if error["type"] == "missing":
        return f"{name} is missing; the comments in params.yaml say what it takes"
    if error["type"] == "model_type":
        return f"{name} is {_shown(error['input'])}; it should be a block of keys"
    _, _, allowed = error["msg"].partition(" should ")
    return f"{name} is {_shown(error['input'])}; it should {allowed}"


def _block_of(steps: list[str]) -> type[Block]:
    """Return the kind of block that holds the last of `steps`."""
    block: Any = Params
    for step in steps[:-1]:
        block = ModelParams if MODEL_NAME.fullmatch(step) else block.model_fields[step].annotation
    return block  # type: ignore[no-any-return]


def _shown(value: object) -> str:
    """Return the value as it can be printed in one short line."""
    try:
        return f"{value!r:.60}"
    except ValueError:  # Python refuses to write out a whole number of more than 4,300 digits
        return "a number of thousands of digits"


def _by_number(name: str) -> tuple[int, str]:
    """Return what sorts model_10 behind model_9; not the number itself, which may have any number of digits."""
    return len(name), name
