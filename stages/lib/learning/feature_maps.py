"""What each layer of a model makes of some images: its feature maps.

Shapes: N images, C channels, H x W pixels, K classes.
"""

from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class LayerOutput:
    """One call of a layer: what went in, what came out, for all images."""

    name: str  # as in the state_dict, such as block_1.0; a second call of that layer is block_1.0 (2)
    module: nn.Module
    before: Tensor
    after: Tensor
    channels_last: bool = False  # what comes out is [N, H, W, C]

    def maps(self, images: int) -> Tensor | None:
        """Return what comes out for so many images as maps `[N, C, H, W]` or features `[N, C]`; None if it is none."""
        if self.after.ndim not in (2, 4) or len(self.after) != images:
            return None
        return self.after.movedim(-1, 1) if self.channels_last else self.after


@torch.inference_mode()
def record_outputs(model: nn.Module, images_NCHW: Tensor) -> tuple[list[LayerOutput], Tensor]:
    """Run images in [0, 1] through `model`; return its layers at work, in the order they run, and the logits `[N, K]`.

    Layers are the innermost modules. What runs without one, such as `torch.relu` or a sum, is not listed.
    """
    outputs: list[LayerOutput] = []
    inputs: list[Tensor] = []
    calls = Counter[str]()

    # Copies: ReLU(inplace=True) overwrites the output of the convolution before it.
    def keep_input(_: nn.Module, arguments: tuple[Any, ...]) -> None:
        inputs.append(_copy(arguments[0] if arguments else None))

    def keep_output(name: str, module: nn.Module, _: tuple[Any, ...], output: Any) -> None:
        calls[name] += 1
        again = f" ({calls[name]})" if calls[name] > 1 else ""
        before = inputs.pop()
        goes_on = bool(outputs) and outputs[-1].channels_last and torch.equal(before, outputs[-1].after)
        outputs.append(LayerOutput(name + again, module, before, _copy(output), goes_on or _on_last(module)))

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


def _on_last(module: nn.Module) -> bool:
    """Tell whether a layer takes the last dimension for the channels, whatever is before it."""
    return isinstance(module, nn.Linear) or len(getattr(module, "normalized_shape", ())) == 1  # LayerNorm and the like


def _copy(value: Any) -> Tensor:
    return value.clone() if isinstance(value, Tensor) else torch.empty(0)
