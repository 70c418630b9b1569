"""The test images, changed a little: what a model has learnt shows in how it takes that.

Shapes: N images, C channels, H x W pixels.
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from stages.lib.data.datasets import Split

AS_THEY_ARE = "as they are"
NOISE_SEED, NOISE_DEVIATION = 42, 25.0  # standard deviation in grey values, a tenth of their range


def changed_images(split: Split) -> dict[str, Split]:
    """Return the images of `split` changed in several ways, by what was done to them; the labels stay."""
    images_NCHW = split.images_NCHW
    draw = torch.Generator().manual_seed(NOISE_SEED)  # on the CPU: the same noise on every device
    noise_NCHW = torch.randn(images_NCHW.shape, generator=draw).to(images_NCHW.device) * NOISE_DEVIATION
    changed = {
        "a pixel to the right": pad(images_NCHW, (1, 0, 0, 0))[..., :-1].contiguous(),
        "a pixel down": pad(images_NCHW, (0, 0, 1, 0))[..., :-1, :].contiguous(),
        "mirrored": images_NCHW.flip(-1),
        "darker by half": images_NCHW // 2,
        "brighter by half": _grey(images_NCHW * 1.5),
        "with noise": _grey(images_NCHW + noise_NCHW),
    }
    return {what: replace(split, images_NCHW=images) for what, images in changed.items()}


def _grey(values: Tensor) -> Tensor:
    """Return the nearest grey values there are."""
    return values.round().clamp(0, 255).to(torch.uint8)
