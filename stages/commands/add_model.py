"""Add a model to the pipeline: `make model NAME=model_3 ARCH=resnet`.

Writes its block into params.yaml, and its stage and its few dependencies into dvc.yaml; prints what changed. The
architecture must be there already: a file in `stages/architectures/`.
"""

import difflib
import re
from argparse import ArgumentParser
from copy import deepcopy
from pathlib import Path
from typing import Any

from ruamel.yaml.comments import CommentedMap

from stages.commands.yaml_files import dump_yaml, load_yaml
from stages.lib.base.errors import UserError, exit_cleanly
from stages.lib.base.files import write_text
from stages.lib.base.params import MODEL_NAME, architectures, load_params

PARAMS, PIPELINE = Path("params.yaml"), Path("dvc.yaml")
HYPERPARAMETERS = {"hidden_units": 10, "epochs": 3, "batch_size": 32, "lr": 0.1}  # the lecture's


def main() -> None:
    """Check, edit both files in memory, write, show the difference."""
    name, arch = parse_arguments()
    params, pipeline = load_yaml(PARAMS), load_yaml(PIPELINE)
    check(name, arch, pipeline)
    add_block(params, name, arch)
    add_stage(pipeline["stages"], name)
    for stage in ("evaluate", "compare"):
        add_dependencies(pipeline["stages"][stage]["deps"], name)

    for path, tree in ((PARAMS, params), (PIPELINE, pipeline)):
        before, after = path.read_text(encoding="utf-8"), spaced(dump_yaml(path, tree), name)
        write_text(path, after)
        lines = before.splitlines(), after.splitlines()
        print(*difflib.unified_diff(*lines, f"a/{path}", f"b/{path}", lineterm="", n=1), sep="\n")
    print(f"\n{name} is part of the pipeline now: `dvc repro` trains it, and no other model")


def check(name: str, arch: str, pipeline: CommentedMap) -> None:
    """Refuse a name that is taken or no model's, and an architecture that is not there.

    Raises:
        UserError: says which.
    """
    if not MODEL_NAME.fullmatch(name):
        raise UserError(f"NAME is {name!r}; models are called model_3, model_4 and so on")
    if name in load_params(PARAMS).models or f"train_{name}" in pipeline["stages"]:
        raise UserError(f"there is a {name} already; NAME must be new")
    if arch not in architectures():
        raise UserError(f"there is no stages/architectures/{arch}.py; ARCH is one of {', '.join(architectures())}")


def add_block(params: CommentedMap, name: str, arch: str) -> None:
    """Insert the block of `name` into params.yaml, below those of the other models."""
    last = max(position for position, key in enumerate(params) if MODEL_NAME.fullmatch(str(key)))
    _insert_after(params, last, name, CommentedMap({"arch": arch, **HYPERPARAMETERS}))


def add_stage(stages: CommentedMap, name: str) -> None:
    """Insert the stage that trains `name` into dvc.yaml: the last training stage with another name."""
    last = max(position for position, key in enumerate(stages) if str(key).startswith("train_"))
    stage = list(stages)[last]
    _insert_after(stages, last, f"train_{name}", _renamed(stages[stage], stage.removeprefix("train_"), name))


def add_dependencies(deps: list[str], name: str) -> None:
    """Insert below each run of paths that differ in the model's name alone the path for `name`."""
    patterns = [re.sub(r"model_\d+", name, dep) for dep in deps]
    for position in range(len(deps) - 1, -1, -1):
        if patterns[position] != deps[position] and patterns[position] not in patterns[position + 1 :]:
            deps.insert(position + 1, patterns[position])


def spaced(text: str, name: str) -> str:
    """Set the new block off by one blank line on either side."""
    text = re.sub(rf"\n( *(train_)?{name}:\n)", r"\n\n\1", text)
    return re.sub(r"\n{3,}", "\n\n", text)


def _renamed(value: Any, old: str, new: str) -> Any:
    """Return a copy of a stage in which `new` stands for `old`."""
    if isinstance(value, str):
        return re.sub(rf"\b{old}\b", new, value)
    copy = deepcopy(value)
    if isinstance(value, dict):
        copy.clear()
        copy.update({_renamed(key, old, new): _renamed(item, old, new) for key, item in value.items()})
    elif isinstance(value, list):
        copy[:] = [_renamed(item, old, new) for item in value]
    return copy


def _insert_after(tree: CommentedMap, position: int, key: str, value: CommentedMap) -> None:
    following = list(tree)[position + 1]
    tree.insert(position + 1, key, value)
    tree.yaml_set_comment_before_after_key(following, before="\n")  # a blank line


def parse_arguments() -> tuple[str, str]:
    """Return the names of the model and of its architecture from the command line."""
    parser = ArgumentParser(prog="python -m stages.commands.add_model", description="Add a model to the pipeline.")
    parser.add_argument("name", metavar="NAME", help="of the new model, such as model_3")
    parser.add_argument("arch", metavar="ARCH", help="a file in stages/architectures, such as resnet")
    options = parser.parse_args()
    return options.name, options.arch


if __name__ == "__main__":
    exit_cleanly("model", main)
