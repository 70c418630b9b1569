"""Training images varied at random, batch by batch, on the device that holds them.

The numbers are drawn on the CPU, by a generator of their own and for the whole batch: the order of the batches stays as
it is without, and the images are the same on every device and on any number of processes.
torchvision's transforms would draw once for a whole batch, and importing them takes a second.

Shapes: B images of one batch, C channels, H x W pixels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from stages.lib.learning.distributed import World

SHIFT = 2  # pixels at most, up or down and to either side; what comes in at the edge is black
ERASED = 8  # pixels of a side of the square that is made black, in every other image; at most half the image's side


class Augmentation:
    """Changes batches of images by what is in `kinds`: flip, shift, erase. Without any it leaves them as they are."""

    def __init__(self, kinds: Sequence[str], seed: int, world: World) -> None:
        self.kinds = kinds
        self.world = world
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, images_BCHW: Tensor, size: int) -> Tensor:
        """Return the slice of a batch that this process has, varied; `size` is that of the whole batch."""
        for kind in self.kinds:
            images_BCHW = VARY[kind](images_BCHW, self._draw(size).to(images_BCHW.device))
        return images_BCHW

    def _draw(self, size: int) -> Tensor:
        """Return three numbers from [0, 1) for each image of this process."""
        drawn_B3 = torch.rand(size, 3, generator=self.generator)
        return drawn_B3.tensor_split(self.world.size)[self.world.rank]


def flip(images_BCHW: Tensor, drawn_B3: Tensor) -> Tensor:
    """Mirror every other image, left to right."""
    return torch.where(drawn_B3[:, 0, None, None, None] < 0.5, images_BCHW.flip(3), images_BCHW)


def shift(images_BCHW: Tensor, drawn_B3: Tensor) -> Tensor:
    """Move each image by whole pixels."""
    images, channels, height, width = images_BCHW.shape
    offsets_B2 = (drawn_B3[:, :2] * (2 * SHIFT + 1)).long()
    rows_BH = offsets_B2[:, :1] + torch.arange(height, device=images_BCHW.device)
    columns_BW = offsets_B2[:, 1:] + torch.arange(width, device=images_BCHW.device)
    image_B = torch.arange(images, device=images_BCHW.device)[:, None, None, None]
    channel_C = torch.arange(channels, device=images_BCHW.device)[:, None, None]
    return pad(images_BCHW, [SHIFT] * 4)[image_B, channel_C, rows_BH[:, None, :, None], columns_BW[:, None, None, :]]


def erase(images_BCHW: Tensor, drawn_B3: Tensor) -> Tensor:
    """Make a square of every other image black."""
    height, width = images_BCHW.shape[2:]
    inside = []
    for drawn_B, side in ((drawn_B3[:, 0], height), (drawn_B3[:, 1], width)):
        erased = min(ERASED, side // 2)
        first_B1 = (drawn_B[:, None] * (side - erased + 1)).long()
        place = torch.arange(side, device=images_BCHW.device)
        inside.append((first_B1 <= place) & (place < first_B1 + erased))
    square_BHW = inside[0][:, :, None] & inside[1][:, None, :] & (drawn_B3[:, 2, None, None] < 0.5)
    return images_BCHW.masked_fill(square_BHW[:, None], 0)


VARY = {"flip": flip, "shift": shift, "erase": erase}
