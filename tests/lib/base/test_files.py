"""Whole files or none."""

import csv
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages.lib.base import files
from tests.helpers import refusal


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_file_appears_when_whole(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    with files.replacing(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
    assert path.read_text() == "half"
    assert names(tmp_path) == ["table.csv"]


@pytest.mark.parametrize("fault", [RuntimeError("boom"), OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_fault_keeps_the_old_file(tmp_path: Path, fault: BaseException) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(type(fault)), files.replacing(path) as temporary:  # noqa: PT012  # the fault is in the block
        temporary.write_text("half of the new")
        raise fault
    assert path.read_text() == "old"
    assert names(tmp_path) == ["table.csv"]


def test_nothing_written_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), files.replacing(path):
        pass
    assert path.read_text() == "old"


def test_leftover_of_a_crash_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    with files.replacing(path) as temporary:
        temporary.write_text("first")
    temporary.write_text("left behind by kill -9, and longer than what comes next")
    files.write_text(path, "next\n")
    assert path.read_text() == "next\n"
    assert names(tmp_path) == ["text.txt"]


def test_text_in_a_new_folder(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a" / "b" / "text.txt", "café\nline\n")
    assert (tmp_path / "a" / "b" / "text.txt").read_bytes() == b"caf\xc3\xa9\nline\n"


def test_json_keeps_order_and_digits(tmp_path: Path) -> None:
    path = f"{tmp_path}/data.json"
    value = {"z": 0.1 + 0.2, "a": 1e-300, "name": "café", "correct": 8341}
    files.write_json(path, value)
    text = '{\n  "z": 0.30000000000000004,\n  "a": 1e-300,\n  "name": "café",\n  "correct": 8341\n}\n'
    assert Path(path).read_text(encoding="utf-8") == text
    assert files.read_json(path) == value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_json_refuses_nan_and_infinity(tmp_path: Path, value: float) -> None:
    path = tmp_path / "data.json"
    files.write_json(path, {"loss": 1.0})
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(path, {"loss": value})
    assert files.read_json(path) == {"loss": 1.0}
    assert names(tmp_path) == ["data.json"]


def test_csv_keeps_digits(tmp_path: Path) -> None:
    rows = [(1, 0.1 + 0.2, 1e-300), (2, 1 / 3, 83.4301282051282)]
    files.write_csv(tmp_path / "curve.csv", ["epoch", "loss", "acc"], rows)
    content = (tmp_path / "curve.csv").read_bytes()
    assert content.startswith(b"epoch,loss,acc\n1,0.30000000000000004,1e-300\n")
    _, *read = csv.reader(content.decode().splitlines())
    assert [(int(epoch), float(loss), float(acc)) for epoch, loss, acc in read] == rows


def test_csv_quotes_fields(tmp_path: Path) -> None:
    rows = [["T-shirt, top", 'a "new" one']]
    files.write_csv(tmp_path / "names.csv", ["first", "second"], rows)
    assert list(csv.reader((tmp_path / "names.csv").read_text().splitlines()))[1:] == rows


def test_failing_rows_keep_the_old_csv(tmp_path: Path) -> None:
    path = tmp_path / "curve.csv"
    files.write_csv(path, ["epoch"], [[1]])
    with pytest.raises(ZeroDivisionError):
        files.write_csv(path, ["epoch"], ([1 // (2 - number)] for number in range(4)))
    assert path.read_text() == "epoch\n1\n"
    assert names(tmp_path) == ["curve.csv"]


def test_copy_replaces_the_target(tmp_path: Path) -> None:
    source, target = tmp_path / "model_1.safetensors", tmp_path / "best.safetensors"
    source.write_bytes(bytes(range(256)))
    target.write_bytes(b"the best before")
    files.copy(source, target)
    assert target.read_bytes() == bytes(range(256))


def test_copy_of_a_missing_file_keeps_the_target(tmp_path: Path) -> None:
    (tmp_path / "best.safetensors").write_bytes(b"the best before")
    with pytest.raises(FileNotFoundError):
        files.copy(tmp_path / "model_1.safetensors", tmp_path / "best.safetensors")
    assert (tmp_path / "best.safetensors").read_bytes() == b"the best before"
    assert names(tmp_path) == ["best.safetensors"]


def test_checksum(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(100_000))
    assert files.sha256_of(tmp_path / "a") == hashlib.sha256(bytes(100_000)).hexdigest()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "is missing"),
        (b"", "is not valid JSON"),
        (b'{"loss": 0.5', "is not valid JSON"),
        (b"\xff\xfe\x00", "is not valid JSON"),
        (b"[1, 2]", "does not hold a JSON object"),
        (b"null", "does not hold a JSON object"),
        (b"[" * 100_000, "is not valid JSON"),
        (b'{"loss": ' + b"9" * 10_000 + b"}", "is not valid JSON"),
    ],
    ids=["missing", "empty", "cut", "bytes", "list", "null", "deep", "huge-number"],
)
def test_unusable_json(tmp_path: Path, content: bytes | None, problem: str) -> None:
    path = tmp_path / "best.json"
    if content is not None:
        path.write_bytes(content)
    message = refusal(files.read_json, path)
    assert message.startswith(f"{path} {problem}")
    assert "`dvc repro`" in message


@pytest.mark.parametrize(
    "write",
    [
        lambda path: files.write_text(path, "text"),
        lambda path: files.write_json(path, {"a": 1}),
        lambda path: files.write_csv(path, ["a"], [[1]]),
    ],
    ids=["text", "json", "csv"],
)
def test_same_bytes_twice(tmp_path: Path, write: Callable[[Path], Any]) -> None:
    write(tmp_path / "first")
    write(tmp_path / "second")
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
