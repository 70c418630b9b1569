"""Models on disk: weights together with all that is needed to build the model again."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stages.architectures import build_model
from stages.lib.errors import UserError
from stages.lib.params import ModelParams, architectures
from stages.lib.tensors import load_tensors, save_tensors


@dataclass(frozen=True)
class Checkpoint:
    """A trained model and what is known of it."""

    model: nn.Module
    name: str  # model_0, model_1, ...
    arch: str
    memory_format: str
    class_names: tuple[str, ...]


def save_checkpoint(
    path: str | Path, model: nn.Module, name: str, params: ModelParams, class_names: tuple[str, ...]
) -> None:
    """Write the weights of `model`, contiguous and on the CPU, and its description."""
    # Copies, because safetensors refuses tensors that share memory, as those of layers that share their weights do.
    weights = {
        key: value.cpu().clone(memory_format=torch.contiguous_format) for key, value in model.state_dict().items()
    }
    about: dict[str, Any] = {
        "name": name,
        "arch": params.arch,
        "hidden_units": params.hidden_units,
        "memory_format": params.memory_format,
        "class_names": list(class_names),
    }
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
            "class_names": [*class_names],
        } if 0 < hidden_units < 2**31:
            pass
        case _:
            raise UserError(f"{path} holds no model; run `dvc repro` to train it again")
    if arch not in architectures():
        raise UserError(f"{path} is a {arch!r}; stages/architectures has no such file")
    try:
        with torch.device("meta"):  # takes no memory: the file may promise more than there is
            build_model(arch, hidden_units, len(class_names)).load_state_dict(weights, assign=True)
        model = build_model(arch, hidden_units, len(class_names))
        model.load_state_dict(weights)
    except RuntimeError:  # other layers or shapes
        raise UserError(f"{path} does not fit stages/architectures/{arch}.py; train it again") from None
    model.eval()
    return Checkpoint(model, name, arch, memory_format, tuple(class_names))
