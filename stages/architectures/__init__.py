"""One file per architecture. Each has a function `build(hidden_units, num_classes)` that returns its `nn.Module`.

Every model takes float32 images `[N, 1, 28, 28]` in [0, 1] and returns float32 logits `[N, num_classes]`.
"""

import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stages.lib.errors import UserError


def build_model(arch: str, hidden_units: int, num_classes: int) -> nn.Module:
    """Build the architecture in `stages/architectures/<arch>.py`, its weights drawn from torch's global generator.

    Raises:
        UserError: the file cannot be run, or what it builds is no model as above; names the line where there is one.
    """
    file = Path(__file__).with_name(f"{arch}.py")
    try:
        model: nn.Module = import_module(f"{__name__}.{arch}").build(hidden_units, num_classes)
        _try_out(model, num_classes)
    except Exception as error:  # whatever goes wrong in a file that users write
        what = " ".join(str(error).split())
        raise UserError(
            f"stages/architectures/{file.name}{_line(error, file)}: {type(error).__name__}: {what}"
        ) from None
    return model


@torch.no_grad()
def _try_out(model: Any, num_classes: int) -> None:
    """Run one black image through the model, in evaluation mode: no statistic changes, nothing is drawn."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"build returns {type(model).__name__}, not an nn.Module")
    weights = next(model.parameters(), None)
    if weights is None:
        raise ValueError("the model has no weights to train")
    if weights.is_meta:  # only its shapes are wanted, and torch takes a second to import what runs without values
        return
    logits = model.eval()(torch.zeros(1, 1, 28, 28))
    model.train()
    if not isinstance(logits, Tensor) or logits.shape != (1, num_classes):
        shape = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"for one image the model gives {shape}, not logits [1, {num_classes}]")


def _line(error: Exception, file: Path) -> str:
    """The last line of `file` that led to the error."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename) == file]
    if isinstance(error, SyntaxError):
        lines = [error.lineno]
    return f", line {lines[-1]}" if lines else ""
