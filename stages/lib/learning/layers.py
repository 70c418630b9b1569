"""What a model is made of: its layers in the order they run, with shapes, parameters and multiply-adds."""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
COUNTED = (*CONVOLUTIONS, *TRANSPOSED, nn.Linear)


@dataclass(frozen=True)
class Layer:
    """One layer at work on one image. Shapes are without the batch."""

    name: str  # as in the state_dict, such as block_1.0
    kind: str  # its class, such as Conv2d
    shape_formula: str  # settings and arithmetic that lead from the input's shape to the output's; empty for most
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    counted: bool  # False for a layer whose multiply-adds are not known here, such as a GRU


@torch.inference_mode()
def trace_layers(model: nn.Module, image_shape: tuple[int, ...]) -> list[Layer]:
    """Run one black image through `model`, on its device, and list the layers that it passes.

    Weights that several layers share count once, in the first of them. What runs without calling a layer is not listed:
    functions such as `torch.relu`, and weights that the model uses by hand.
    """
    layers: list[Layer] = []
    counted: set[Tensor] = set()

    def note(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        own = set(module.parameters(recurse=False))
        fresh = own - counted
        counted.update(fresh)
        before, after = _shape(inputs[0] if inputs else None), _shape(output)
        layers.append(
            Layer(
                name=name,
                kind=type(module).__name__,
                shape_formula=_shape_formula(module, before, after),
                input_shape=before,
                output_shape=after,
                parameters=sum(weights.numel() for weights in fresh),
                multiply_adds=multiply_adds(module, inputs, output),
                counted=isinstance(module, COUNTED) or all(weights.ndim < 2 for weights in own),
            )
        )

    hooks = [
        module.register_forward_hook(partial(note, name))
        for name, module in model.named_modules()
        if not list(module.children()) or list(module.parameters(recurse=False)) or isinstance(module, COUNTED)
    ]
    training = model.training
    try:
        model.eval()  # a single image has no batch statistics
        model(torch.zeros(1, *image_shape, device=next(model.parameters()).device))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return layers


def multiply_adds(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> int:
    """Count the multiplications, each with its addition, of a convolution or linear layer; 0 for other layers.

    The additions of a bias are not counted.
    """
    if isinstance(module, CONVOLUTIONS):
        return int(output.numel()) * (module.in_channels // module.groups) * math.prod(module.kernel_size)
    if isinstance(module, TRANSPOSED):
        return int(inputs[0].numel()) * (module.out_channels // module.groups) * math.prod(module.kernel_size)
    return int(output.numel()) * module.in_features if isinstance(module, nn.Linear) else 0


def _shape(tensor: Any) -> tuple[int, ...]:
    return tuple(tensor.shape[1:]) if isinstance(tensor, Tensor) else ()


def _shape_formula(module: nn.Module, before: tuple[int, ...], after: tuple[int, ...]) -> str:
    if isinstance(module, nn.Flatten):
        return f"{' * '.join(map(str, before))} = {math.prod(before)}"
    if not hasattr(module, "kernel_size"):
        return ""
    kernel, stride, padding = (getattr(module, key, 0) for key in ("kernel_size", "stride", "padding"))
    text = f"kernel {_each_way(kernel)}, stride {_each_way(stride)}, padding {_each_way(padding)}"
    down = [size[0] if isinstance(size, tuple) else size for size in (kernel, stride, padding)]
    if len(before) == len(after) == 3 and all(isinstance(size, int) for size in down):
        kernel, stride, padding = down
        # shown only where it holds: not with dilation, and not for a transposed convolution
        if (before[1] + 2 * padding - kernel) // stride + 1 == after[1]:
            text += f": ({before[1]} + 2 * {padding} - {kernel}) // {stride} + 1 = {after[1]}"
    return text


def _each_way(size: Any) -> str:
    """Format a size for height and width: 3 and (3, 3) as 3, (3, 5) as 3 by 5."""
    sizes = size if isinstance(size, tuple) else (size,)
    return " by ".join(map(str, sizes if len(set(sizes)) > 1 else sizes[:1]))
