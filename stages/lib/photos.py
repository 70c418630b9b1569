"""Turn pictures from outside into what a model was trained on.

FashionMNIST was made from photos on white: cut to the garment, shrunk until its longer side has 28 pixels, put in the
middle, negated and turned to grey. For its models the same is done here to any picture, whatever its size, mode and
background, and it is said where a picture is unlike those. For a model of other pictures `prepare` has brought these to
a size, and the same is done here.

Shapes: C channels, H x W pixels.
"""

import stat
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageStat

from stages.lib.base.errors import UserError, printable
from stages.lib.source.folders import MAX_BYTES
from stages.lib.source.idx_sets import IMAGE_SHAPE
from stages.lib.source.pictures import bring, decode, plain_colours

Background = Literal["auto", "light", "dark"]

GARMENTS = ("fashion-mnist", "synthetic")  # the sources whose images are light garments on black
DIGITS = "mnist"  # the source whose images are light digits on black; people write dark ones on white
SIZE = (IMAGE_SHAPE[2], IMAGE_SHAPE[1])  # width, height, in Pillow's order
LIGHT = 128  # a background of this grey or above is light
TOLERANCE = 24  # greys this close to the background belong to it: soft shadows, the noise of JPEG
SPECK = 0.05  # of the garment's area: what lies apart from it and is smaller does not belong to it
# When a picture is unlike FashionMNIST. Of its 10,000 test images none is, and of 3,000 enlarged ones two are.
LITTLE_CONTRAST = 64  # greys; in FashionMNIST each image has more than 250
UNEVEN = {True: (0.5, 0.3), False: (0.35, 0.25)}  # parts of the border, of a picture as it is and of one that is cut
HIDDEN = 0.75  # part of the border


@dataclass(frozen=True)
class Garment:
    """A picture as the models take it."""

    pixels_HW: NDArray[np.uint8]  # 28 x 28, the garment light, the background black
    inverted: bool  # the background was light
    contrast: int  # greys between the darkest and the lightest part of the whole picture
    doubts: tuple[str, ...] = ()  # in what the picture is unlike those of FashionMNIST


@dataclass(frozen=True)
class Seen:
    """A picture as a model sees it."""

    pixels_CHW: NDArray[np.uint8]
    how: str  # it came to that, in words
    inverted: bool = False
    doubts: tuple[str, ...] = ()  # in what it is unlike the images that the model knows


def see(
    path: str | Path, source: str, shape: tuple[int, int, int], brought: dict[str, Any], background: Background = "auto"
) -> Seen:
    """Read an image file as a model sees it.

    Args:
        path: the file.
        source: where the images come from that the model was trained on.
        shape: channels, height and width of these.
        brought: how pictures were brought to that shape; empty where they were published in it.
        background: of a garment or a digit, where that is what the model knows.

    Raises:
        OSError, UserError: the file cannot be read as an image.
        UserError: it shows nothing but one colour, where a garment should be; a background where none is looked for.
    """
    if source in GARMENTS:
        garment = read_garment(path, background)
        how = "cut to the garment, shrunk and in grey" + (", inverted" if garment.inverted else "")
        return Seen(garment.pixels_HW[None], how, garment.inverted, garment.doubts)
    if source != DIGITS and background != "auto":
        raise UserError("--background is for models of garments and digits; this one takes pictures as they are")
    channels, height, width = shape
    picture = read_picture(path)
    inverted = False
    if source == DIGITS:
        grey = plain_colours(picture).convert("L")
        inverted = _ground_level(_corner_level(grey), background) >= LIGHT
        picture = ImageChops.invert(grey) if inverted else grey
    pixels_CHW = bring(picture, height, channels, brought.get("fit", "pad"))
    how = ("in colour" if channels == 3 else "in grey") + (", inverted" if inverted else "")
    return Seen(pixels_CHW, f"brought to {width} x {height} pixels, {how}", inverted)


def doubt_text(path: Path, seen: Seen) -> str:
    """Say in one line in what a picture is unlike the images that the model knows."""
    return f"{printable(str(path))} is unlike the images that the model knows: {'; '.join(seen.doubts)}"


def read_garment(path: str | Path, background: Background = "auto") -> Garment:
    """Read the garment in an image file.

    Raises:
        OSError, UserError: the file cannot be read as an image.
        UserError: it shows nothing but one colour.
    """
    garment = find_garment(read_picture(path), background)
    if garment.contrast <= TOLERANCE:
        raise UserError(f"{path} shows nothing but one colour")
    return garment


def check_file(path: str | Path) -> None:
    """Check that `path` is a file that can hold an image, without opening it.

    Raises:
        OSError: it is missing or cannot be read.
        UserError: it is empty, far too large, or no regular file (reading a pipe would wait for ever).
    """
    status = Path(path).stat()
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{path} is no regular file")
    if status.st_size == 0:
        raise UserError(f"{path} is empty")
    if status.st_size > MAX_BYTES:
        raise UserError(f"{path} is larger than {MAX_BYTES:,} bytes; make it smaller first")


def read_picture(path: str | Path) -> Image.Image:
    """Read the first frame of a PNG, JPEG, WebP, GIF or BMP file, upright, in the file's own mode.

    Raises:
        OSError: the file is missing or cannot be read.
        UserError: it is no such image, damaged, cut short, or has more than `MAX_PIXELS` pixels by its header (then
            nothing is decoded).
    """
    check_file(path)
    with Path(path).open("rb") as file:
        return decode(file, path)


def find_garment(picture: Image.Image, background: Background = "auto") -> Garment:
    """Turn a picture of any size and mode into a light garment on black, 28 x 28.

    A picture that has 28 x 28 pixels already is not scaled or cut: grey on a dark background, it stays what it is.

    The background is what the four corners show. Where they are transparent, the garment is put on black or on white,
    whichever it stands out from: a light garment on black, a dark one on white.

    Args:
        picture: as `read_picture` gives it.
        background: `light` (invert) or `dark` (do not) overrules what the corners show.
    """
    grey, alpha = _grey_and_alpha(picture)
    outline = alpha if alpha is not None and _corner_level(alpha) < LIGHT else None  # of a garment that is cut out
    ground = _ground_level(_opposite_level(grey, outline) if outline else _corner_level(grey), background)
    keep_as_is = grey.size == SIZE
    if keep_as_is:  # black or white and nothing between, so that no pixel is stretched
        ground = 255 if ground >= LIGHT else 0
    if alpha is not None:
        grey = Image.composite(grey, Image.new("L", grey.size, ground), alpha)

    # The distance from the background, stretched to 255: the grey itself on black, its negative on white. The models
    # have only seen backgrounds of exactly 0, and take a grey haze for a part of the garment.
    reach = max(ground, 255 - ground)
    light_on_black = grey.point([round(abs(level - ground) * 255 / reach) for level in range(256)])
    from_afar_HW = np.asarray(light_on_black.reduce(_reduction(grey)))
    contrast = int(np.ptp(from_afar_HW))
    doubts = [] if outline else [text for text in (_doubt_of_ground(from_afar_HW, keep_as_is),) if text]
    if not keep_as_is:
        if contrast < LITTLE_CONTRAST:
            doubts.append("it has little contrast")
        light_on_black = light_on_black if outline else _without_specks(light_on_black)
        box = _bounding_box(outline or light_on_black)
        light_on_black = _fit(light_on_black.crop(box))
        if (length := max(box[2] - box[0], box[3] - box[1])) < max(SIZE):
            doubts.append(f"the garment is only {length} pixels long")
    return Garment(np.asarray(light_on_black), ground >= LIGHT, contrast, tuple(doubts))


def preview(picture: Image.Image, longest: int = 400) -> NDArray[np.uint8]:
    """Shrink a picture to at most `longest` pixels a side, `[H, W, 3]`; what is transparent becomes light grey."""
    small = (plain_colours(picture) if picture.mode.startswith("I") else picture).convert("RGBA")
    small.thumbnail((longest, longest))
    canvas = Image.new("RGBA", small.size, (221, 221, 221, 255))
    return np.asarray(Image.alpha_composite(canvas, small).convert("RGB"))


def _grey_and_alpha(picture: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Return the picture in grey and, if it can be transparent, its opacity: both in 8 bits."""
    if picture.mode.startswith("I"):  # 16 bits of grey
        transparent = picture.info.get("transparency")  # one level that stands for "nothing here"
        alpha = None if transparent is None else Image.fromarray(np.uint8(255) * (np.asarray(picture) != transparent))
        return plain_colours(picture), alpha
    if not picture.has_transparency_data:
        return picture.convert("L"), None
    if picture.mode != "RGBA":
        picture = picture.convert("RGBA")
    return picture.convert("L"), picture.getchannel("A")


def _corner_level(image: Image.Image) -> int:
    """Return the grey of the corners: the median of each, and of these four the mean of the middle two.

    The corners and not the whole border: a garment that fills the picture touches all four sides. Of FashionMNIST's
    60,000 training images none is taken for one on a light background; by the median of the border two were.
    """
    width, height = image.size
    side = max(1, min(width, height) // 50)  # less than the narrowest margin people leave
    starts = [(left, top) for left in (0, width - side) for top in (0, height - side)]
    corners = [image.crop((left, top, left + side, top + side)) for left, top in starts]
    return round(statistics.median(ImageStat.Stat(corner).median[0] for corner in corners))


def _ground_level(seen: int, background: Background) -> int:
    """Return the grey of the background: the one that was seen, or white or black where `background` overrules it."""
    if background == "light" and seen < LIGHT:
        return 255
    if background == "dark" and seen >= LIGHT:
        return 0
    return seen


def _opposite_level(grey: Image.Image, alpha: Image.Image) -> int:
    """Return black if what is opaque is light, white if it is dark; black if nothing is opaque."""
    opaque = alpha.point([255 * (level >= LIGHT) for level in range(256)])
    return 255 if opaque.getbbox() and ImageStat.Stat(grey, opaque).mean[0] < LIGHT else 0


def _doubt_of_ground(light_on_black_HW: NDArray[np.uint8], as_it_is: bool) -> str | None:
    """Say if the border of a picture does not look like a uniform ground that a garment lies on.

    A garment may touch the border: there it is much lighter than the ground. Levels between the two are a cloth with
    folds, a shadow, a room.
    """
    width = max(1, min(light_on_black_HW.shape) // 50)
    inside_HW = np.zeros(light_on_black_HW.shape, bool)
    inside_HW[width:-width, width:-width] = True
    border_N = light_on_black_HW[~inside_HW]
    apart = float((border_N > TOLERANCE).mean())
    between = float(((border_N > TOLERANCE // 2) & (border_N <= 3 * TOLERANCE)).mean())
    most_between, most_apart = UNEVEN[as_it_is]
    if apart > HIDDEN or (between > most_between and apart > most_apart):
        return "its ground is not uniform"
    return None


def _without_specks(light_on_black: Image.Image) -> Image.Image:
    """Make black what lies apart from the garment and is much smaller, such as dust or a coin beside it."""
    from scipy import ndimage  # 0.2 s: only where it is used

    factor = _reduction(light_on_black)
    seen_HW = np.asarray(light_on_black.reduce(factor)) > TOLERANCE
    # widened, so that the straps of a sandal hang together, and so that the soft edge of the garment stays
    parts_HW, count = ndimage.label(ndimage.binary_dilation(seen_HW, iterations=max(1, max(seen_HW.shape) // 40)))
    areas = np.bincount(parts_HW[seen_HW], minlength=count + 1)
    kept = areas >= SPECK * areas.max()
    if kept.all():
        return light_on_black
    kept[0] = True  # the ground
    mask = Image.fromarray(kept[parts_HW]).convert("L")
    whole = mask.resize((mask.width * factor, mask.height * factor), Image.Resampling.NEAREST)
    return ImageChops.multiply(light_on_black, whole.crop((0, 0, *light_on_black.size)))


def _bounding_box(light_on_black: Image.Image) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of what is lighter than `TOLERANCE`; of all there is if nothing is."""
    width, height = light_on_black.size
    factor = _reduction(light_on_black)
    seen = light_on_black.reduce(factor).point([255 * (level > TOLERANCE) for level in range(256)])
    left, top, right, bottom = seen.getbbox() or (0, 0, width, height)
    return left * factor, top * factor, min(right * factor, width), min(bottom * factor, height)


def _reduction(image: Image.Image) -> int:
    """Return how many pixels to average for a view from afar: noise averages out, a single bright speck vanishes."""
    return max(1, max(image.size) // 256)


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
