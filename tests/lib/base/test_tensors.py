"""Tensors on disk: the same bytes for the same tensors, and damage is refused."""

import json
import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from stages.lib.base.errors import UserError
from stages.lib.base.tensors import load_arrays, load_tensors, save_tensors

PROJECT = Path(__file__).parents[2]
TENSORS = {"labels": torch.arange(5), "images": torch.arange(40, dtype=torch.uint8).reshape(5, 1, 2, 4)}
ABOUT = {"z": [1, 2], "a": {"name": "café", "share": 0.1}, "empty": None}
LOADERS = [load_tensors, load_arrays]


def refusal(path: Path, load: Callable[[Path], Any]) -> str:
    """The error that loading `path` gives, checked to name the file and the remedy in one line."""
    with pytest.raises(UserError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "`dvc repro`" in message
    assert "\n" not in message
    return message.removeprefix(str(path)).strip()


def write_raw(path: Path, header: object, data: bytes = b"") -> Path:
    """A safetensors file with any header at all."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_tensors_and_what_is_said_of_them_come_back(tmp_path: Path) -> None:
    save_tensors(tmp_path / "split.safetensors", TENSORS, ABOUT)
    tensors, about = load_tensors(tmp_path / "split.safetensors")
    assert about == ABOUT
    assert sorted(tensors) == sorted(TENSORS)
    for name, tensor in tensors.items():
        assert tensor.dtype == TENSORS[name].dtype
        assert torch.equal(tensor, TENSORS[name])


def test_arrays_are_the_same_values_as_tensors(tmp_path: Path) -> None:
    save_tensors(tmp_path / "split.safetensors", TENSORS, ABOUT)
    arrays, about = load_arrays(tmp_path / "split.safetensors")
    assert about == ABOUT
    for name, tensor in TENSORS.items():
        np.testing.assert_array_equal(arrays[name], tensor.numpy(), strict=True)


def test_an_empty_tensor_comes_back(tmp_path: Path) -> None:
    save_tensors(tmp_path / "none.safetensors", {"images": torch.zeros(0, 1, 28, 28, dtype=torch.uint8)}, {})
    assert load_tensors(tmp_path / "none.safetensors")[0]["images"].shape == (0, 1, 28, 28)


def test_fresh_processes_write_the_same_bytes_whatever_the_order_and_the_files_name(tmp_path: Path) -> None:
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


def test_writing_the_same_again_changes_no_byte(tmp_path: Path) -> None:
    path = tmp_path / "split.safetensors"
    save_tensors(path, TENSORS, ABOUT)
    before = path.read_bytes()
    save_tensors(path, dict(reversed(TENSORS.items())), dict(reversed(ABOUT.items())))
    assert path.read_bytes() == before


def test_a_loaded_file_can_be_replaced_and_what_was_loaded_stays(tmp_path: Path) -> None:
    path = tmp_path / "split.safetensors"
    save_tensors(path, TENSORS, ABOUT)
    labels = load_tensors(path)[0]["labels"]
    save_tensors(path, {"labels": torch.zeros(5)}, ABOUT)
    assert labels.tolist() == [0, 1, 2, 3, 4]


def test_what_is_not_json_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        save_tensors(tmp_path / "split.safetensors", TENSORS, {"share": float("nan")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("load", LOADERS)
def test_a_missing_file_is_named(tmp_path: Path, load: Callable[[Path], Any]) -> None:
    assert refusal(tmp_path / "none.safetensors", load).startswith("is missing")


@pytest.mark.parametrize("load", LOADERS)
def test_a_folder_in_place_of_the_file_is_named(tmp_path: Path, load: Callable[[Path], Any]) -> None:
    refusal(tmp_path, load)


@pytest.mark.parametrize("load", LOADERS)
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
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, content: bytes, load: Callable[[Path], Any]) -> None:
    path = tmp_path / "split.safetensors"
    path.write_bytes(content)
    assert refusal(path, load).startswith("is damaged or no safetensors file of ours")


class Hostile:
    """Unpickled, it makes the file `owned`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("load", LOADERS)
@pytest.mark.parametrize("kind", ["pickle", "torch.save"])
def test_a_pickle_is_refused_and_nothing_in_it_runs(tmp_path: Path, load: Callable[[Path], Any], kind: str) -> None:
    owned, path = tmp_path / "owned", tmp_path / "model_0.safetensors"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Hostile(owned)))
    else:
        torch.save(Hostile(owned), path)
    refusal(path, load)
    assert not owned.exists()
    if kind == "pickle":
        pickle.loads(path.read_bytes())
        assert owned.exists()  # the bait was good


@pytest.mark.parametrize("load", LOADERS)
@pytest.mark.parametrize(
    "metadata", [None, {}, {"format": "pt"}, {"about": ""}, {"about": "no JSON"}, {"about": "[1]"}, {"about": "null"}]
)
def test_a_safetensors_file_of_someone_else_is_refused(
    tmp_path: Path, load: Callable[[Path], Any], metadata: dict[str, str] | None
) -> None:
    path = tmp_path / "model_0.safetensors"
    save_file(TENSORS, path, metadata=metadata)
    refusal(path, load)


@pytest.mark.parametrize("load", LOADERS)
@pytest.mark.parametrize("about", ["[" * 100_000, '{"seed": ' + "1" * 10_000 + "}"], ids=["deep", "huge-number"])
def test_metadata_that_would_break_the_parser_is_refused(
    tmp_path: Path, load: Callable[[Path], Any], about: str
) -> None:
    refusal(write_raw(tmp_path / "a.safetensors", {"__metadata__": {"about": about}}), load)


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F4"])
def test_numbers_that_numpy_does_not_know_are_refused(tmp_path: Path, dtype: str) -> None:
    size = {"BF16": 16, "F4": 4}.get(dtype, 8)
    tensor = {"dtype": dtype, "shape": [8], "data_offsets": [0, size]}
    header = {"__metadata__": {"about": "{}"}, "a": tensor}
    refusal(write_raw(tmp_path / "a.safetensors", header, b"1" * size), load_arrays)


def damaged(content: bytes, data: st.DataObject) -> bytes:
    """`content` cut short, made longer, or with some bits flipped."""
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
def test_a_damaged_file_is_refused_by_name_or_read_without_harm(
    data: st.DataObject, load: Callable[[Path], Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
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
    else:  # a pixel, a name or a number may have changed: DVC's own sums find that
        assert len(content) == len(whole)
        assert isinstance(about, dict)
        assert sum(tensor.nbytes for tensor in tensors.values()) == 80
