"""Drawn garments in place of FashionMNIST: the same four files, made without a network in seconds.

Ten classes of 28 x 28 garments, light on black as the real ones, each cut, patterned, placed and lit at random: so
varied that a linear model falls behind a convolutional one. The bytes depend on the seed alone. Every chunk of images
has a random generator of its own, so that an image stays the same however many are drawn after it, and pixels are
computed with the arithmetic that IEEE 754 fixes to the last bit (no power, no sum over pixels); sines alone may differ
between machines in their last bit, and are rounded to half as many.

7,000 images take a second or two on one core, 600,000 some minutes; memory stays the same for any number of them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.lib.fashion_mnist import CLASS_NAMES, IMAGE_SHAPE, TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS
from stages.lib.idx import write_idx

CHUNK = 1000  # images drawn at once, a tenth of them of each class
TRAIN, TEST = 0, 1  # which stream of random numbers

# What makes the set hard, chosen so that the lecture's three models come out in the order that they have on the real
# images. Position and size hurt the linear models most. The wide range of brightness also steadies the CNN: where a
# garment's total light gives its class away, plain SGD with lr 0.1 overshoots and ends at chance more often.
MOST_SHIFT = 3.5  # pixels, to each side
MOST_TURN = 0.15  # radians, to each side
SCALE = (0.8, 1.15)
BRIGHTNESS = (0.15, 0.95)  # of the cloth, 0 black to 1 white
DARKEST = 0.16  # no cloth is darker: it would be lost in the black around it
CONTRAST = 0.8  # of a pattern, as a part of the brightness
GRAIN = (0.0, 0.3)  # noise, as a part of the light

# Shapes: N pictures of one class, H and W 28 pixels; N11 is one number for each picture.
Array = NDArray[Any]  # float32
Points = Sequence[tuple[Array | float, Array | float]]  # x and y of corners, each for all pictures or for each one


def write_synthetic(target: Path, seed: int, train: int, test: int) -> None:
    """Write FashionMNIST's four files with drawn garments into the folder `target`.

    Classes are as equal in number as they can be, in both sets and in every first part of them.

    Args:
        target: the folder to write to; made if it is missing.
        seed: whole number from 0.
        train: number of training images.
        test: number of test images, drawn from a stream of random numbers of their own.
    """
    for split, count, images_name, labels_name in (
        (TRAIN, train, TRAIN_IMAGES, TRAIN_LABELS),
        (TEST, test, TEST_IMAGES, TEST_LABELS),
    ):
        write_idx(target / images_name, (count, *IMAGE_SHAPE[1:]), _image_chunks(seed, split, count))
        write_idx(target / labels_name, (count,), _label_chunks(seed, split, count))


def _image_chunks(seed: int, split: int, count: int) -> Iterator[NDArray[np.uint8]]:
    for number, first in enumerate(range(0, count, CHUNK)):
        rng = _generator(seed, split, number)
        yield _draw(_labels(rng), rng)[: count - first]


def _label_chunks(seed: int, split: int, count: int) -> Iterator[NDArray[np.uint8]]:
    for number, first in enumerate(range(0, count, CHUNK)):
        yield _labels(_generator(seed, split, number))[: count - first]


def _generator(seed: int, split: int, number: int) -> np.random.Generator:
    """The generator of one chunk, independent of every other one's."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(split, number)))


def _labels(rng: np.random.Generator) -> NDArray[np.uint8]:
    """The first draw of a chunk: `[CHUNK]` labels, every ten of them the ten classes in a random order."""
    classes = np.arange(len(CLASS_NAMES), dtype=np.uint8)
    return rng.permuted(np.tile(classes, (CHUNK // len(classes), 1)), axis=1).reshape(-1)


def _draw(labels_N: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw the garments `[N, 28, 28]` that the labels ask for."""
    images_NHW = np.empty((len(labels_N), *IMAGE_SHAPE[1:]), np.uint8)
    for label, draw in enumerate(GARMENTS):
        where = np.flatnonzero(labels_N == label)
        sheet = _lay(rng, len(where))
        draw(sheet)
        images_NHW[where] = sheet.photograph()
    return images_NHW


# --- the drawing tools ---------------------------------------------------------------------------------------------


@dataclass
class Sheet:
    """Pictures of one class while they are being drawn.

    A garment is cut in its own units, each a pixel long while its scale is 1: x to the right and y downwards from its
    middle, -14 to 14. Where a pixel lies in these units differs from picture to picture: so garments are moved, scaled
    and turned.
    """

    rng: np.random.Generator
    x_NHW: Array
    y_NHW: Array
    side_NHW: Array  # |x|, for what is the same on the left and on the right
    pixel_N11: Array  # the size of a pixel in the garment's units
    cloth_NHW: Array  # what the garment is made of, 0 dark to 1 light, everywhere
    light_NHW: Array  # the picture so far

    def between(self, low: float, high: float) -> Array:
        """A number for each picture, `[N, 1, 1]`."""
        return _uniform(self.rng, len(self.light_NHW), low, high)

    def sometimes(self, chance: float) -> Array:
        """1 for about this part of the pictures and 0 for the others, `[N, 1, 1]`."""
        return (self.between(0, 1) < chance).astype(np.float32)

    def paint(self, distance_NHW: Array, light: Array | float, opacity: Array | float = 1.0) -> None:
        """Lay on `light` where the distance is below 0, the edge softened over one pixel."""
        cover_NHW = np.clip(0.5 - distance_NHW / self.pixel_N11, 0, 1) * opacity
        self.light_NHW += cover_NHW * (light - self.light_NHW)

    def sew(self, distance_NHW: Array, tone: float = 1.0) -> None:
        """Paint with the cloth, darker towards the edge, as round things look."""
        self.paint(distance_NHW, self.cloth(tone) * np.clip(0.72 - 0.14 * distance_NHW, 0.72, 1))

    def cloth(self, tone: Array | float) -> Array:
        """The cloth made lighter (`tone` above 1) or darker, `[N, H, W]`."""
        return np.minimum(self.cloth_NHW * tone, 1)

    def trim(self) -> Array:
        """Light where the cloth is dark and dark where it is light, to be seen on both. `[N, H, W]`."""
        return np.where(self.cloth_NHW > 0.5, np.float32(0.1), np.float32(0.95))

    def photograph(self) -> NDArray[np.uint8]:
        """The pictures with the grain of a camera, `[N, 28, 28]`. Black stays black."""
        grain_NHW = (self.rng.random(self.light_NHW.shape, np.float32) * 2 - 1) * self.between(*GRAIN)
        return (np.clip(self.light_NHW * (1 + grain_NHW), 0, 1) * 255 + 0.5).astype(np.uint8)


def _lay(rng: np.random.Generator, n: int) -> Sheet:
    """Empty pictures, each with its own position, scale, turn, direction and cloth."""
    height, width = IMAGE_SHAPE[1:]
    x = np.arange(width, dtype=np.float32)[None, None, :] - (width - 1) / 2 - _uniform(rng, n, -MOST_SHIFT, MOST_SHIFT)
    y = (
        np.arange(height, dtype=np.float32)[None, :, None]
        - (height - 1) / 2
        - _uniform(rng, n, -MOST_SHIFT, MOST_SHIFT)
    )
    angle = rng.uniform(-MOST_TURN, MOST_TURN, (n, 1, 1))  # float64: rounding then hides how machines' sines differ
    cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    pixel = 1 / _uniform(rng, n, *SCALE)
    x, y = (x * cos + y * sin) * pixel, (y * cos - x * sin) * pixel
    x = np.where(_uniform(rng, n, 0, 1) < 0.5, -x, x)  # toes to the left or to the right
    return Sheet(rng, x, y, np.abs(x), pixel, _weave(rng, x, y), np.zeros_like(x))


def _uniform(rng: np.random.Generator, n: int, low: float, high: float) -> Array:
    return rng.uniform(low, high, (n, 1, 1)).astype(np.float32)


def _weave(rng: np.random.Generator, x_NHW: Array, y_NHW: Array) -> Array:
    """Cloth for each picture, dark to light: plain, striped either way, checked, shaded either way, or speckled."""
    n = len(x_NHW)
    period, offset = _uniform(rng, n, 3, 7), _uniform(rng, n, 0, 1)
    across, upright = _stripes(y_NHW / period + offset), _stripes(x_NHW / period + offset)
    speckle = rng.random(x_NHW.shape, np.float32) - 0.5
    plain = np.zeros_like(x_NHW)
    patterns = (plain, across, upright, (across + upright) / 2, y_NHW / 14, x_NHW / 14, speckle)
    pattern_NHW = np.choose(rng.integers(0, len(patterns), (n, 1, 1)), patterns)
    contrast = _uniform(rng, n, -CONTRAST, CONTRAST)  # below 0: dark where another one is light
    return np.clip(_uniform(rng, n, *BRIGHTNESS) * (1 + contrast * pattern_NHW), DARKEST, 1)


def _stripes(position_NHW: Array) -> Array:
    """Dark and light stripes, -1 to 1, with soft edges and a period of 1."""
    return np.clip((np.abs(position_NHW - np.floor(position_NHW) - 0.5) - 0.25) * 8, -1, 1)


def polygon(x_NHW: Array, y_NHW: Array, corners: Points) -> Array:
    """Distance of every pixel to the outline through `corners`, below 0 inside. `[N, H, W]`."""
    nearest_NHW = np.full(x_NHW.shape, np.inf, np.float32)
    inside_NHW = np.zeros(x_NHW.shape, bool)
    for (ax, ay), (bx, by) in zip(corners, [*corners[1:], corners[0]], strict=True):
        nearest_NHW = np.minimum(nearest_NHW, _squared_distance(x_NHW, y_NHW, ax, ay, bx, by))
        # Does a ray to the right cross this edge? Written without a division, so that a level edge needs no care.
        spans = (ay > y_NHW) != (by > y_NHW)
        left_of = (x_NHW - ax) * (by - ay) < (bx - ax) * (y_NHW - ay)
        inside_NHW ^= spans & (left_of == np.greater(by, ay))
    distance_NHW = np.sqrt(nearest_NHW)
    return np.where(inside_NHW, -distance_NHW, distance_NHW)


def stroke(x_NHW: Array, y_NHW: Array, points: Points, width: Array | float) -> Array:
    """Distance of every pixel to a line of this width through `points`, below 0 on it. `[N, H, W]`."""
    nearest_NHW = np.full(x_NHW.shape, np.inf, np.float32)
    for (ax, ay), (bx, by) in pairwise(points):
        nearest_NHW = np.minimum(nearest_NHW, _squared_distance(x_NHW, y_NHW, ax, ay, bx, by))
    return np.sqrt(nearest_NHW) - 0.5 * width


def _squared_distance(
    x_NHW: Array, y_NHW: Array, ax: Array | float, ay: Array | float, bx: Array | float, by: Array | float
) -> Array:
    """Squared distance of every pixel to the straight line from a to b, which end there."""
    edge_x, edge_y = bx - ax, by - ay
    from_x, from_y = x_NHW - ax, y_NHW - ay
    along_NHW = np.clip((from_x * edge_x + from_y * edge_y) / (edge_x * edge_x + edge_y * edge_y), 0, 1)
    off_x, off_y = from_x - edge_x * along_NHW, from_y - edge_y * along_NHW
    squared_NHW: Array = off_x * off_x + off_y * off_y
    return squared_NHW


def ellipse(x_NHW: Array, y_NHW: Array, radius_x: Array | float, radius_y: Array | float) -> Array:
    """About the distance of every pixel to an ellipse around 0, below 0 inside. `[N, H, W]`."""
    across, down = x_NHW / radius_x, y_NHW / radius_y
    distance_NHW: Array = (np.sqrt(across * across + down * down) - 1) * np.minimum(radius_x, radius_y)
    return distance_NHW


# --- the garments --------------------------------------------------------------------------------------------------


def _bodice(
    s: Sheet,
    *,
    chest: Array,
    waist: Array,
    hem: Array,
    length: Array,
    sleeve: Array,
    spread: Array,
    width: Array,
) -> Array:
    """Sew what T-shirt, pullover, dress, coat and shirt share, two sleeves and a body; return the body's distance.

    Half widths of chest, waist and hem; y of the hem; length, spread (0 hangs down, 1 stands out), width of a sleeve.
    """
    shoulder = chest + 0.3
    out, down = _unit(spread, 1 - spread)  # the direction of the right sleeve
    end_x, end_y = shoulder + out * sleeve, -10.0 + down * sleeve
    cuff = width * 0.38
    sleeves = polygon(
        s.side_NHW,
        s.y_NHW,
        [
            (shoulder - 2, -11.0),
            (shoulder + down * 0.8, -10.6 - out * 0.5),
            (end_x + down * cuff, end_y - out * cuff),
            (end_x - down * cuff, end_y + out * cuff),
            (chest - 1, -8.5 + width),
        ],
    )
    s.sew(sleeves, 0.9)
    body = polygon(
        s.side_NHW,
        s.y_NHW,
        [
            (-4.0, -12.0),
            (2.6, -12.0),
            (shoulder, -10.6),
            (chest, -6.0),
            (waist, 0.0),
            (hem, length),
            (-4.0, length + 0.5),
        ],
    )
    s.sew(body)
    return body


def _unit(x: Array, y: Array) -> tuple[Array, Array]:
    length = np.sqrt(x * x + y * y)
    return x / length, y / length


def t_shirt(s: Sheet) -> None:
    """Short sleeves that stand out, a round neck, sometimes a print on the chest."""
    chest = s.between(6, 8)
    _bodice(
        s,
        chest=chest,
        waist=chest - s.between(-0.4, 0.8),
        hem=chest + s.between(-0.5, 1),
        length=s.between(8, 12.5),
        sleeve=s.between(4.5, 7),
        spread=s.between(0.4, 0.65),
        width=s.between(4, 6),
    )
    s.paint(ellipse(s.x_NHW, s.y_NHW + 12.3, s.between(2.4, 3.8), s.between(1.8, 3.4)), 0)
    wide, high = s.between(1.5, 4.2), s.between(1.2, 2.5)
    motif = polygon(s.side_NHW, s.y_NHW + 3, [(-4.0, -high), (wide, -high), (wide, high), (-4.0, high)])
    s.paint(motif, s.trim(), s.sometimes(0.4) * 0.8)


def trouser(s: Sheet) -> None:
    """A waistband and two legs."""
    gap, foot, length = s.between(0.2, 2), s.between(2.2, 3.8), s.between(9.5, 13)
    waist = s.between(4, 5.8)
    fork = s.between(-6, -3)
    legs = polygon(
        s.side_NHW,
        s.y_NHW,
        [
            (-4.0, -12.6),
            (waist, -12.6),
            (waist + s.between(0, 1.2), -6.0),
            (gap + foot * 1.3, 2.0),
            (gap + foot, length),
            (gap, length),
            (0.1, fork),
            (-4.0, fork),
        ],
    )
    s.sew(legs)
    band = stroke(s.x_NHW, s.y_NHW, [(-8.0, -11.0), (8.0, -11.0)], 0.9)
    s.paint(np.maximum(band, legs), s.trim(), s.sometimes(0.7) * 0.7)


def pullover(s: Sheet) -> None:
    """Long sleeves, a round neck or a roll neck, ribbing at the hem."""
    chest, length = s.between(5.8, 7.6), s.between(7.5, 12)
    body = _bodice(
        s,
        chest=chest,
        waist=chest + s.between(-0.6, 0.8),
        hem=chest + s.between(-0.6, 1),
        length=length,
        sleeve=s.between(15, 20),
        spread=s.between(0.08, 0.28),
        width=s.between(4, 5.6),
    )
    rib = stroke(s.x_NHW, s.y_NHW, [(-12.0, length - 0.8), (12.0, length - 0.8)], 2.4)
    s.paint(np.maximum(rib, body), s.cloth(s.between(0.4, 0.7)))
    roll = s.sometimes(0.4)
    s.paint(ellipse(s.x_NHW, s.y_NHW + 12.3, s.between(2.2, 3.2), s.between(1.2, 2)), 0, 1 - roll)
    s.paint(stroke(s.x_NHW, s.y_NHW, [(-2.0, -12.2), (2.0, -12.2)], 2.6), s.cloth(0.7), roll)


def dress(s: Sheet) -> None:
    """A narrow waist and a wide skirt; straps, or short sleeves."""
    waist = s.between(3, 5)
    _bodice(
        s,
        chest=waist + s.between(0.6, 1.8),
        waist=waist,
        hem=waist + s.between(1.5, 6),
        length=s.between(10.5, 13),
        sleeve=s.between(0.5, 6),
        spread=s.between(0.35, 0.65),
        width=s.between(2.8, 4),
    )
    s.paint(ellipse(s.x_NHW, s.y_NHW + 12.3, s.between(1.8, 2.8), s.between(2, 5)), 0)
    belt = stroke(s.x_NHW, s.y_NHW, [(-waist, 0.0), (waist, 0.0)], 1.3)
    s.paint(belt, s.trim(), s.sometimes(0.6) * 0.8)


def coat(s: Sheet) -> None:
    """Long and wide, long sleeves, open down the front, with lapels."""
    chest = s.between(6, 7.6)
    _bodice(
        s,
        chest=chest,
        waist=chest + s.between(-1, 0.6),
        hem=chest + s.between(-0.2, 2),
        length=s.between(10.5, 13.2),
        sleeve=s.between(16, 20),
        spread=s.between(0.06, 0.24),
        width=s.between(4.4, 5.8),
    )
    opening = s.between(-6, 0)  # y where the lapels meet
    lapel = polygon(s.side_NHW, s.y_NHW, [(-4.0, -12.6), (1.8, -12.6), (4.2, -8.5), (0.4, opening), (-4.0, opening)])
    s.paint(lapel, s.cloth(s.between(1.2, 1.7)))
    s.paint(polygon(s.side_NHW, s.y_NHW, [(-4.0, -14.0), (1.8, -14.0), (0.0, opening), (-4.0, opening)]), 0)
    s.paint(stroke(s.x_NHW, s.y_NHW, [(0.0, opening), (0.0, 16.0)], s.between(0.9, 1.8)), 0)


def shirt(s: Sheet) -> None:
    """Sleeves of any length, a collar, and buttons down the front."""
    chest, sleeve = s.between(5.6, 7.4), s.between(4.5, 18)
    body = _bodice(
        s,
        chest=chest,
        waist=chest - s.between(-0.2, 1.2),
        hem=chest + s.between(-0.5, 0.8),
        length=s.between(9, 12.8),
        sleeve=sleeve,
        spread=0.6 - sleeve * 0.025,
        width=s.between(3.8, 5.2),
    )
    front = stroke(s.x_NHW, s.y_NHW, [(0.0, -11.0), (0.0, 14.0)], 1.7)
    s.paint(np.maximum(front, body), np.maximum(s.cloth(1.5), 0.5))
    for y in (-7.0, -3.5, 0.0, 3.5, 7.0):
        s.paint(ellipse(s.x_NHW, s.y_NHW - y, 0.85, 0.85), 0)
    s.paint(polygon(s.side_NHW, s.y_NHW, [(-1.0, -13.0), (1.4, -13.0), (0.0, -10.2), (-1.0, -10.2)]), 0)
    collar = polygon(s.side_NHW, s.y_NHW, [(1.3, -13.2), (3.0, -12.2), (3.6, -9.4), (0.2, -10.2)])
    s.paint(collar, np.maximum(s.cloth(1.6), 0.5))


def sandal(s: Sheet) -> None:
    """Straps with gaps between them, on a sole that is flat, a wedge, or on a heel."""
    rise = s.between(0, 6)  # of the heel above the toes
    flat_NHW = s.y_NHW + rise * np.clip((s.x_NHW + 5) / 10, 0, 1)  # y as if the sole were flat
    ankle, front = s.between(-4.5, -2), s.between(1, 3.2)
    foot = polygon(
        s.x_NHW,
        flat_NHW,
        [
            (-9.8, 6.0),
            (-9.0, front + 1),
            (-5.0, front - 1.8),
            (1.0, ankle + 1.5),
            (4.5, ankle),
            (11.2, ankle - 0.6),
            (11.0, 6.0),
        ],
    )
    s.sew(foot)
    for x, chance in ((-6.4, 1.0), (-2.2, 0.8), (1.6, 0.6)):
        gap = stroke(s.x_NHW, flat_NHW, [(x - 1.2, -6.0), (x + 1.2, 5.6)], s.between(1.6, 2.6))
        s.paint(gap, 0, s.sometimes(chance))
    ankle_hole = polygon(
        s.x_NHW, flat_NHW, [(3.4, ankle + 2.2), (9.2, ankle + 1.8), (9.0, 4.2), (6.2, 5.4), (4.2, 4.6)]
    )
    s.paint(ankle_hole, 0)
    under = np.maximum(np.maximum(5.8 - flat_NHW, s.y_NHW - 8.6), np.abs(s.x_NHW) - 11.4)  # from sole to ground
    s.paint(under, s.cloth(0.6), s.sometimes(0.4))
    s.paint(np.maximum(under, 9.8 - s.x_NHW), s.cloth(0.6))
    s.paint(stroke(s.x_NHW, flat_NHW, [(-11.6, 6.6), (11.2, 6.6)], s.between(1.8, 3)), s.trim())


def sneaker(s: Sheet) -> None:
    """Low, with a thick light sole and laces."""
    ankle, toe = s.between(-6, -3), s.between(0.5, 3)
    upper = polygon(
        s.x_NHW,
        s.y_NHW,
        [
            (-12.0, 6.5),
            (-11.6, toe + 1),
            (-9.5, toe - 0.5),
            (-5.0, toe - 1.5),
            (0.5, ankle),
            (3.5, ankle + 0.3),
            (6.0, ankle + 1.6),
            (10.5, ankle - 0.4),
            (11.4, 0.5),
            (11.6, 6.5),
        ],
    )
    s.sew(upper)
    trim = s.trim()
    for x in (-5.0, -3.2, -1.4):
        lace = stroke(s.x_NHW, s.y_NHW, [(x, -3.5), (x + 2.2, 2.2)], 0.8)
        s.paint(np.maximum(lace, upper), trim)
    s.paint(stroke(s.x_NHW, s.y_NHW, [(2.0, 5.0), (7.5, 0.0)], 1.6), trim, s.sometimes(0.5))
    s.paint(stroke(s.x_NHW, s.y_NHW, [(-11.2, 6.8), (11.0, 6.8)], s.between(2, 3.4)), s.between(0.7, 1))


def bag(s: Sheet) -> None:
    """A box with a handle, often with a flap and a clasp."""
    wide, bottom, top = s.between(8, 12), s.between(7.5, 12), s.between(-6, -1)
    ring = ellipse(s.x_NHW, s.y_NHW - top, s.between(0.4, 0.75) * wide, s.between(3.5, 7))
    s.paint(np.abs(ring) - s.between(0.6, 1.2), s.cloth(0.85), s.sometimes(0.85))
    mouth = wide + s.between(-2, 1)
    box = polygon(
        s.side_NHW,
        s.y_NHW,
        [(-4.0, top), (mouth - 1, top), (mouth, top + 1), (wide, bottom - 1), (wide - 1, bottom), (-4.0, bottom)],
    )
    s.sew(box)
    flap, fold = s.sometimes(0.6), top + (bottom - top) * s.between(0.3, 0.6)
    seam = stroke(s.x_NHW, s.y_NHW, [(-14.0, fold), (0.0, fold + 1.5), (14.0, fold)], 1.0)
    s.paint(np.maximum(seam, box), 0.08, flap)
    s.paint(ellipse(s.x_NHW, s.y_NHW - fold - 1.5, 1.4, 1.4), 0.95, flap)


def ankle_boot(s: Sheet) -> None:
    """A shaft above the ankle, a sole, and a heel."""
    shaft, heel, front = s.between(-12, -7), s.between(0, 3.5), s.between(-3, 0.5)
    foot = 7.6 - heel  # y of the sole under the heel
    boot = polygon(
        s.x_NHW,
        s.y_NHW,
        [
            (-12.0, 7.4),
            (-11.9, 4.2),
            (-9.5, 2.2),
            (-5.5, 1.0),
            (front - 0.8, -2.5),
            (front, shaft),
            (9.8, shaft - 0.5),
            (9.5, -1.0),
            (10.8, 3.0),
            (10.4, foot),
            (3.0, foot),
        ],
    )
    s.sew(boot)
    sole: Points = [(-11.6, 7.8), (-3.0, 7.8), (3.5, foot + 0.4), (9.8, foot + 0.4)]
    s.paint(stroke(s.x_NHW, s.y_NHW, sole, 1.8), s.cloth(0.6))
    s.paint(polygon(s.x_NHW, s.y_NHW, [(5.0, foot), (10.6, foot), (10.2, 9.4), (6.0, 9.4)]), s.cloth(0.6))
    cuff = stroke(s.x_NHW, s.y_NHW, [(front - 1, shaft + 2.4), (11.0, shaft + 2.0)], 1.3)
    s.paint(np.maximum(cuff, boot), s.trim(), s.sometimes(0.6) * 0.8)


GARMENTS: tuple[Callable[[Sheet], None], ...] = (
    t_shirt,
    trouser,
    pullover,
    dress,
    coat,
    sandal,
    shirt,
    sneaker,
    bag,
    ankle_boot,
)
