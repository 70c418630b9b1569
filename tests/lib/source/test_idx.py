"""IDX files: written the same every time; read whole, or refused with one error that names the file."""

import gzip
import os
import struct
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from stages.lib.base.errors import UserError
from stages.lib.source.idx import MOST_ITEMS, map_idx, unpack_images, unpack_labels, write_idx
from tests.helpers import refusal

Unpack = Callable[[Path, Path], int]

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)
LABELS = np.array([9, 0, 3, 3, 7], dtype=np.uint8)
IMAGES_IDX = struct.pack(">4I", 0x803, 3, 28, 28) + IMAGES.tobytes()
LABELS_IDX = struct.pack(">2I", 0x801, 5) + LABELS.tobytes()


KINDS = [
    pytest.param(unpack_images, IMAGES, IMAGES_IDX, id="images"),
    pytest.param(unpack_labels, LABELS, LABELS_IDX, id="labels"),
]


def compressed(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def complaint_of(tmp_path: Path, unpack: Unpack, damaged: bytes | bytearray) -> str:
    """The line with which `unpack` refuses these bytes; it names file and remedy, and nothing is left behind."""
    path, target = tmp_path / "given.gz", tmp_path / "unpacked" / "file"
    path.write_bytes(damaged)
    line = refusal(unpack, path, target)
    assert line.startswith(str(path))
    assert f"`rm {path}`" in line
    assert "dvc repro fetch" in line
    assert list(target.parent.iterdir()) == [], "something was left behind"
    return line


@pytest.mark.parametrize(("unpack", "items", "content"), KINDS)
def test_round_trip(tmp_path: Path, unpack: Unpack, items: NDArray[np.uint8], content: bytes) -> None:
    write_idx(tmp_path / "packed.gz", items.shape, [items[:1], items[1:]])
    assert unpack(tmp_path / "packed.gz", tmp_path / "unpacked") == len(items)
    assert (tmp_path / "unpacked").read_bytes() == content


def test_same_bytes_at_any_time_and_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(tmp_path / "a.gz", (5,), [LABELS])
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)
    write_idx(tmp_path / "other" / "b.gz", (5,), [LABELS[:2], LABELS[2:]])
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "other" / "b.gz").read_bytes()


def test_gzip_level_and_header(tmp_path: Path) -> None:
    content = np.cumsum(np.random.default_rng(0).integers(-1, 2, 100_000)) % 10  # a walk: the level shows
    write_idx(tmp_path / "labels.gz", (100_000,), [content.astype(np.uint8)])
    packed = (tmp_path / "labels.gz").read_bytes()
    assert packed[:9] == b"\x1f\x8b\x08" + bytes(6)  # gzip, deflate; no flags, no time, no other level
    whole = struct.pack(">2I", 0x801, 100_000) + content.astype(np.uint8).tobytes()
    assert packed[10:] == gzip.compress(whole, compresslevel=6, mtime=0)[10:]


def test_chunk_that_is_not_contiguous(tmp_path: Path) -> None:
    write_idx(tmp_path / "images.gz", (3, 28, 28), [np.asfortranarray(IMAGES)])
    assert gzip.decompress((tmp_path / "images.gz").read_bytes()) == IMAGES_IDX


@pytest.mark.parametrize("chunk", [LABELS[:4], LABELS.astype(np.int64), LABELS[:, None]], ids=["few", "int64", "shape"])
def test_wrong_chunks_leave_no_file(tmp_path: Path, chunk: NDArray[np.uint8]) -> None:
    with pytest.raises(AssertionError, match=r"labels\.gz"):
        write_idx(tmp_path / "labels.gz", (5,), [chunk])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("unpack", "items", "content"), KINDS)
def test_mapped_in_the_shape_of_the_header(
    tmp_path: Path, unpack: Unpack, items: NDArray[np.uint8], content: bytes
) -> None:
    (tmp_path / "unpacked").write_bytes(content)
    mapped = map_idx(tmp_path / "unpacked")
    assert mapped.dtype == np.uint8
    assert np.array_equal(mapped, items)


def test_changes_stay_in_memory(tmp_path: Path) -> None:
    (tmp_path / "unpacked").write_bytes(IMAGES_IDX)
    mapped = map_idx(tmp_path / "unpacked")
    mapped[:] = 0
    assert not mapped.any()
    assert (tmp_path / "unpacked").read_bytes() == IMAGES_IDX


@pytest.mark.parametrize("unpack", [unpack_images, unpack_labels])
def test_missing_file(tmp_path: Path, unpack: Unpack) -> None:
    line = refusal(unpack, tmp_path / "gone.gz", tmp_path / "target")
    assert f"{tmp_path / 'gone.gz'} is missing" in line
    assert "dvc repro" in line


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_no_file(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """A pipe, a folder or a device: reading a pipe would never end."""
    make(tmp_path / "given.gz")
    line = refusal(unpack_images, tmp_path / "given.gz", tmp_path / "target")
    assert f"{tmp_path / 'given.gz'} is no" in line
    assert "dvc repro fetch" in line


@pytest.mark.parametrize(
    ("unpack", "content", "complaint"),
    [
        (unpack_images, b"", "holds 0 bytes, less than the header of 16"),
        (unpack_images, IMAGES_IDX[:15], "holds 15 bytes, less than the header of 16"),
        (unpack_images, LABELS_IDX + bytes(20), "starts with 0x00000801, not with 0x00000803"),
        (unpack_images, struct.pack(">4I", 0x803, 3, 28, 27) + bytes(3 * 28 * 27), "28 x 27 pixels, not 28 x 28"),
        (unpack_images, struct.pack(">4I", 0x803, 0, 28, 28), "promises 0 images"),
        (unpack_images, struct.pack(">4I", 0x803, MOST_ITEMS + 1, 28, 28), f"promises {MOST_ITEMS + 1} images"),
        (unpack_images, IMAGES_IDX[:-1], "ends after 2351 of the 2352 bytes"),
        (unpack_images, IMAGES_IDX + b"\0", "goes on after the 2352 bytes"),
        (unpack_labels, LABELS_IDX[:7], "holds 7 bytes, less than the header of 8"),
        (unpack_labels, IMAGES_IDX, "starts with 0x00000803, not with 0x00000801"),
        (unpack_labels, struct.pack(">2I", 0x801, 0), "promises 0 labels"),
        (unpack_labels, LABELS_IDX[:-1], "ends after 4 of the 5 bytes"),
        (unpack_labels, LABELS_IDX + b"\0", "goes on after the 5 bytes"),
        (unpack_labels, LABELS_IDX[:-2] + b"\x0a\x05", "has 10 at position 3; labels are 0 to 9"),
    ],
)
def test_wrong_content(tmp_path: Path, unpack: Unpack, content: bytes, complaint: str) -> None:
    assert complaint in complaint_of(tmp_path, unpack, compressed(content))


def test_single_item(tmp_path: Path) -> None:
    for unpack, content in ((unpack_images, struct.pack(">4I", 0x803, 1, 28, 28) + bytes(784)),
                            (unpack_labels, struct.pack(">2I", 0x801, 1) + bytes(1))):  # fmt: skip
        (tmp_path / "one.gz").write_bytes(compressed(content))
        assert unpack(tmp_path / "one.gz", tmp_path / "one") == 1
        assert (tmp_path / "one").read_bytes() == content


def test_most_labels(tmp_path: Path) -> None:
    content = struct.pack(">2I", 0x801, MOST_ITEMS) + bytes(MOST_ITEMS)
    (tmp_path / "most.gz").write_bytes(gzip.compress(content, compresslevel=1, mtime=0))
    assert unpack_labels(tmp_path / "most.gz", tmp_path / "most") == MOST_ITEMS


def test_errors_in_a_later_piece(tmp_path: Path) -> None:
    labels = bytearray(3_000_000)
    content = struct.pack(">2I", 0x801, len(labels))
    assert "goes on after the 3000000 bytes" in complaint_of(
        tmp_path, unpack_labels, compressed(content + labels + b"\0")
    )
    labels[2_500_000] = 77
    assert "has 77 at position 2500000;" in complaint_of(tmp_path, unpack_labels, compressed(content + labels))


def test_wrong_gzip(tmp_path: Path) -> None:
    packed = bytearray(compressed(IMAGES_IDX))
    assert "is cut short" in complaint_of(tmp_path, unpack_images, packed[:-9])
    assert "is no gzip file" in complaint_of(tmp_path, unpack_images, b"<!DOCTYPE html><title>404</title>")
    packed[-8] ^= 1
    assert "CRC check failed" in complaint_of(tmp_path, unpack_images, packed)


def test_older_target_survives(tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("older")
    (tmp_path / "labels.gz").write_bytes(compressed(LABELS_IDX)[:-1])
    refusal(unpack_labels, tmp_path / "labels.gz", tmp_path / "labels")
    assert (tmp_path / "labels").read_text() == "older"


@pytest.mark.parametrize("promised", [1, MOST_ITEMS + 1])
def test_decompression_bomb(tmp_path: Path, promised: int) -> None:
    bomb = compressed(struct.pack(">4I", 0x803, promised, 28, 28) + bytes(16 << 20))
    tracemalloc.start()
    try:
        complaint_of(tmp_path, unpack_images, bomb)
        assert tracemalloc.get_traced_memory()[1] < 2 << 20, "memory grew with the bomb"
    finally:
        tracemalloc.stop()


def test_memory_for_many_images(tmp_path: Path) -> None:
    count, chunk = 60_000, np.zeros((1000, 28, 28), np.uint8)
    tracemalloc.start()
    try:
        write_idx(tmp_path / "images.gz", (count, 28, 28), (chunk for _ in range(count // len(chunk))))
        assert unpack_images(tmp_path / "images.gz", tmp_path / "images") == count
        assert tracemalloc.get_traced_memory()[1] < 8 << 20, "47 MB of images were held at once"
    finally:
        tracemalloc.stop()


# Damage: flip a bit, cut the end, append bytes, or replace a stretch by other bytes; positions as a part of the length.
Damage = tuple[str, float, bytes]
DAMAGES = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "append", "replace"]),
        st.floats(0, 1, exclude_max=True),
        st.binary(min_size=1, max_size=40),
    ),
    min_size=1,
    max_size=3,
)


def damage(content: bytes, damages: list[Damage]) -> bytes:
    changed = bytearray(content)
    for kind, part, extra in damages:
        where = int(part * len(changed))
        if kind == "flip" and changed:
            changed[where] ^= 1 << extra[0] % 8
        elif kind == "cut":
            del changed[where:]
        elif kind == "append":
            changed += extra
        elif kind == "replace":
            changed[where : where + len(extra)] = extra
    return bytes(changed)


def accepted(unpack: Unpack, given: bytes) -> bytes | None:
    """What `unpack` makes of the given bytes; None when it refuses them and names the file."""
    with tempfile.TemporaryDirectory() as folder:
        path, target = Path(folder, "damaged.gz"), Path(folder, "target")
        path.write_bytes(given)
        message = ""
        tracemalloc.start()
        try:
            unpack(path, target)
        except UserError as error:
            message = str(error)
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 4 << 20
        assert message.startswith(str(path)) or target.exists()
        return target.read_bytes() if target.exists() else None


@pytest.mark.parametrize(("unpack", "items", "content"), KINDS)
@given(damages=DAMAGES)
def test_damage_to_compressed_bytes(
    unpack: Unpack, items: NDArray[np.uint8], content: bytes, damages: list[Damage]
) -> None:
    assert accepted(unpack, damage(compressed(content), damages)) in (None, content)


@given(damages=DAMAGES)
def test_damage_to_images(damages: list[Damage]) -> None:
    # Compressed anew, so that gzip's checksum is right: pixels may differ, and nothing else may.
    found = accepted(unpack_images, compressed(damage(IMAGES_IDX, damages)))
    assert found is None or (len(found) == len(IMAGES_IDX) and found[:16] == IMAGES_IDX[:16])


@given(damages=DAMAGES)
def test_damage_to_labels(damages: list[Damage]) -> None:
    found = accepted(unpack_labels, compressed(damage(LABELS_IDX, damages)))
    if found is not None:
        (count,) = struct.unpack(">I", found[4:8])
        assert found[:4] == LABELS_IDX[:4]
        assert len(found) == 8 + count
        assert max(found[8:]) <= 9
