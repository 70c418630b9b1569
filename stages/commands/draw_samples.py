"""Draw the pictures that README classifies: `python -m stages.commands.draw_samples` writes them into docs/samples.

No stage: the files are in git. A boot and a shirt lie on a light ground, as the models know it; the same shirt lies on
cloth with folds, which predict warns of. Drawn with the garments of the synthetic data, larger and in colour.

Shapes: H x W pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from stages.lib.base.errors import exit_cleanly
from stages.lib.source.canvas import Array, Sheet, blank_sheet
from stages.lib.source.garments import ankle_boot, shirt

FOLDER = Path("docs/samples")
DETAIL = 8  # times as many pixels a side as FashionMNIST has: 224
EDGE = 0.16  # no cloth is darker: less of it is the soft edge of a garment


@dataclass(frozen=True)
class Sample:
    """One picture: what is drawn, from which seed, in which colour (red, green, blue in [0, 1])."""

    draw: Callable[[Sheet], None]
    seed: int
    colour: tuple[float, float, float]
    on_cloth: bool = False


SAMPLES = {
    "boot.png": Sample(ankle_boot, 9, (0.35, 0.2, 0.1)),
    "shirt.png": Sample(shirt, 25, (0.7, 0.1, 0.1)),
    "shirt_on_cloth.png": Sample(shirt, 25, (0.7, 0.1, 0.1), on_cloth=True),
}


def main() -> None:
    """Draw them all."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, sample in SAMPLES.items():
        picture(sample).save(FOLDER / name)
        print(f"wrote {FOLDER / name}")


def picture(sample: Sample) -> Image.Image:
    """Draw a garment as a photo shows it: the sheet's light garment on black is its negative."""
    sheet = blank_sheet(np.random.default_rng(sample.seed), 1, DETAIL)
    sample.draw(sheet)
    light_HW1 = sheet.light_NHW[0][..., None]
    garment_HW3 = 1 - light_HW1 * (1 - np.array(sample.colour, np.float32))
    cover_HW1 = np.clip(light_HW1 / EDGE, 0, 1)
    ground_HW1 = folds(len(light_HW1)) if sample.on_cloth else np.full_like(light_HW1, 0.95)
    pixels_HW3 = ground_HW1 * (1 - cover_HW1) + garment_HW3 * cover_HW1
    return Image.fromarray((pixels_HW3 * 255 + 0.5).astype(np.uint8))


def folds(side: int) -> Array:
    """Return a cloth with folds, darker and lighter by turns, `[side, side, 1]`."""
    down, right = np.mgrid[:side, :side].astype(np.float32) / side
    wave = np.sin(14 * right + 5 * down) + np.sin(9 * down - 4 * right + 1)
    cloth_HW1: Array = (0.6 + 0.13 * wave.round(3)).astype(np.float32)[..., None]
    return cloth_HW1


if __name__ == "__main__":
    exit_cleanly("draw_samples", main)
