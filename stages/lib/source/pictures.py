"""Bring pictures of any size and mode to one shape.

Shapes: C channels, H x W pixels.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Fit = Literal["pad", "crop"]


def bring(picture: Image.Image, image_size: int, channels: int, fit: Fit) -> NDArray[np.uint8]:
    """Bring a picture to `[C, image_size, image_size]`: what prepare does to images, and predict to a photo.

    The proportions stay. What is transparent becomes white.

    Args:
        picture: as `decode` gives it.
        image_size: height and width, in pixels.
        channels: 1 for grey, 3 for red, green and blue.
        fit: pad puts the whole picture in the middle of black; crop fills the square and cuts off what stands out.
    """
    plain = plain_colours(picture).convert("L" if channels == 1 else "RGB")
    scale = (min if fit == "pad" else max)(image_size / plain.width, image_size / plain.height)
    width, height = (max(1, round(side * scale)) for side in plain.size)
    if fit == "crop":  # before it is scaled: a very long picture would fill the memory
        side = min(plain.size)
        left, top = (plain.width - side) // 2, (plain.height - side) // 2
        plain, width, height = plain.crop((left, top, left + side, top + side)), image_size, image_size
    # reducing_gap: averages in two steps, without which a very long picture would need gigabytes of filter weights.
    small = plain.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
    square = Image.new(small.mode, (image_size, image_size))
    square.paste(small, ((image_size - width) // 2, (image_size - height) // 2))
    pixels_HWC = np.asarray(square).reshape(image_size, image_size, channels)
    return np.ascontiguousarray(pixels_HWC.transpose(2, 0, 1))


def plain_colours(picture: Image.Image) -> Image.Image:
    """Return the picture in 8 bits without transparency: on white, as most programs show it."""
    if picture.mode.startswith("I"):  # 16 bits of grey, which Pillow's own conversion would clip
        return Image.fromarray((np.asarray(picture) >> 8).clip(0, 255).astype(np.uint8))
    if not picture.has_transparency_data:
        return picture
    opaque = Image.new("RGBA", picture.size, "white")
    opaque.alpha_composite(picture.convert("RGBA"))
    return opaque.convert("RGB")
