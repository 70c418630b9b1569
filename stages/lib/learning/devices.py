"""The device that computes, the layout of weights on it, and the seed of random numbers."""

import os
import random

import numpy as np
import torch
from torch import nn

from stages.lib.base.errors import UserError
from stages.lib.learning.distributed import is_distributed


def pick_device(wanted: str) -> torch.device:
    """Return the device named `wanted`; `auto` is the first there is of cuda, mps, cpu.

    Raises:
        UserError: this machine has no such device.
    """
    present = [
        name
        for name, there in {
            "cuda": torch.cuda.is_available(),
            "mps": torch.backends.mps.is_available(),
            "cpu": True,
        }.items()
        if there
    ]
    if wanted != "auto" and wanted not in present:
        raise UserError(f"train.device is {wanted}, but this machine has only {', '.join(present)}; auto picks for you")
    device = torch.device(present[0] if wanted == "auto" else wanted)
    if device.type == "cuda":
        number = int(os.environ.get("LOCAL_RANK", "0")) if is_distributed() else 0  # each process has its own
        gpus = torch.cuda.device_count()
        if number >= gpus:
            raise UserError(f"there are more processes than GPUs here; train.processes can be {gpus} at most")
        device = torch.device("cuda", number)
        torch.cuda.set_device(device)
        # cuDNN would round the inputs of convolutions to 10 bits (TF32), and add in another order each time. Products
        # of matrices would be rounded where an environment variable says so.
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.deterministic = True
    if device.type == "mps" and is_distributed():
        raise UserError("train.device mps takes one process; set train.processes to 1, or train.device to cpu")
    return device


def set_seeds(seed: int) -> None:
    """Seed all global generators: torch's, on the CPU and on every GPU, and those an architecture may draw from."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the global one is meant
    random.seed(seed)


def place(model: nn.Module, device: torch.device, memory_format: str) -> nn.Module:
    """Move `model` to `device`, its 4-d weights laid out `contiguous` or `channels_last`; convolutions follow suit."""
    layout = torch.channels_last if memory_format == "channels_last" else torch.contiguous_format
    return model.to(device).to(memory_format=layout)
