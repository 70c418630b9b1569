"""Add a model to the pipeline: `make model NAME=model_3 ARCH=resnet`.

Writes its block into params.yaml, and its stage and its few dependencies into dvc.yaml; prints what changed. The
architecture must be there already: a file in `stages/architectures/`. Lines are only added: ruamel.yaml says where
blocks begin and end, and all other lines stay as they are.
"""

import difflib
import re
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stages.commands.yaml_files import PARAMS, PIPELINE, load_yaml
from stages.lib.base.errors import UserError, exit_cleanly
from stages.lib.base.files import write_text
from stages.lib.base.params import MODEL_NAME, architectures, load_params

HYPERPARAMETERS = {"hidden_units": 10, "epochs": 3, "batch_size": 32, "lr": 0.1}  # the lecture's


def main() -> None:
    """Check, edit both files in memory, write, show the difference."""
    name, arch = parse_arguments()
    params, pipeline = load_yaml(PARAMS), load_yaml(PIPELINE)
    check(name, arch, pipeline)
    old_params, old_pipeline = read_lines(PARAMS), read_lines(PIPELINE)
    new = [new_stage(pipeline, name, old_pipeline), *new_dependencies(pipeline, name, old_pipeline)]
    edits = {
        PARAMS: (old_params, insert(old_params, [new_block(params, name, arch, old_params)])),
        PIPELINE: (old_pipeline, insert(old_pipeline, new)),
    }
    for path, (before, after) in edits.items():
        write_text(path, "".join(after))
        old, now = ([line.rstrip() for line in lines] for lines in (before, after))
        print(*difflib.unified_diff(old, now, f"a/{path}", f"b/{path}", lineterm="", n=1), sep="\n")
    print(f"\n{name} is part of the pipeline now: `dvc repro` trains it, and no other model")


def check(name: str, arch: str, pipeline: Any) -> None:
    """Refuse a name that is taken or no model's, an architecture that is not there, a project without any model.

    Raises:
        UserError: says which.
    """
    if not MODEL_NAME.fullmatch(name):
        raise UserError(f"NAME is {name!r}; models are called model_3, model_4 and so on")
    models = load_params(PARAMS).models
    if name in models or f"train_{name}" in pipeline["stages"]:
        raise UserError(f"there is a {name} already; NAME must be new")
    if not models:
        raise UserError(f"{PARAMS} has no model beside which another could stand; restore it from git")
    if arch not in architectures():
        raise UserError(f"there is no stages/architectures/{arch}.py; ARCH is one of {', '.join(architectures())}")


Insertion = tuple[int, list[str]]  # the number of the line before which lines are inserted, and these lines


def new_block(params: Any, name: str, arch: str, lines: list[str]) -> Insertion:
    """Return the block of `name`, to stand below those of the other models."""
    _, end = extent(params, lambda key: bool(MODEL_NAME.fullmatch(key)), lines)
    values = {"arch": arch, **HYPERPARAMETERS}
    return end, ["\n", f"{name}:\n", *(f"  {key}: {value}\n" for key, value in values.items())]


def new_stage(pipeline: Any, name: str, lines: list[str]) -> Insertion:
    """Return the stage that trains `name`: the last training stage with another name."""
    last = last_trained(pipeline)
    start, end = extent(pipeline["stages"], lambda key: key == f"train_{last}", lines)
    return end, ["\n", *(renamed(line, last, name) for line in lines[start:end])]


def new_dependencies(pipeline: Any, name: str, lines: list[str]) -> list[Insertion]:
    """Return the inputs of evaluate and compare that differ from those of another model in its name alone.

    Raises:
        UserError: there are none, or they do not stand one to a line.
    """
    last = last_trained(pipeline)
    found: list[Insertion] = []
    for stage in ("evaluate", "compare"):
        deps = pipeline["stages"][stage]["deps"]
        numbers = [deps.lc.item(position)[0] for position in range(len(deps))]
        new = [(number + 1, [renamed(lines[number], last, name)]) for number in numbers]
        new = [(number, line) for number, line in new if line != [lines[number - 1]]]
        if not new or len(set(numbers)) < len(deps):
            raise UserError(f"{PIPELINE}: the deps of {stage} must name {last}, and stand one to a line")
        found += new
    return found


def last_trained(pipeline: Any) -> str:
    """Return the model of the last training stage."""
    return [str(key) for key in pipeline["stages"] if key.startswith("train_")][-1].removeprefix("train_")


def extent(tree: Any, wanted: Callable[[str], bool], lines: list[str]) -> tuple[int, int]:
    """Return where the last entry of a mapping whose key is `wanted` starts, and the line after its end.

    Comments and blank lines above the next entry belong to that one.
    """
    start = max(tree.lc.key(key)[0] for key in tree if wanted(key))
    indent = len(lines[start]) - len(lines[start].lstrip())
    end = start + 1
    while end < len(lines) and not re.match(rf" {{0,{indent}}}[^\s#]", lines[end]):
        end += 1
    while not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#"):
        end -= 1
    return start, end


def renamed(text: str, old: str, new: str) -> str:
    """Replace the name of a model."""
    return re.sub(rf"{old}(?!\d)", new, text)


def insert(lines: list[str], insertions: list[Insertion]) -> list[str]:
    """Return `lines` with the others in their places, and with the line ends that the file has."""
    newline = "\r\n" if lines[0].endswith("\r\n") else "\n"
    after = [line if line.endswith("\n") else line + newline for line in lines]
    for number, new in sorted(insertions, reverse=True):
        after[number:number] = [line.rstrip("\r\n") + newline for line in new]
    return after


def read_lines(path: Path) -> list[str]:
    """Return the lines of a file, each with its line end."""
    with path.open(encoding="utf-8", newline="") as file:
        return file.read().splitlines(keepends=True)


def parse_arguments() -> tuple[str, str]:
    """Return the names of the model and of its architecture from the command line."""
    parser = ArgumentParser(prog="python -m stages.commands.add_model", description="Add a model to the pipeline.")
    parser.add_argument("name", metavar="NAME", help="of the new model, such as model_3")
    parser.add_argument("arch", metavar="ARCH", help="a file in stages/architectures, such as resnet")
    options = parser.parse_args()
    return options.name, options.arch


if __name__ == "__main__":
    exit_cleanly("model", main)
