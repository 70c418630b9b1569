"""IDX, the format of the MNIST family: a big-endian header, then unsigned bytes; published compressed with gzip.

    00 00 08 03   magic number: unsigned bytes, 3 dimensions (00 00 08 01 for labels: 1 dimension)
    4 bytes each  the dimensions: 00 00 ea 60, 00 00 00 1c, 00 00 00 1c is 60,000 images of 28 x 28
    the bytes     image by image, row by row

Reading and writing go piece by piece, so that memory does not grow with the number of images. Reading trusts nothing:
whatever is wrong with a file ends in one error that names it, and decompression stops where the header says it ends.
"""

import gzip
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from stages.lib.base.errors import Outdated, UserError
from stages.lib.base.files import replacing
from stages.lib.source.idx_sets import CLASS_NAMES, IMAGE_SHAPE

UNSIGNED_BYTES = 0x00000800  # the magic number of unsigned bytes; its last byte is the number of dimensions
MOST_ITEMS = 10_000_000  # images or labels in one file: what a damaged header may promise is bounded
PIECE_BYTES = 1 << 20  # decompressed at a time


def write_idx(path: str | Path, shape: tuple[int, ...], chunks: Iterable[NDArray[np.uint8]]) -> None:
    """Write a gzip-compressed IDX file, without time and name: the same content and zlib give the same bytes.

    Args:
        path: the file to write, `.gz`.
        shape: of the whole: `(N, height, width)` for images, `(N,)` for labels.
        chunks: uint8 arrays `[n, height, width]` or `[n]` that make up the whole; only one at a time is held.
    """
    written = 0
    with (
        replacing(path) as temporary,
        temporary.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=raw, mtime=0) as file,
    ):
        file.write(struct.pack(f">{1 + len(shape)}I", UNSIGNED_BYTES + len(shape), *shape))
        for chunk in chunks:
            assert chunk.dtype == np.uint8, f"{path}: a chunk of {chunk.dtype}"
            assert chunk.shape[1:] == shape[1:], f"{path}: a chunk of shape {chunk.shape} for {shape}"
            file.write(chunk.tobytes())
            written += len(chunk)
        assert written == shape[0], f"{path}: {written} items given, {shape[0]} promised"


def unpack_images(path: str | Path, target: str | Path) -> int:
    """Decompress the images in `path` (.gz) into the IDX file `target`, which appears only when all is right.

    Checked are the magic number, the dimensions `(N, 28, 28)` with N from 1 to `MOST_ITEMS`, the exact length, and
    gzip's checksum.

    Returns:
        N, the number of images.

    Raises:
        UserError: `path` is missing, damaged, or something else than images.
    """
    return _unpack(Path(path), target, "images", IMAGE_SHAPE[1:])


def unpack_labels(path: str | Path, target: str | Path) -> int:
    """Decompress the labels in `path` (.gz) into the IDX file `target`, checked as images are; labels are 0 to 9.

    Returns:
        N, the number of labels.

    Raises:
        UserError: `path` is missing, damaged, or something else than labels.
    """
    return _unpack(Path(path), target, "labels", (), largest=len(CLASS_NAMES) - 1)


def map_idx(path: str | Path) -> NDArray[np.uint8]:
    """Map an unpacked IDX file of unsigned bytes into memory, in the shape of its header; changes stay in memory."""
    with Path(path).open("rb") as file:
        (magic,) = struct.unpack(">I", file.read(4))
        shape = struct.unpack(f">{magic % 256}I", file.read(4 * (magic % 256)))
        return np.memmap(path, dtype=np.uint8, mode="c", offset=file.tell(), shape=shape)


def _unpack(path: Path, target: str | Path, what: str, item_shape: tuple[int, ...], largest: int = 255) -> int:
    if not path.exists():
        raise Outdated(path)
    if not path.is_file():  # reading a pipe would never end
        raise _damaged(path, "is no regular file")
    try:
        with gzip.open(path, "rb") as file, replacing(target) as temporary, temporary.open("wb") as out:
            count = _read_header(path, file, out, what, item_shape)
            _copy_items(path, file, out, what, count * int(np.prod(item_shape)), largest)
            return count
    except EOFError:
        raise _damaged(path, "is cut short: its compressed data end too early") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise _damaged(path, f"is no gzip file or is damaged ({error})") from None


def _read_header(path: Path, file: gzip.GzipFile, out: BinaryIO, what: str, item_shape: tuple[int, ...]) -> int:
    """Copy the header and return the number of items that it promises."""
    magic = UNSIGNED_BYTES + 1 + len(item_shape)
    size = 4 * (2 + len(item_shape))
    header = file.read(size)
    if len(header) < size:
        raise _damaged(path, f"holds {len(header)} bytes, less than the header of {size} that {what} have")
    found, count, *found_shape = struct.unpack(f">{size // 4}I", header)
    if found != magic:
        raise _damaged(path, f"starts with {found:#010x}, not with {magic:#010x} as IDX {what} do")
    if tuple(found_shape) != item_shape:
        raise _damaged(path, f"holds {what} of {_times(found_shape)} pixels, not {_times(item_shape)}")
    if not 1 <= count <= MOST_ITEMS:
        raise _damaged(path, f"promises {count} {what}; 1 to {MOST_ITEMS} are allowed")
    out.write(header)
    return int(count)


def _copy_items(path: Path, file: gzip.GzipFile, out: BinaryIO, what: str, size: int, largest: int) -> None:
    """Copy `size` bytes, and check that no more of them follow and that none is above `largest`."""
    done = 0
    while done < size:
        piece = file.read(min(PIECE_BYTES, size - done))
        if not piece:
            raise _damaged(path, f"ends after {done} of the {size} bytes that its header promises")
        values = np.frombuffer(piece, np.uint8)
        if values.max() > largest:
            first = int(np.argmax(values > largest))
            raise _damaged(path, f"has {values[first]} at position {done + first}; {what} are 0 to {largest}")
        out.write(piece)
        done += len(piece)
    # This read also makes gzip check its checksum. One byte too many is enough: a decompression bomb stops here.
    if file.read(1):
        raise _damaged(path, f"goes on after the {size} bytes that its header promises")


def _damaged(path: Path, what: str) -> UserError:
    return UserError(f"{path} {what}; `rm {path}` and run `dvc repro fetch` to get it again")


def _times(shape: Iterable[int]) -> str:
    return " x ".join(map(str, shape))
