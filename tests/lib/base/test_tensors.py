"""Tensors on disk: the same bytes for the same tensors, and damage is refused."""

import json
import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from stages.lib.base.errors import UserError
from stages.lib.base.tensors import load_arrays, load_tensors, save_tensors
from tests.helpers import PROJECT, refusal

TENSORS = {"labels": torch.arange(5), "images": torch.arange(40, dtype=torch.uint8).reshape(5, 1, 2, 4)}
ABOUT = {"z": [1, 2], "a": {"name": "café", "share": 0.1}, "empty": None}

Load: TypeAlias = Callable[[Path], Any]
LOADERS: list[Load] = [load_tensors, load_arrays]
both_loaders = pytest.mark.parametrize("load", LOADERS)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "split.safetensors"


def check_refused(path: Path, load: Load, problem: str = "") -> None:
    message = refusal(load, path)
    assert message.startswith(f"{path} {problem}")
    assert "`dvc repro`" in message


def write_raw(path: Path, header: object, data: bytes = b"") -> None:
    """Write a safetensors file with any header at all."""
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def test_tensors_come_back(path: Path) -> None:
    save_tensors(path, TENSORS, ABOUT)
    tensors, about = load_tensors(path)
    assert about == ABOUT
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == TENSORS[name].dtype
        assert torch.equal(tensor, TENSORS[name])


def test_arrays_are_the_tensors(path: Path) -> None:
    save_tensors(path, TENSORS, ABOUT)
    arrays, about = load_arrays(path)
    assert about == ABOUT
    for name, tensor in TENSORS.items():
        np.testing.assert_array_equal(arrays[name], tensor.numpy(), strict=True)


def test_empty_tensor(path: Path) -> None:
    save_tensors(path, {"images": torch.zeros(0, 1, 28, 28, dtype=torch.uint8)}, {})
    assert load_tensors(path)[0]["images"].shape == (0, 1, 28, 28)


@pytest.mark.slow
def test_same_bytes_in_any_process(tmp_path: Path) -> None:
    code = """
import sys, torch
from stages.lib.base.tensors import save_tensors
names = sorted("abcdef", reverse=sys.argv[2] == "1")
save_tensors(sys.argv[1], {n: torch.full((3,), ord(n)) for n in names}, {n: n * 2 for n in names})
"""
    files = [tmp_path / "first", tmp_path / "a" / "second.safetensors"]
    running = [
        subprocess.Popen(
            [sys.executable, "-Bc", code, str(file), str(number)],
            cwd=PROJECT,
            env={**os.environ, "PYTHONHASHSEED": str(number), "OMP_NUM_THREADS": "1"},
        )
        for number, file in enumerate(files)
    ]
    names = "fbadec"
    save_tensors(tmp_path / "ours", {n: torch.full((3,), ord(n)) for n in names}, {n: n * 2 for n in names})
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    assert {file.read_bytes() for file in files} == {(tmp_path / "ours").read_bytes()}


def test_same_bytes_in_any_order(path: Path) -> None:
    save_tensors(path, TENSORS, ABOUT)
    before = path.read_bytes()
    save_tensors(path, dict(reversed(TENSORS.items())), dict(reversed(ABOUT.items())))
    assert path.read_bytes() == before


def test_replacing_a_loaded_file(path: Path) -> None:
    save_tensors(path, TENSORS, ABOUT)
    labels = load_tensors(path)[0]["labels"]
    save_tensors(path, {"labels": torch.zeros(5)}, ABOUT)
    assert labels.tolist() == [0, 1, 2, 3, 4]


def test_metadata_must_be_json(path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        save_tensors(path, TENSORS, {"share": float("nan")})
    assert list(path.parent.iterdir()) == []


@both_loaders
def test_missing_file(path: Path, load: Load) -> None:
    check_refused(path, load, "is missing")


@both_loaders
def test_folder_in_place_of_a_file(tmp_path: Path, load: Load) -> None:
    check_refused(tmp_path, load)


@both_loaders
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00",
        b"\x00" * 8,
        b"\xff" * 8,
        b"\xff" * 100,
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 100_000_001) + b"{}",
        b"<html>404</html>",
        b"\x89PNG\r\n\x1a\n" + b"\x00" * 50,
    ],
    ids=["empty", "a-byte", "zeros", "huge-header", "ones", "no-header", "header-too-long", "html", "png"],
)
def test_no_safetensors_file(path: Path, content: bytes, load: Load) -> None:
    path.write_bytes(content)
    check_refused(path, load, "is damaged")


class Hostile:
    """Unpickled, it makes the file `owned`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@both_loaders
@pytest.mark.parametrize("kind", ["pickle", "torch.save"])
def test_pickle_is_not_opened(path: Path, load: Load, kind: str) -> None:
    owned = path.with_name("owned")
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Hostile(owned)))
    else:
        torch.save(Hostile(owned), path)
    check_refused(path, load)
    assert not owned.exists()
    if kind == "pickle":
        pickle.loads(path.read_bytes())
        assert owned.exists()  # the bait was good


@both_loaders
@pytest.mark.parametrize(
    "metadata", [None, {}, {"format": "pt"}, {"about": ""}, {"about": "no JSON"}, {"about": "[1]"}, {"about": "null"}]
)
def test_safetensors_file_of_others(path: Path, load: Load, metadata: dict[str, str] | None) -> None:
    save_file(TENSORS, path, metadata=metadata)
    check_refused(path, load)


@both_loaders
@pytest.mark.parametrize("about", ["[" * 100_000, '{"seed": ' + "1" * 10_000 + "}"], ids=["deep", "huge-number"])
def test_metadata_that_breaks_the_parser(path: Path, load: Load, about: str) -> None:
    write_raw(path, {"__metadata__": {"about": about}})
    check_refused(path, load)


@pytest.mark.parametrize(("dtype", "size"), [("BF16", 16), ("F8_E4M3", 8), ("F8_E5M2", 8), ("F8_E8M0", 8), ("F4", 4)])
def test_numbers_unknown_to_numpy(path: Path, dtype: str, size: int) -> None:
    tensor = {"dtype": dtype, "shape": [8], "data_offsets": [0, size]}
    write_raw(path, {"__metadata__": {"about": "{}"}, "a": tensor}, b"1" * size)
    check_refused(path, load_arrays)


def damaged(content: bytes, data: st.DataObject) -> bytes:
    """Return `content` cut short, made longer, or with some bits flipped."""
    how = data.draw(st.sampled_from(["cut", "longer", "flip"]))
    if how == "cut":
        return content[: data.draw(st.integers(0, len(content) - 1))]
    if how == "longer":
        return content + data.draw(st.binary(min_size=1, max_size=9))
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        # Half of the flips hit the header, where they can do harm.
        place = data.draw(st.integers(0, 250) | st.integers(0, len(content) - 1))
        changed[place % len(content)] ^= data.draw(st.integers(1, 255))
    return bytes(changed)


@given(data=st.data(), load=st.sampled_from(LOADERS))
def test_damage(data: st.DataObject, load: Load, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    save_tensors(path, TENSORS, ABOUT)
    whole = path.read_bytes()
    content = damaged(whole, data)
    path.write_bytes(content)
    try:
        tensors, about = load(path)
    except UserError as error:
        message = str(error)
        assert message.startswith(str(path))
        assert "\n" not in message
    else:  # a pixel, a name or a number may have changed: DVC's own checksums find that
        assert len(content) == len(whole)
        assert isinstance(about, dict)
        assert sum(tensor.nbytes for tensor in tensors.values()) == 80
