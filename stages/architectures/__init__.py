"""One file per architecture. Each has a function `build(hidden_units, num_classes)` that returns its `nn.Module`.

Every model takes float32 images `[N, 1, 28, 28]` in [0, 1] and returns float32 logits `[N, num_classes]`.
"""

from importlib import import_module

from torch import nn


def build_model(arch: str, hidden_units: int, num_classes: int) -> nn.Module:
    """Build the architecture in `stages/architectures/<arch>.py`, its weights drawn from torch's global generator."""
    model: nn.Module = import_module(f"stages.architectures.{arch}").build(hidden_units, num_classes)
    return model
