"""Read picture files, and bring pictures of any size and mode to one shape.

Shapes: N images, C channels, H x W pixels.
"""

import hashlib
import io
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, Literal
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from stages.lib.base.errors import UserError
from stages.lib.base.process import cpus
from stages.lib.source.image_sets import Checksum

Fit = Literal["pad", "crop"]

# Named one by one: Pillow knows formats that start other programs (EPS) or are seldom used and little tested.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
MAX_PIXELS = 50_000_000
IMAGES_AT_ONCE = 1000  # handed to the threads: what waits for them costs memory


def decode(file: BinaryIO, path: str | Path) -> Image.Image:
    """Read the first frame of a PNG, JPEG, WebP, GIF or BMP file, upright, in the file's own mode.

    Args:
        file: the content.
        path: what to call it in an error.

    Raises:
        UserError: it is no such image, damaged, cut short, or has more than `MAX_PIXELS` pixels by its header (then
            nothing is decoded).
    """
    with warnings.catch_warnings():
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


def decode_packed(
    archive: ZipFile, images_NCHW: NDArray[np.uint8], places: Sequence[int], brought: dict[str, Any]
) -> str:
    """Decode the images of a zip file that `pack` wrote, on all CPUs. Returns the checksum of the set.

    Args:
        archive: the zip file.
        images_NCHW: where to write them.
        places: for each image of the zip, in its order, its index there.
        brought: image_size, channels and fit.

    Raises:
        UserError: names the first that cannot be read.
    """
    names, total = archive.namelist(), Checksum()

    def decode_one(index: int) -> str:
        content = archive.read(names[index])
        images_NCHW[places[index]] = bring(decode(io.BytesIO(content), names[index]), **brought)
        return hashlib.sha256(content).hexdigest()

    # Threads: Pillow decodes and scales outside Python's lock. Its warnings are switched off for all of them at once.
    with ThreadPoolExecutor(cpus()) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for first in range(0, len(names), IMAGES_AT_ONCE):
            some = range(first, min(first + IMAGES_AT_ONCE, len(names)))
            for index, digest in zip(some, pool.map(decode_one, some), strict=True):
                total.add_digest(names[index], digest)
    return total.hexdigest()


def plain_colours(picture: Image.Image) -> Image.Image:
    """Return the picture in 8 bits without transparency: on white, as most programs show it."""
    if picture.mode.startswith("I"):  # 16 bits of grey, which Pillow's own conversion would clip
        return Image.fromarray((np.asarray(picture) >> 8).clip(0, 255).astype(np.uint8))
    if not picture.has_transparency_data:
        return picture
    opaque = Image.new("RGBA", picture.size, "white")
    opaque.alpha_composite(picture.convert("RGBA"))
    return opaque.convert("RGB")
