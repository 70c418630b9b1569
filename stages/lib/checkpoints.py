"""Models on disk: weights together with all that is needed to build the model again."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stages.architectures import build_model
from stages.lib.errors import UserError
from stages.lib.params import ModelParams
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
    weights = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
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
    try:
        shape = about["arch"], about["hidden_units"], len(about["class_names"])
        with torch.device("meta"):  # takes no memory: the file may promise more than there is
            build_model(*shape).load_state_dict(weights, assign=True)
        model = build_model(*shape)
        model.load_state_dict(weights)
        model.eval()
        return Checkpoint(model, about["name"], about["arch"], about["memory_format"], tuple(about["class_names"]))
    except (KeyError, TypeError, AttributeError):
        raise UserError(f"{path} holds no model; run `dvc repro` to train it again") from None
    except ModuleNotFoundError:
        raise UserError(f"{path} is a {about['arch']!r}; stages/architectures has no such file") from None
    except RuntimeError:  # load_state_dict: other layers or shapes
        raise UserError(f"{path} does not fit stages/architectures/{about['arch']}.py; train it again") from None
