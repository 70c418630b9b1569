"""Pictures from outside, made into what the models were trained on: 28 x 28 pixels, a light garment on black.

FashionMNIST was made from photos on white: cut to the garment, shrunk until its longer side has 28 pixels, put in the
middle, negated and turned to grey. The same is done here to any picture, whatever its size, mode and ground. Reading a
photo takes a fraction of a second; the largest picture allowed takes some seconds and a gigabyte of memory at most.
"""

import stat
import statistics
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, ImageStat, UnidentifiedImageError

from stages.lib.errors import UserError
from stages.lib.fashion_mnist import IMAGE_SHAPE

Background = Literal["auto", "light", "dark"]

# Named one by one: Pillow knows formats that start other programs (EPS) or are seldom used and little tested.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
MAX_PIXELS = 50_000_000
MAX_BYTES = 500_000_000  # no compression at all: 50 million pixels of 8 bytes, and some room

SIZE = (IMAGE_SHAPE[2], IMAGE_SHAPE[1])  # width, height, in Pillow's order
LIGHT = 128  # a ground of this grey or above is light
# How far from the ground a pixel is part of the garment. Soft shadows and the noise of JPEG stay below it.
TOLERANCE = 24


@dataclass(frozen=True)
class Garment:
    """A picture as the models take it."""

    pixels_HW: NDArray[np.uint8]  # 28 x 28, the garment light, the ground black
    inverted: bool  # its ground was light


def check_file(path: str | Path) -> None:
    """Make sure that `path` is a file that can hold an image, without opening it.

    Raises:
        UserError: it is missing, empty, far too large, or no regular file (reading a pipe would wait for ever).
    """
    try:
        status = Path(path).stat()
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from None
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{path} is no regular file")
    if status.st_size == 0:
        raise UserError(f"{path} is empty")
    if status.st_size > MAX_BYTES:
        raise UserError(f"{path} is larger than {MAX_BYTES:,} bytes; make it smaller first")


def read_picture(path: str | Path) -> Image.Image:
    """Read the first frame of a PNG, JPEG, WebP, GIF or BMP file, upright, in the file's own mode.

    Raises:
        UserError: the file is missing, unreadable, no such image, damaged, cut short, or has more than `MAX_PIXELS`
            pixels by its header (then nothing is decoded).
    """
    check_file(path)
    try:
        file = Path(path).open("rb")  # noqa: SIM115 - a failure to open and a failure to decode read differently
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from None

    with file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd EXIF data and of sizes that are judged below
        try:
            picture = Image.open(file, formats=FORMATS)
            too_large = picture.width * picture.height > MAX_PIXELS
            if not too_large:
                picture.load()
                ImageOps.exif_transpose(picture, in_place=True)
        except Image.DecompressionBombError:  # Pillow's own limit, which is higher
            too_large = True
        except UnidentifiedImageError:
            file.seek(0)
            if b"<svg" in file.read(4096).lower():
                raise UserError(f"{path} is an SVG drawing; export it as PNG first") from None
            raise UserError(f"{path} is no PNG, JPEG, WebP, GIF or BMP image, or is damaged") from None
        # Damaged bytes make Pillow's readers raise what they happen to stumble over: OSError, SyntaxError, ValueError,
        # struct.error, zlib.error, RuntimeError and more, without a common class.
        except Exception as error:
            raise UserError(f"{path} is damaged or cut short ({str(error) or type(error).__name__})") from None
    if too_large:
        raise UserError(f"{path} has more than {MAX_PIXELS:,} pixels; make it smaller first")
    return picture


def find_garment(picture: Image.Image, background: Background = "auto") -> Garment:
    """Make a picture of any size and mode into a light garment on black, 28 x 28.

    A picture that has 28 x 28 pixels already is not scaled or cut: grey on a dark ground, it stays what it is.

    The ground is what the four corners show. Where they are transparent, the garment is put on black or on white,
    whichever it stands out from: a light garment on black, a dark one on white.

    Args:
        picture: as `read_picture` gives it.
        background: `light` (invert) or `dark` (do not) overrules what the corners show.
    """
    grey, alpha = _grey_and_alpha(picture)
    cut_out = alpha is not None and _corner_level(alpha) < LIGHT

    if cut_out:
        assert alpha is not None
        ground = 255 if _mean_level(grey, alpha) < LIGHT else 0
    else:
        ground = _corner_level(grey)
    if background == "light" and ground < LIGHT:
        ground = 255
    elif background == "dark" and ground >= LIGHT:
        ground = 0

    keep_as_is = grey.size == SIZE
    if keep_as_is:  # black or white and nothing between, so that no pixel is stretched
        ground = 255 if ground >= LIGHT else 0
    if alpha is not None:
        grey = Image.composite(grey, Image.new("L", grey.size, ground), alpha)

    # Distance from the ground: for black the grey itself, for white its negative, for what lies between as near as can
    # be. The models have only seen grounds of exactly 0, and take a grey haze for a part of the garment.
    reach = max(ground, 255 - ground)
    light_on_black = grey.point([round(abs(level - ground) * 255 / reach) for level in range(256)])
    if not keep_as_is:
        shape = alpha if cut_out and alpha is not None else light_on_black
        light_on_black = _fit(light_on_black.crop(_bounding_box(shape)))
    return Garment(np.asarray(light_on_black), inverted=ground >= LIGHT)


def preview(picture: Image.Image, longest: int = 400) -> Image.Image:
    """Shrink a picture to at most `longest` pixels a side, in RGB; what is transparent becomes light grey."""
    if picture.mode.startswith("I"):
        picture = _grey_and_alpha(picture)[0]
    small = picture.convert("RGBA")
    small.thumbnail((longest, longest))
    ground = Image.new("RGBA", small.size, (221, 221, 221, 255))
    return Image.alpha_composite(ground, small).convert("RGB")


def _grey_and_alpha(picture: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Give the picture in grey and, if it can be transparent, its opacity: both in 8 bits."""
    if picture.mode.startswith("I"):  # 16 bits of grey, which Pillow's own conversion would clip
        levels_HW = np.asarray(picture)
        transparent = picture.info.get("transparency")  # one level that stands for "nothing here"
        alpha = None if transparent is None else Image.fromarray(np.uint8(255) * (levels_HW != transparent))
        return Image.fromarray((levels_HW >> 8).clip(0, 255).astype(np.uint8)), alpha
    if not picture.has_transparency_data:
        return picture.convert("L"), None
    if picture.mode != "RGBA":
        picture = picture.convert("RGBA")
    return picture.convert("L"), picture.getchannel("A")


def _corner_level(image: Image.Image) -> int:
    """Give the grey of the four corners: the median of each, and of these four the mean of the middle two.

    The corners and not the whole border: a garment that fills the picture touches all four sides. Of FashionMNIST's
    60,000 training images none is taken for one on a light ground; by the median of the border two were.
    """
    width, height = image.size
    side = max(1, min(width, height) // 50)  # less than the narrowest margin people leave
    starts = [(left, top) for left in (0, width - side) for top in (0, height - side)]
    corners = [image.crop((left, top, left + side, top + side)) for left, top in starts]
    return round(statistics.median(ImageStat.Stat(corner).median[0] for corner in corners))


def _mean_level(grey: Image.Image, alpha: Image.Image) -> float:
    """Give the mean grey of what is opaque; 255 if nothing is."""
    opaque = alpha.point([255 * (level >= LIGHT) for level in range(256)])
    return ImageStat.Stat(grey, opaque).mean[0] if opaque.getbbox() else 255.0


def _bounding_box(light_on_black: Image.Image) -> tuple[int, int, int, int]:
    """Give left, top, right and bottom of what is lighter than `TOLERANCE`; of all there is if nothing is."""
    width, height = light_on_black.size
    # Seen from afar: the noise of a camera averages out, and a single bright speck does not count.
    factor = max(1, max(width, height) // 256)
    seen = light_on_black.reduce(factor).point([255 * (level > TOLERANCE) for level in range(256)])
    left, top, right, bottom = seen.getbbox() or (0, 0, width, height)
    return left * factor, top * factor, min(right * factor, width), min(bottom * factor, height)


def _fit(image: Image.Image) -> Image.Image:
    """Scale to 28 pixels for the longer side, keeping the proportions, and put the result in the middle of black."""
    scale = min(SIZE[0] / image.width, SIZE[1] / image.height)
    width, height = (max(1, round(side * scale)) for side in image.size)
    # reducing_gap: averages in two steps, without which a very long picture would need gigabytes of filter weights.
    small = image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
    canvas = Image.new("L", SIZE, 0)
    # An odd pixel goes to the top and to the left, as in FashionMNIST.
    canvas.paste(small, ((SIZE[0] - width + 1) // 2, (SIZE[1] - height + 1) // 2))
    return canvas
