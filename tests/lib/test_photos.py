"""What becomes of pictures from outside, and which are refused."""

import gzip
import io
import os
import pickle
import random
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from stages.commands import draw_samples
from stages.commands.draw_samples import Sample
from stages.lib.base.errors import UserError
from stages.lib.photos import Background, Garment, find_garment, preview, read_garment, read_picture, see
from stages.lib.source.canvas import Sheet
from stages.lib.source.garments import GARMENTS
from stages.lib.source.idx_sets import TEST_IMAGES
from stages.lib.source.synthetic import write_synthetic
from tests.helpers import GREY_28, PROJECT, refusal

Grey = NDArray[np.uint8]


def boot(height: int = 28, width: int = 28) -> Grey:
    """Draw an L of two greys on black, as wide as the picture, so that every way of turning it shows."""
    image_HW = np.zeros((height, width), np.uint8)
    top, middle, bottom = height // 14, height // 2, height - height // 14
    image_HW[top:bottom, : width // 2] = 150
    image_HW[middle:bottom] = 150
    image_HW[middle:bottom, width // 4 : width // 2] = 220
    return image_HW


def in_file(path: Path, picture: Image.Image, **options: Any) -> Garment:
    picture.save(path, **options)
    return find_garment(read_picture(path))


def on_white(picture: Image.Image) -> Image.Image:
    return picture.point([255 - level for level in range(256)])


def difference(one: Garment, other: Garment) -> float:
    """Return the mean difference in grey levels."""
    return float(np.abs(one.pixels_HW.astype(int) - other.pixels_HW).mean())


def png_claiming(width: int, height: int) -> bytes:
    """Make a small PNG file whose header claims any size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1_000_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


# What goes through unchanged


def test_28_by_28_passes_unchanged(tmp_path: Path) -> None:
    image_HW = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
    image_HW[np.ix_([0, -1], [0, -1])] = 9  # the corners, not quite black
    garment = in_file(tmp_path / "shirt.png", Image.fromarray(image_HW))
    assert np.array_equal(garment.pixels_HW, image_HW)
    assert garment.pixels_HW.dtype == np.uint8
    assert not garment.inverted


def test_negative_is_turned_back(tmp_path: Path) -> None:
    garment = in_file(tmp_path / "shirt.png", Image.fromarray(255 - boot()))
    assert np.array_equal(garment.pixels_HW, boot())
    assert garment.inverted


@pytest.mark.parametrize(
    ("suffix", "modes"),
    [("png", "L RGB RGBA LA P"), ("webp", "L RGB RGBA LA P"), ("gif", "L RGB P"), ("bmp", "L RGB RGBA P")],
)
def test_modes_and_formats(tmp_path: Path, suffix: str, modes: str) -> None:
    options = {"lossless": True} if suffix == "webp" else {}
    for mode in modes.split():
        garment = in_file(tmp_path / f"shirt.{suffix}", Image.fromarray(boot()).convert(mode), **options)
        assert np.array_equal(garment.pixels_HW, boot()), mode


@pytest.mark.parametrize("kind", ["<u2", ">u2"])
def test_16_bits(tmp_path: Path, kind: str) -> None:
    picture = Image.fromarray((boot().astype(np.uint16) * 257).astype("<u2"))
    assert picture.mode == "I;16"
    if kind == ">u2":
        picture = Image.frombytes("I;16B", picture.size, (boot().astype(np.uint16) * 257).astype(">u2").tobytes())
        assert np.array_equal(find_garment(picture).pixels_HW, boot())
    else:
        assert np.array_equal(in_file(tmp_path / "shirt.png", picture).pixels_HW, boot())


def test_32_bits() -> None:
    assert np.array_equal(find_garment(Image.fromarray(boot().astype(np.int32) * 257)).pixels_HW, boot())


def test_black_and_white(tmp_path: Path) -> None:
    garment = in_file(tmp_path / "shirt.png", Image.fromarray(boot() > 100))
    assert np.array_equal(garment.pixels_HW, 255 * (boot() > 100))


# Light and dark backgrounds


@pytest.mark.parametrize(
    ("ground", "background", "inverted"),
    [
        ("dark", "auto", False),
        ("dark", "dark", False),
        ("dark", "light", True),
        ("light", "auto", True),
        ("light", "light", True),
        ("light", "dark", False),
    ],
)
@pytest.mark.parametrize("side", [28, 200])
def test_option_overrules_the_corners(ground: str, background: Background, inverted: bool, side: int) -> None:
    picture = Image.fromarray(boot(side, side))
    if ground == "light":
        picture = on_white(picture)
    garment = find_garment(picture, background)
    assert garment.inverted == inverted
    as_the_corners_say = find_garment(picture)
    if inverted == as_the_corners_say.inverted:
        assert difference(garment, as_the_corners_say) == 0
    else:
        assert garment.pixels_HW[0, -1] == 255


@pytest.mark.parametrize("quality", [50, 85])
def test_large_photo_on_white(tmp_path: Path, quality: int) -> None:
    photo = Image.new("L", (400, 300), 255)
    photo.paste(on_white(Image.fromarray(boot()).resize((224, 224), Image.Resampling.NEAREST)), (90, 30))
    garment = in_file(tmp_path / "photo.jpg", photo.convert("RGB"), quality=quality)
    assert garment.inverted
    assert difference(garment, find_garment(Image.fromarray(boot()))) < 6


@pytest.mark.parametrize("ground", [20, 100, 140, 200, 240])
def test_grey_background_becomes_black(ground: int) -> None:
    garment_grey = 255 if ground < 128 else 0
    picture = Image.new("L", (300, 300), ground)
    picture.paste(garment_grey, (100, 50, 200, 250))
    pixels_HW = find_garment(picture).pixels_HW
    assert (pixels_HW[:, 0].max(), pixels_HW[14, 14]) == (0, 255)


def test_garment_lighter_than_its_light_background() -> None:
    picture = Image.new("L", (300, 300), 170)
    picture.paste(255, (100, 50, 200, 250))
    pixels_HW = find_garment(picture).pixels_HW
    assert pixels_HW[14, 14] > 100 > pixels_HW[14, 0]


def test_camera_noise_hides_no_margin() -> None:
    grain_HW = np.random.default_rng(0).normal(0, 8, (900, 1200))
    photo_HW = np.full((900, 1200), 235.0)
    photo_HW[300:500, 400:600] = 60
    photo = Image.fromarray((photo_HW + grain_HW).clip(0, 255).astype(np.uint8))
    assert find_garment(photo).pixels_HW.min() > 150  # the square fills the picture


# Transparency


def cut_out(colour: int, hidden: int, mode: str = "RGBA") -> Image.Image:
    """A square of `colour` in the middle of transparency, under which the file holds `hidden`."""
    picture = Image.new("RGBA", (100, 200), (hidden, hidden, hidden, 0))
    picture.paste((colour, colour, colour, 255), (30, 60, 70, 120))
    return picture.convert(mode)


@pytest.mark.parametrize("hidden", [0, 255])
@pytest.mark.parametrize(("colour", "inverted"), [(230, False), (255, False), (40, True), (0, True)])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_cut_out_garment(tmp_path: Path, colour: int, inverted: bool, hidden: int, mode: str) -> None:
    garment = in_file(tmp_path / "cut.png", cut_out(colour, hidden, mode))
    assert garment.inverted == inverted
    assert garment.pixels_HW[14, 14] >= 215
    assert (garment.pixels_HW[:, 0] == 0).all()  # 40 x 60 in the file: the height fills the 28 pixels, the width not
    assert garment.pixels_HW[0, 14] >= 215


@pytest.mark.parametrize("colour", [0, 255])
def test_option_overrules_a_cut_out(colour: int) -> None:
    light = find_garment(cut_out(colour, 0), "light")
    dark = find_garment(cut_out(colour, 0), "dark")
    assert (light.inverted, dark.inverted) == (True, False)
    assert light.pixels_HW[14, 14] == 255 - colour
    assert dark.pixels_HW[14, 14] == colour


def test_half_transparent_edges() -> None:
    picture = Image.fromarray(np.full((28, 28), 255, np.uint8)).convert("RGBA")
    picture.putalpha(Image.fromarray(boot()))
    assert np.array_equal(find_garment(picture).pixels_HW, boot())


def test_holes_take_the_background() -> None:
    picture = on_white(Image.fromarray(boot(140, 140))).convert("RGBA")
    whole = find_garment(picture)
    picture.paste((0, 0, 0, 0), (100, 20, 130, 50))  # in the white part
    holed = find_garment(picture)
    assert holed.inverted
    assert difference(holed, whole) == 0


def test_transparent_colour_of_a_palette(tmp_path: Path) -> None:
    levels_HW = np.full((80, 80), 7, np.uint8)
    levels_HW[20:60, 30:50] = 240
    expected = find_garment(Image.fromarray(np.where(levels_HW == 7, 0, 240).astype(np.uint8))).pixels_HW
    palette = Image.fromarray(levels_HW)
    palette = palette.convert("P")
    assert np.array_equal(in_file(tmp_path / "p.png", palette, transparency=7).pixels_HW, expected)
    assert np.array_equal(in_file(tmp_path / "p.gif", palette, transparency=7).pixels_HW, expected)
    assert np.array_equal(in_file(tmp_path / "l.png", Image.fromarray(levels_HW), transparency=7).pixels_HW, expected)
    deep = Image.fromarray(levels_HW.astype(np.uint16) * 257)
    assert np.array_equal(in_file(tmp_path / "i.png", deep, transparency=7 * 257).pixels_HW, expected)
    bits = Image.fromarray(levels_HW == 240)
    white = in_file(tmp_path / "1.png", bits, transparency=0)
    assert (white.pixels_HW[14, 14], white.pixels_HW[14, 0], white.inverted) == (255, 0, False)


# Shape


@pytest.mark.parametrize(("width", "height"), [(300, 100), (100, 300), (56, 28), (7, 14), (3000, 2000)])
def test_proportions_are_kept(width: int, height: int) -> None:
    picture = Image.new("L", (width + 80, height + 40), 0)
    picture.paste(200, (50, 10, 50 + width, 10 + height))
    pixels_HW = find_garment(picture).pixels_HW
    rows, columns = np.flatnonzero((pixels_HW > 100).any(1)), np.flatnonzero((pixels_HW > 100).any(0))
    assert max(len(rows), len(columns)) == 28
    assert len(columns) / len(rows) == pytest.approx(width / height, rel=0.12)
    assert abs((27 - rows[-1]) - rows[0]) <= 1
    assert abs((27 - columns[-1]) - columns[0]) <= 1


def test_shrinking_averages() -> None:
    stripes_HW = np.zeros((560, 560), np.uint8)
    stripes_HW[:, ::2] = 200
    stripes_HW[:50] = stripes_HW[-50:] = 0
    pixels_HW = find_garment(Image.fromarray(stripes_HW)).pixels_HW
    assert abs(int(pixels_HW[14, 5:23].max()) - 100) <= 2
    assert abs(int(pixels_HW[14, 5:23].min()) - 100) <= 2


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (1, 5000), (2_000_000, 1), (27, 27), (29, 28)])
@pytest.mark.parametrize("mode", ["L", "RGBA", "I;16"])
def test_any_size(size: tuple[int, int], mode: str) -> None:
    garment = find_garment(Image.new(mode, size))
    assert garment.pixels_HW.shape == (28, 28)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_exif_orientation(tmp_path: Path, orientation: int, suffix: str) -> None:
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    upright = Image.fromarray(boot(60, 40))
    stored = upright.transpose(turn[orientation]) if orientation in turn else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    garment = in_file(tmp_path / f"turned.{suffix}", stored.convert("RGB"), exif=exif, quality=95)
    assert difference(garment, find_garment(upright)) < 3


# Formats


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    first = Image.fromarray(boot()).convert("RGB")
    second = Image.new("RGB", (28, 28), "white")
    for name in ("a.gif", "a.png", "a.webp"):
        garment = in_file(tmp_path / name, first, save_all=True, append_images=[second], lossless=True)
        assert np.array_equal(garment.pixels_HW, boot()), name


def test_jpeg_modes(tmp_path: Path) -> None:
    picture = Image.fromarray(boot(280, 280))
    expected = find_garment(picture)
    for mode in ("L", "RGB", "CMYK"):
        garment = in_file(tmp_path / f"{mode}.jpg", picture.convert("RGB").convert(mode), quality=95)
        assert difference(garment, expected) < 3, mode


def test_suffix_does_not_matter(tmp_path: Path) -> None:
    assert np.array_equal(in_file(tmp_path / "shirt.jpg", Image.fromarray(boot()), format="PNG").pixels_HW, boot())


def test_odd_metadata(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    Image.fromarray(boot()).save(tmp_path / "odd.png", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff")
    assert np.array_equal(find_garment(read_picture(tmp_path / "odd.png")).pixels_HW, boot())
    assert not recwarn.list


# Refusals


def saved(format_name: str, **options: Any) -> bytes:
    noise_HW3 = np.random.default_rng(0).integers(0, 256, (60, 40, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise_HW3).save(buffer, format_name, **options)
    return buffer.getvalue()


REFUSED = {
    "empty.png": (b"", "empty"),
    "text.png": (b"hello", "no PNG"),
    "drawing.svg": (b'<?xml version="1.0"?>\n<SVG width="3"/>', "SVG"),
    "pickle.png": (pickle.dumps({"a": 1}), "no PNG"),
    "postscript.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "no PNG"),
    "tiff.png": (saved("TIFF"), "no PNG"),
    "header.png": (saved("PNG")[:20], "damaged"),
    "three.png": (saved("PNG")[:3], "no PNG"),
    "half.png": (saved("PNG")[:2000], "cut short"),
    "half.jpg": (saved("JPEG")[:-800], "cut short"),
    "half.webp": (saved("WEBP")[:-300], "cut short"),
    "half.gif": (saved("GIF")[:-900], "cut short"),
    "half.bmp": (saved("BMP")[:-900], "cut short"),
    "bomb.png": (png_claiming(60_000, 60_000), "50,000,000 pixels"),
    "large.png": (png_claiming(10_000, 5_001), "50,000,000 pixels"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_no_image(tmp_path: Path, name: str) -> None:
    content, reason = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    line = refusal(read_picture, tmp_path / name)
    assert name in line
    assert reason in line


def test_most_pixels_allowed(tmp_path: Path) -> None:
    (tmp_path / "large.png").write_bytes(png_claiming(10_000, 5_000))
    assert "cut short" in refusal(read_picture, tmp_path / "large.png")  # it got as far as its missing pixels


def test_pipe_device_and_folder(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", Path("/dev/zero"), tmp_path):
        assert "no regular file" in refusal(read_picture, path)


def test_huge_file(tmp_path: Path) -> None:
    with (tmp_path / "huge.webp").open("wb") as file:
        file.write(b"RIFF")
        file.truncate(500_000_001)  # sparse: takes no room
    assert "500,000,000 bytes" in refusal(read_picture, tmp_path / "huge.webp")


def test_image_bomb_takes_little_memory(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(png_claiming(60_000, 60_000))
    program = (
        "import resource, sys\n"
        "from stages.lib.photos import read_picture\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: read_picture(sys.argv[1])\n"
        "except ValueError as error: print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / before)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "bomb.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PROJECT)
    message, growth = done.stdout.splitlines()
    assert "50,000,000 pixels" in message
    assert float(growth) < 2


def test_damaged_files(tmp_path: Path) -> None:
    originals = [saved(name) for name in ("PNG", "JPEG", "WEBP", "GIF", "BMP")]
    changes: list[Callable[[bytearray, int], None]] = [
        lambda data, at: data.__setitem__(at, data[at] ^ 0xFF),
        lambda data, at: data.__delitem__(slice(at, None)),
        lambda data, at: data.__delitem__(slice(at, at + 5)),
        lambda data, at: data.__setitem__(slice(at, at), b"\xff\x00\x7f"),
    ]
    draw = random.Random(0)
    path = tmp_path / "damaged"
    ends = {"garments": 0, "errors": 0}
    for round_number in range(400):
        data = bytearray(originals[round_number % len(originals)])
        for _ in range(draw.randint(1, 3)):
            # Headers are short and decide the most: half of the damage goes there.
            reach = len(data) if draw.random() < 0.5 else min(60, len(data))
            draw.choice(changes)(data, draw.randrange(reach) if reach else 0) if data else data.append(0)
        path.write_bytes(data)
        try:
            garment = find_garment(read_picture(path))
        except UserError:
            ends["errors"] += 1
        else:
            ends["garments"] += garment.pixels_HW.shape == (28, 28)
    assert sum(ends.values()) == 400
    assert min(ends.values()) > 40, "the damage is too mild or too hard to test both"


# One colour


def noise(spread: int, mode: str = "L", side: int = 300) -> Image.Image:
    levels_HW = np.random.default_rng(0).integers(128 - spread, 129 + spread, (side, side), np.uint8)
    return Image.fromarray(levels_HW).convert(mode)


ONE_COLOUR = {
    "black": Image.new("L", (100, 50)),
    "white": Image.new("RGB", (100, 50), "white"),
    "red": Image.new("RGB", (100, 50), "red"),
    "grey 28 x 28": Image.new("L", (28, 28), 100),
    "one pixel": Image.new("L", (1, 1), 200),
    "transparent": Image.new("RGBA", (50, 50)),
    "half transparent": Image.new("RGBA", (50, 50), (90, 90, 90, 100)),
    "nearly one": noise(5, "RGB"),
    "camera noise": noise(15, side=2000),
    "palette": Image.new("P", (60, 60), 7),
    "16 bits": Image.new("I;16", (60, 60), 30_000),
}


@pytest.mark.parametrize("name", ONE_COLOUR)
@pytest.mark.parametrize("background", ["auto", "light", "dark"])
def test_one_colour(tmp_path: Path, name: str, background: Background) -> None:
    ONE_COLOUR[name].save(tmp_path / "wall.png")
    line = refusal(read_garment, tmp_path / "wall.png", background)
    assert "wall.png" in line
    assert "one colour" in line


@pytest.mark.parametrize("colour", [0, 70, 255])
def test_cut_out_garment_of_one_colour(tmp_path: Path, colour: int) -> None:
    cut_out(colour, colour).save(tmp_path / "shirt.png")
    assert read_garment(tmp_path / "shirt.png").pixels_HW[14, 14] > 127


def test_thin_lines_are_a_garment(tmp_path: Path) -> None:
    sketch = Image.new("L", (1000, 1000), 255)
    ImageDraw.Draw(sketch).rectangle((300, 200, 700, 800), outline=0)
    sketch.save(tmp_path / "sketch.png")
    assert read_garment(tmp_path / "sketch.png").inverted


# What lies beside the garment


def on_ground(ground: int = 240, garment: int = 60, size: tuple[int, int] = (400, 300)) -> Image.Image:
    """A garment of one grey in the middle of a uniform ground."""
    picture = Image.new("L", size, ground)
    picture.paste(garment, (150, 50, 250, 250))
    return picture


def test_specks_are_left_out() -> None:
    picture = on_ground()
    alone = find_garment(picture).pixels_HW
    picture.paste(0, (30, 30, 45, 45))
    picture.paste(0, (370, 280, 380, 300))
    assert np.abs(find_garment(picture).pixels_HW.astype(int) - alone).max() < 10


@pytest.mark.parametrize("gap", [4, 40])
def test_two_parts_are_one_garment(gap: int) -> None:
    picture = Image.new("L", (400, 300), 240)
    picture.paste(60, (100, 50, 140, 250))
    picture.paste(60, (140 + gap, 50, 180 + gap, 250))
    columns = find_garment(picture).pixels_HW[14] > 100
    assert columns.sum() >= 10
    assert np.ptp(np.flatnonzero(columns)) > 10  # the second is there


# Pictures unlike FashionMNIST


@pytest.mark.parametrize("colour", [(0.1, 0.2, 0.4), (0.7, 0.1, 0.1), (0.0, 0.0, 0.0)])
@pytest.mark.parametrize("draw", GARMENTS)
def test_no_doubt_of_clean_garments(draw: Callable[[Sheet], None], colour: tuple[float, float, float]) -> None:
    garments = [find_garment(draw_samples.picture(Sample(draw, seed, colour))) for seed in range(4)]
    assert [garment.doubts for garment in garments if garment.contrast >= 64 and garment.doubts] == []


def test_no_doubt_of_images_as_they_are(tmp_path: Path) -> None:
    write_synthetic(tmp_path, seed=0, train=10, test=500)
    with gzip.open(tmp_path / TEST_IMAGES) as file:
        images_NHW = np.frombuffer(file.read()[16:], np.uint8).reshape(-1, 28, 28)
    assert [found for image in images_NHW if (found := find_garment(Image.fromarray(image)).doubts)] == []


@pytest.mark.parametrize("draw", GARMENTS)
def test_ground_with_folds(draw: Callable[[Sheet], None]) -> None:
    for seed in range(4):
        garment = find_garment(draw_samples.picture(Sample(draw, seed, (0.7, 0.1, 0.1), on_cloth=True)))
        assert "its ground is not uniform" in garment.doubts


def test_little_contrast() -> None:
    assert "it has little contrast" in find_garment(on_ground(240, 200)).doubts
    assert find_garment(on_ground(240, 60)).doubts == ()


def test_garment_of_few_pixels() -> None:
    (doubt,) = find_garment(on_ground().resize((32, 24))).doubts
    assert "only 16 pixels" in doubt


def test_transparent_ground_is_uniform() -> None:
    assert find_garment(cut_out(40, 0).resize((400, 800))).doubts == ()


# Digits


@pytest.mark.parametrize("size", [(28, 28), (300, 200)])
@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_digit_on_paper(tmp_path: Path, size: tuple[int, int], mode: str) -> None:
    """Models of MNIST know light digits on black: a dark one on white is seen as its negative."""
    pictures = []
    for name, ground, ink in (("paper.png", 255, 0), ("board.png", 0, 255)):
        picture = Image.new("L", size, ground)
        picture.paste(ink, (size[0] // 2, size[1] // 4, size[0] // 2 + size[0] // 9, size[1] * 3 // 4))
        picture.convert(mode).save(tmp_path / name)
        pictures.append(see(tmp_path / name, "mnist", GREY_28, {}))
    paper, board = pictures
    assert (paper.inverted, board.inverted) == (True, False)
    assert np.array_equal(paper.pixels_CHW, board.pixels_CHW)
    assert see(tmp_path / "board.png", "mnist", GREY_28, {}, "light").inverted
    assert not see(tmp_path / "paper.png", "mnist", GREY_28, {}, "dark").inverted
    assert not see(tmp_path / "paper.png", "images", GREY_28, {}).inverted


def test_background_where_none_is_looked_for(tmp_path: Path) -> None:
    Image.new("L", (9, 9)).save(tmp_path / "pet.png")
    assert "--background" in refusal(see, tmp_path / "pet.png", "images", GREY_28, {}, "light")


# What people are shown


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_preview(mode: str) -> None:
    assert preview(Image.new(mode, (1000, 500)), longest=100).shape == (50, 100, 3)


def test_preview_of_transparency() -> None:
    small = preview(cut_out(0, 0))
    assert small[0, 0].tolist() == [221, 221, 221]
    assert small[90, 50].tolist() == [0, 0, 0]
