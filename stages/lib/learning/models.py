"""Models: built from their architecture, saved, and loaded again.

An architecture is a file in `stages/architectures/` with a function `build(input_shape, hidden_units, num_classes)`. It
returns an `nn.Module`, which maps float32 images `[N, *input_shape]` in [0, 1] to float32 logits `[N, num_classes]`.
What else `build` takes are its settings: keyword arguments with a type and a default.

Shapes: N images, K classes, C channels, H x W pixels.
"""

import ast
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_type_hints

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from stages.lib.base.errors import Outdated, UserError
from stages.lib.base.lock import LOCK, edited_since, is_output, recorded
from stages.lib.base.params import ARCHITECTURES, MOST_HIDDEN_UNITS, ModelParams, architectures
from stages.lib.base.tensors import load_tensors, save_tensors
from stages.lib.data.datasets import Split, about_data

Shape = tuple[int, int, int]  # of an image: channels, height, width

MOST_PIXELS = 3 * 1024 * 1024  # of an image, in all its channels: what a damaged file may ask for is bounded
NO_SETTINGS: Mapping[str, Any] = MappingProxyType({})
NOT_NOTICED = "and DVC would not notice when that changes; write all of the architecture into its own file"


def build_model(
    arch: str, input_shape: Shape, hidden_units: int, num_classes: int, settings: Mapping[str, Any] = NO_SETTINGS
) -> nn.Module:
    """Build the architecture in `stages/architectures/<arch>.py`, its weights drawn from torch's global generator.

    Whatever that file itself raises is passed on: its traceback says best what is wrong with it.

    Raises:
        UserError: the file imports other files of the project, `settings` are not what its `build` takes, or what it
            builds is no model as described above.
    """
    file = f"stages/architectures/{arch}.py"
    refuse_project_imports(ARCHITECTURES / f"{arch}.py")
    before = set(sys.modules)
    build = builder_of(arch)
    if settings:
        check_settings(file, build, settings)
    try:
        model: nn.Module = build(input_shape, hidden_units, num_classes, **settings)
    except (RuntimeError, ValueError) as error:  # such as a kernel larger than the image
        if not settings:
            raise
        raise UserError(f"{file} cannot be built with the settings {dict(settings)}: {error}") from None
    if problem := _find_problem(model, input_shape, num_classes) or _find_import(before, ARCHITECTURES / f"{arch}.py"):
        raise UserError(f"{file}: {problem}")
    return model


def builder_of(arch: str) -> Callable[..., nn.Module]:
    """Return the function `build` of an architecture, as its file was when it was first asked for."""
    build: Callable[..., nn.Module] = import_module(f"stages.architectures.{arch}").build
    return build


def check_settings(file: str, build: Callable[..., nn.Module], settings: Mapping[str, Any]) -> None:
    """Check that `build` takes `settings`, and that each value is of the type that it says.

    Raises:
        UserError: names the file and the setting.
    """
    known = _settings_of(build)
    for name, value in settings.items():
        if name not in known:
            takes = ", ".join(known) or "no settings"
            raise UserError(f"{file} has no setting {name}; it takes: {takes}")
        try:
            TypeAdapter(get_type_hints(build).get(name, Any), config={"strict": True}).validate_python(value)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise UserError(f"{file}: the setting {name} is {value!r}; {first['msg'].lower()}") from None


def _settings_of(build: Callable[..., nn.Module]) -> dict[str, Any]:
    """Return the default of each setting that `build` takes; it takes shape, units and classes besides."""
    return {name: each.default for name, each in list(signature(build).parameters.items())[3:]}


def refuse_project_imports(file: Path) -> None:
    """Refuse an architecture that imports other files of the project.

    DVC knows an architecture by its one file: an edit of another file that it imports would rerun nothing, and the old
    results would stand beside the new code.

    Raises:
        UserError: names the line and the import.
    """
    project = ARCHITECTURES.parents[1]
    for line, name in _imports(ast.parse(file.read_bytes(), str(file))):
        top = name.split(".")[0]
        if not top or (project / top).is_dir() or (project / f"{top}.py").is_file():
            raise UserError(f"stages/architectures/{file.name}, line {line}: it imports {name}, {NOT_NOTICED}")


def files_read_by(arch: str) -> list[str]:
    """Return the files of the project that the code of an architecture names, such as weights to begin with."""
    tree = ast.parse((ARCHITECTURES / f"{arch}.py").read_bytes(), f"{arch}.py")
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    starts = (Path.cwd(), ARCHITECTURES)
    # Of a path that is put together, folder and file are texts of their own.
    within = {start / text for text in texts for start in starts if os.path.isdir(start / text)}  # noqa: PTH112 - likewise
    places = {os.path.relpath(folder / text) for text in texts for folder in within.union(starts)}
    files = {place for place in places if os.path.isfile(place)}  # noqa: PTH113 - Path fails where a text is too long
    return sorted(file for file in files if not file.startswith(os.pardir))


def _imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and module of each import; the module of a relative import starts with a dot."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or "")


def _find_import(before: set[str], file: Path) -> str | None:
    """Find a file of the project that the architecture in `file` has imported by other means than an import statement.

    `before` names the modules that were there already: those belong to the stage, and DVC knows them.
    """
    project = ARCHITECTURES.parents[1]
    new = {Path(str(getattr(module, "__file__", None))) for name, module in sys.modules.items() if name not in before}
    for other in new - {file, file.with_name("__init__.py")}:
        if other.is_relative_to(project) and not other.is_relative_to(sys.prefix):
            return f"it imports {other.relative_to(project)}, {NOT_NOTICED}"
    return None


@torch.no_grad()
def _find_problem(model: Any, input_shape: Shape, num_classes: int) -> str | None:
    """Run two images through the model in evaluation mode: no statistic changes, and nothing may be drawn."""
    if not isinstance(model, nn.Module):
        return f"build returns {type(model).__name__}, not an nn.Module"
    if next(model.parameters(), None) is None:
        return "the model has no weights to train"
    model.eval()
    pixels = math.prod(input_shape)
    images_NCHW = torch.stack([torch.full((pixels,), 0.5), torch.linspace(0, 0.8, pixels)]).reshape(2, *input_shape)
    one, two, again = (model(images_NCHW[:count].clone()) for count in (1, 2, 2))
    model.train()
    if problem := find_fault(one, 1, num_classes) or find_fault(two, 2, num_classes):
        return problem
    if not torch.allclose(two, again, equal_nan=True):
        return "in evaluation it gives other logits for the same images again; does it draw random numbers there?"
    if not torch.allclose(one, two[:1], rtol=1e-3, atol=1e-4, equal_nan=True):
        return "in evaluation the logits of an image depend on the others in its batch"
    return None


def find_fault(logits: Any, images: int, num_classes: int) -> str | None:
    """Say what is wrong with the logits that a model gives for a batch of `images`; None if nothing is."""
    given = type(logits).__name__
    if isinstance(logits, Tensor):
        given = f"{logits.dtype} {list(logits.shape)}".removeprefix("torch.")
    wanted = f"float32 [{images}, {num_classes}]"
    return None if given == wanted else f"for a batch of {images} the model gives {given}, not logits {wanted}"


@contextmanager
def kept_as_it_is(model: nn.Module) -> Iterator[None]:
    """Put weights and statistics back as they were before the block, into the same tensors."""
    state = [*model.parameters(), *model.buffers()]
    before = [values.detach().clone() for values in state]
    yield
    with torch.no_grad():
        for values, value_before in zip(state, before, strict=True):
            values.copy_(value_before)


@dataclass(frozen=True)
class Checkpoint:
    """A trained model and what is known of it."""

    model: nn.Module
    name: str  # model_0, model_1, ...
    arch: str
    input_shape: Shape
    hidden_units: int
    settings: dict[str, Any]  # of the architecture; those with their default value left out
    memory_format: str
    class_names: tuple[str, ...]
    source: str  # of the images that it was trained on: fetch.source
    data_set: str  # their name for people
    brought: dict[str, Any]  # how pictures were brought to its input shape; empty for those published in it


def save_checkpoint(path: str | Path, model: nn.Module, name: str, params: ModelParams, train: Split) -> None:
    """Write the weights of `model`, contiguous and on the CPU, and all that is needed to build and to use it again."""
    # Copies, because safetensors refuses tensors that share memory, as those of layers that share their weights do.
    weights = {
        key: value.cpu().clone(memory_format=torch.contiguous_format) for key, value in model.state_dict().items()
    }
    about: dict[str, Any] = {
        "name": name,
        "arch": params.arch,
        "hidden_units": params.hidden_units,
        "memory_format": params.memory_format,
        "input_shape": list(train.image_shape),
        **about_data(train),
    }
    if settings := _changed_settings(params):
        about["settings"] = settings
    save_tensors(path, weights, about)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Build the model again from its file alone: on the CPU, contiguous, in evaluation mode.

    Raises:
        UserError: the file is missing, damaged, no model of ours, or of an architecture that has changed since.
    """
    weights, about = load_tensors(path)
    match about:
        case {
            "name": str(name),
            "arch": str(arch),
            "hidden_units": int(hidden_units),
            "memory_format": str(memory_format),
            "input_shape": [int(channels), int(height), int(width)],
            "class_names": [_, *_] as class_names,
            "source": str(source),
            "data_set": str(data_set),
            "brought": dict(brought),
        } if (
            hidden_units is not True  # which Python takes for 1
            and 0 < hidden_units <= MOST_HIDDEN_UNITS
            and all(0 < size <= MOST_PIXELS and size is not True for size in (channels, height, width))
            and channels * height * width <= MOST_PIXELS
            and all(isinstance(class_name, str) for class_name in class_names)
            and isinstance(settings := about.get("settings", {}), dict)
        ):
            pass
        case _:
            raise Outdated(path, "holds no model")
    if arch not in architectures():
        raise UserError(f"{path} is a {arch!r}; stages/architectures has no such file")
    shape = (channels, height, width)
    model = build_model(arch, shape, hidden_units, len(class_names), settings)
    try:
        model.load_state_dict(weights)
        same_types = all(values.dtype == weights[key].dtype for key, values in model.state_dict().items())
    except RuntimeError:  # other layers or shapes
        same_types = False
    if not same_types:
        raise Outdated(path, f"does not fit stages/architectures/{arch}.py")
    model.eval()
    return Checkpoint(
        model, name, arch, shape, hidden_units, settings, memory_format, tuple(class_names), source, data_set, brought
    )


def warn_if_edited(path: str | Path, checkpoint: Checkpoint) -> None:
    """Say on stderr if, by dvc.lock, the model in `path` may have been trained with another architecture.

    Weights may fit an edited architecture too, and then mean something else.
    """
    file = f"stages/architectures/{checkpoint.arch}.py"
    run = recorded(f"train_{checkpoint.name}", path)
    if edited_since(run, file):
        what, mend = f"{file} was edited since {checkpoint.name} was trained", "run `dvc repro`"
    elif run or not Path(LOCK).exists():
        return
    elif is_output(path):
        what, mend = f"{path} is not the {checkpoint.name} that dvc.lock records", "run `dvc checkout`, or `dvc repro`"
    else:
        what, mend = f"dvc.lock does not know {path}", f"was it trained with {file} as that is now?"
    print(f"warning: {what}; what the model answers may be wrong: {mend}", file=sys.stderr)


def _changed_settings(params: ModelParams) -> dict[str, Any]:
    """Return the settings that are not the architecture's defaults: a default, said or not, makes the same model."""
    if not params.settings:
        return {}
    defaults = _settings_of(builder_of(params.arch))
    return {name: value for name, value in params.settings.items() if value != defaults[name]}
