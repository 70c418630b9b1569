"""The test images, changed a little: what a model has learnt shows in how it takes that.

Shapes: N images, C channels, H x W pixels.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from stages.lib.data.datasets import Split

AS_THEY_ARE = "as they are"
NOISE_SEED, NOISE_DEVIATION = 42, 25.0  # standard deviation in grey values, a tenth of their range


def changed_images(split: Split) -> Iterator[tuple[str, Split]]:
    """Yield what was done to the images of `split`, and the split with its images changed so; the labels stay.

    One copy at a time: photos may take gigabytes.
    """
    images_NCHW = split.images_NCHW
    for what, change in CHANGES.items():
        yield what, replace(split, images_NCHW=change(images_NCHW))


def _grey(values: Tensor) -> Tensor:
    """Return the nearest grey values there are."""
    return values.round().clamp(0, 255).to(torch.uint8)


def _noisy(images_NCHW: Tensor) -> Tensor:
    draw = torch.Generator().manual_seed(NOISE_SEED)  # on the CPU: the same noise on every device
    noise_NCHW = torch.randn(images_NCHW.shape, generator=draw).to(images_NCHW.device)
    return _grey(images_NCHW + noise_NCHW * NOISE_DEVIATION)


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "a pixel to the right": lambda images_NCHW: pad(images_NCHW, (1, 0, 0, 0))[..., :-1].contiguous(),
    "a pixel down": lambda images_NCHW: pad(images_NCHW, (0, 0, 1, 0))[..., :-1, :].contiguous(),
    "mirrored": lambda images_NCHW: images_NCHW.flip(-1),
    "darker by half": lambda images_NCHW: images_NCHW // 2,
    "brighter by half": lambda images_NCHW: _grey(images_NCHW * 1.5),
    "with noise": _noisy,
}
