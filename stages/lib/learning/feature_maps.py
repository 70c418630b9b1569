"""What each layer of a model makes of some images: its feature maps.

Shapes: N images, C channels, H x W pixels, K classes.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class LayerOutput:
    """One call of a layer: what went in, what came out, for all images."""

    name: str  # as in the state_dict, such as block_1.0
    module: nn.Module
    before: Tensor
    after: Tensor


@torch.inference_mode()
def record_outputs(model: nn.Module, images_NCHW: Tensor) -> tuple[list[LayerOutput], Tensor]:
    """Run images in [0, 1] through `model`; return its layers at work, in the order they run, and the logits `[N, K]`.

    Layers are the innermost modules. What runs without one, such as `torch.relu` or a sum, is not listed.
    """
    outputs: list[LayerOutput] = []
    inputs: list[Tensor] = []

    # Copies: ReLU(inplace=True) overwrites the output of the convolution before it.
    def keep_input(_: nn.Module, arguments: tuple[Any, ...]) -> None:
        inputs.append(_copy(arguments[0] if arguments else None))

    def keep_output(name: str, module: nn.Module, _: tuple[Any, ...], output: Any) -> None:
        outputs.append(LayerOutput(name, module, inputs.pop(), _copy(output)))

    layers = [(name, module) for name, module in model.named_modules() if not list(module.children())]
    hooks = [module.register_forward_pre_hook(keep_input) for _, module in layers]
    hooks += [module.register_forward_hook(partial(keep_output, name)) for name, module in layers]
    training = model.training
    try:
        logits_NK: Tensor = model.eval()(images_NCHW)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return outputs, logits_NK


def _copy(value: Any) -> Tensor:
    return value.clone() if isinstance(value, Tensor) else torch.empty(0)
