"""Pictures of any size and mode, brought to one shape."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from stages.lib.source.pictures import Fit, bring, decode
from tests.helpers import refusal

RED, GREEN = (255, 0, 0), (0, 255, 0)


def halves(width: int = 40, height: int = 20, mode: str = "RGB") -> Image.Image:
    """A picture whose left half is red and whose right half is green."""
    picture = Image.new("RGB", (width, height), GREEN)
    picture.paste(RED, (0, 0, width // 2, height))
    return picture.convert(mode)


def saved(picture: Image.Image, kind: str, **options: Any) -> Image.Image:
    """The picture after a way through a file."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    file.seek(0)
    return decode(file, "picture")


def brought(picture: Image.Image, fit: Fit = "pad", channels: int = 3, size: int = 10) -> NDArray[np.int16]:
    return bring(picture, size, channels, fit).astype(np.int16)


def colour_at(pixels_CHW: NDArray[np.int16], row: int, column: int) -> tuple[int, ...]:
    return tuple(int(value) for value in pixels_CHW[:, row, column])


def test_pad_keeps_the_proportions() -> None:
    pixels_CHW = brought(halves())
    assert pixels_CHW.shape == (3, 10, 10)
    assert colour_at(pixels_CHW, 0, 5) == colour_at(pixels_CHW, 9, 5) == (0, 0, 0)
    assert (colour_at(pixels_CHW, 5, 0), colour_at(pixels_CHW, 5, 9)) == (RED, GREEN)


def test_crop_fills_the_square() -> None:
    pixels_CHW = brought(halves(60, 20), "crop")
    assert pixels_CHW.sum(axis=0).min() >= 200  # nothing is black
    assert (colour_at(pixels_CHW, 0, 0), colour_at(pixels_CHW, 9, 9)) == (RED, GREEN)


@pytest.mark.parametrize("fit", ["pad", "crop"])
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (1, 5000), (4999, 2), (10, 10), (300, 301)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size(fit: Fit, size: tuple[int, int], channels: int) -> None:
    pixels_CHW = brought(Image.new("RGB", size, "white"), fit, channels)
    assert pixels_CHW.shape == (channels, 10, 10)
    assert pixels_CHW.max() == 255


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK"])
def test_colours_of_each_mode(mode: str) -> None:
    kind = "JPEG" if mode == "CMYK" else "PNG"
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    pixels_CHW = brought(saved(halves(mode=mode), kind, **options))
    for column, colour in ((1, RED), (8, GREEN)):
        assert np.abs(np.subtract(colour_at(pixels_CHW, 5, column), colour)).max() <= 3


@pytest.mark.parametrize("mode", ["1", "L", "LA", "I;16"])
def test_grey_modes(mode: str) -> None:
    levels = np.repeat(np.array([[0, 255]], np.uint8), 10, axis=1).repeat(10, axis=0)
    picture = (
        Image.fromarray(levels.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(levels).convert(mode)
    )
    pixels_CHW = brought(saved(picture, "PNG"), channels=1)
    assert (colour_at(pixels_CHW, 5, 0), colour_at(pixels_CHW, 5, 9)) == ((0,), (255,))


def test_transparent_becomes_white() -> None:
    picture = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    picture.paste((0, 0, 255, 255), (0, 0, 10, 20))
    pixels_CHW = brought(saved(picture, "PNG"))
    assert (colour_at(pixels_CHW, 5, 1), colour_at(pixels_CHW, 5, 8)) == ((0, 0, 255), (255, 255, 255))


def test_transparent_colour_of_a_palette() -> None:
    picture = saved(halves(mode="P"), "PNG", transparency=halves(mode="P").getpixel((0, 0)))
    pixels_CHW = brought(picture)
    assert (colour_at(pixels_CHW, 5, 1), colour_at(pixels_CHW, 5, 8)) == ((255, 255, 255), GREEN)


@pytest.mark.parametrize(("orientation", "row", "column"), [(1, 5, 1), (3, 5, 8), (6, 1, 5), (8, 8, 5)])
def test_turned_as_exif_says(orientation: int, row: int, column: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels_CHW = brought(saved(halves(), "JPEG", exif=exif, quality=100, subsampling=0))
    assert np.abs(np.subtract(colour_at(pixels_CHW, row, column), RED)).max() <= 3


@pytest.mark.parametrize("content", [b"hello", b"<svg/>", b"\xff\xd8\xff\xe0 cut"])
def test_error_names_the_file(content: bytes) -> None:
    assert refusal(decode, io.BytesIO(content), Path("cats/7.jpg")).startswith("cats/7.jpg ")
