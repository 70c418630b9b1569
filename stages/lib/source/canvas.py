"""Draw many pictures at once with numpy: sheets to draw on, cloth, and the distances to simple shapes.

Pixels are computed with arithmetic that IEEE 754 fixes to the last bit (no power, no sum over pixels). Only sines may
differ between machines in their last bit, and they are rounded to half as many bits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.lib.source.idx_sets import IMAGE_SHAPE

# Shape suffixes: N pictures of one class, H x W pixels (28 x 28); N11 is one number for each picture.

# What makes the images hard, chosen so that the lecture's three models come out in the order that they have on the real
# images. Position and size hurt the linear models most. The wide range of brightness also steadies the CNN: where a
# garment's total light gives its class away, plain SGD with lr 0.1 overshoots and ends at chance more often.
MOST_SHIFT = 3.5  # pixels, to each side
MOST_TURN = 0.15  # radians, to each side
SCALE = (0.8, 1.15)
BRIGHTNESS = (0.15, 0.95)  # of the cloth, 0 black to 1 white
DARKEST = 0.16  # no cloth is darker: it would be lost in the black around it
CONTRAST = 0.8  # of a pattern, as a part of the brightness
GRAIN = (0.0, 0.3)  # noise, as a part of the light

Array = NDArray[Any]  # float32
Points = Sequence[tuple[Array | float, Array | float]]  # x and y of corners, each for all pictures or for each one


@dataclass
class Sheet:
    """Hold the pictures of one class while they are drawn.

    A garment has its own units, each a pixel long while its scale is 1: x to the right and y downwards from its middle,
    -14 to 14. Where a pixel lies in these units differs from picture to picture: so garments are moved, scaled and
    turned.
    """

    rng: np.random.Generator
    x_NHW: Array
    y_NHW: Array
    side_NHW: Array  # |x|, for shapes that are the same on the left and on the right
    pixel_N11: Array  # the size of a pixel in the garment's units
    cloth_NHW: Array  # what the garment is made of, 0 dark to 1 light, everywhere
    light_NHW: Array  # the picture so far

    def between(self, low: float, high: float) -> Array:
        """Draw a random number for each picture, `[N, 1, 1]`."""
        return _uniform(self.rng, len(self.light_NHW), low, high)

    def sometimes(self, chance: float) -> Array:
        """Return 1 for about this part of the pictures, chosen at random, and 0 for the others, `[N, 1, 1]`."""
        return (self.between(0, 1) < chance).astype(np.float32)

    def paint(self, distance_NHW: Array, light: Array | float, opacity: Array | float = 1.0) -> None:
        """Blend in `light` where the distance is below 0, the edge softened over one pixel."""
        cover_NHW = np.clip(0.5 - distance_NHW / self.pixel_N11, 0, 1) * opacity
        self.light_NHW += cover_NHW * (light - self.light_NHW)

    def sew(self, distance_NHW: Array, tone: float = 1.0) -> None:
        """Paint with the cloth, darker towards the edge, as round things look."""
        self.paint(distance_NHW, self.cloth(tone) * np.clip(0.72 - 0.14 * distance_NHW, 0.72, 1))

    def cloth(self, tone: Array | float) -> Array:
        """Return the cloth made lighter (`tone` above 1) or darker, `[N, H, W]`."""
        return np.minimum(self.cloth_NHW * tone, 1)

    def trim(self) -> Array:
        """Return light where the cloth is dark and dark where it is light, `[N, H, W]`: it shows on both."""
        return np.where(self.cloth_NHW > 0.5, np.float32(0.1), np.float32(0.95))

    def photograph(self) -> NDArray[np.uint8]:
        """Return the pictures with the grain of a camera, `[N, 28, 28]`. Black stays black."""
        grain_NHW = (self.rng.random(self.light_NHW.shape, np.float32) * 2 - 1) * self.between(*GRAIN)
        return (np.clip(self.light_NHW * (1 + grain_NHW), 0, 1) * 255 + 0.5).astype(np.uint8)


def blank_sheet(rng: np.random.Generator, n: int, detail: int = 1) -> Sheet:
    """Return `n` empty pictures, each with its own position, scale, turn, direction and cloth.

    With `detail` 10 they have 280 x 280 pixels, a tenth as large.
    """
    height, width = (side * detail for side in IMAGE_SHAPE[1:])
    right, down = _uniform(rng, n, -MOST_SHIFT, MOST_SHIFT), _uniform(rng, n, -MOST_SHIFT, MOST_SHIFT)
    x = (np.arange(width, dtype=np.float32)[None, None, :] - (width - 1) / 2) / detail - right
    y = (np.arange(height, dtype=np.float32)[None, :, None] - (height - 1) / 2) / detail - down
    angle = rng.uniform(-MOST_TURN, MOST_TURN, (n, 1, 1))  # float64: rounding then hides how machines' sines differ
    cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    pixel = 1 / _uniform(rng, n, *SCALE)
    x, y = (x * cos + y * sin) * pixel, (y * cos - x * sin) * pixel
    x = np.where(_uniform(rng, n, 0, 1) < 0.5, -x, x)  # toes to the left or to the right
    return Sheet(rng, x, y, np.abs(x), pixel / detail, _weave(rng, x, y), np.zeros_like(x))


def _uniform(rng: np.random.Generator, n: int, low: float, high: float) -> Array:
    return rng.uniform(low, high, (n, 1, 1)).astype(np.float32)


def _weave(rng: np.random.Generator, x_NHW: Array, y_NHW: Array) -> Array:
    """Return cloth for each picture, dark to light: plain, striped or shaded either way, checked, or speckled."""
    n = len(x_NHW)
    period, offset = _uniform(rng, n, 3, 7), _uniform(rng, n, 0, 1)
    across, upright = _stripes(y_NHW / period + offset), _stripes(x_NHW / period + offset)
    speckle = rng.random(x_NHW.shape, np.float32) - 0.5
    plain = np.zeros_like(x_NHW)
    patterns = (plain, across, upright, (across + upright) / 2, y_NHW / 14, x_NHW / 14, speckle)
    pattern_NHW = np.choose(rng.integers(0, len(patterns), (n, 1, 1)), patterns)
    contrast = _uniform(rng, n, -CONTRAST, CONTRAST)  # below 0: dark where another one is light
    cloth_NHW: Array = np.clip(_uniform(rng, n, *BRIGHTNESS) * (1 + contrast * pattern_NHW), DARKEST, 1)
    return cloth_NHW


def _stripes(position_NHW: Array) -> Array:
    """Return dark and light stripes, -1 to 1, with soft edges and a period of 1."""
    return np.clip((np.abs(position_NHW - np.floor(position_NHW) - 0.5) - 0.25) * 8, -1, 1)


def polygon(x_NHW: Array, y_NHW: Array, corners: Points) -> Array:
    """Return the distance of every pixel to the outline through `corners`, below 0 inside. `[N, H, W]`."""
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
    """Return the distance of every pixel to a line of this width through `points`, below 0 on it. `[N, H, W]`."""
    nearest_NHW = np.full(x_NHW.shape, np.inf, np.float32)
    for (ax, ay), (bx, by) in pairwise(points):
        nearest_NHW = np.minimum(nearest_NHW, _squared_distance(x_NHW, y_NHW, ax, ay, bx, by))
    distance_NHW: Array = np.sqrt(nearest_NHW) - 0.5 * width
    return distance_NHW


def _squared_distance(
    x_NHW: Array, y_NHW: Array, ax: Array | float, ay: Array | float, bx: Array | float, by: Array | float
) -> Array:
    """Return the squared distance of every pixel to the line segment from point a to point b."""
    edge_x, edge_y = bx - ax, by - ay
    from_x, from_y = x_NHW - ax, y_NHW - ay
    along_NHW = np.clip((from_x * edge_x + from_y * edge_y) / (edge_x * edge_x + edge_y * edge_y), 0, 1)
    off_x, off_y = from_x - edge_x * along_NHW, from_y - edge_y * along_NHW
    squared_NHW: Array = off_x * off_x + off_y * off_y
    return squared_NHW


def ellipse(x_NHW: Array, y_NHW: Array, radius_x: Array | float, radius_y: Array | float) -> Array:
    """Return about the distance of every pixel to an ellipse around 0, below 0 inside. `[N, H, W]`."""
    across, down = x_NHW / radius_x, y_NHW / radius_y
    distance_NHW: Array = (np.sqrt(across * across + down * down) - 1) * np.minimum(radius_x, radius_y)
    return distance_NHW
