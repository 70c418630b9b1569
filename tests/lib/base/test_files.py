"""Whole files or none."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages.lib import files
from stages.lib.base.errors import UserError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_under_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    with files.replacing(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
    assert path.read_text() == "half"
    assert names(tmp_path) == ["table.csv"]


@pytest.mark.parametrize("fault", [RuntimeError("boom"), OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_fault_while_writing_keeps_the_old_file_and_leaves_nothing_else(tmp_path: Path, fault: BaseException) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(type(fault)), files.replacing(path) as temporary:  # noqa: PT012  # the fault is in the block
        temporary.write_text("half of the new")
        raise fault
    assert path.read_text() == "old"
    assert names(tmp_path) == ["table.csv"]


def test_a_block_that_writes_nothing_is_an_error_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), files.replacing(path):
        pass
    assert path.read_text() == "old"


def test_what_a_crash_left_behind_is_overwritten_by_the_next_run(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    with files.replacing(path) as temporary:
        temporary.write_text("first")
    temporary.write_text("left behind by kill -9, and longer than what comes next")
    files.write_text(path, "next\n")
    assert path.read_text() == "next\n"
    assert names(tmp_path) == ["text.txt"]


def test_missing_folders_are_made(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a" / "b" / "text.txt", "text")
    assert (tmp_path / "a" / "b" / "text.txt").read_text() == "text"


def test_a_path_may_be_a_string(tmp_path: Path) -> None:
    files.write_json(f"{tmp_path}/data.json", {"seed": 42})
    assert files.read_json(f"{tmp_path}/data.json") == {"seed": 42}


def test_text_is_utf_8_with_unix_line_ends(tmp_path: Path) -> None:
    files.write_text(tmp_path / "text.txt", "café\nline\n")
    assert (tmp_path / "text.txt").read_bytes() == b"caf\xc3\xa9\nline\n"


def test_json_keeps_the_order_of_keys_and_every_digit(tmp_path: Path) -> None:
    value = {"z": 0.1 + 0.2, "a": 1e-300, "name": "café"}
    files.write_json(tmp_path / "data.json", value)
    text = (tmp_path / "data.json").read_text(encoding="utf-8")
    assert text == '{\n  "z": 0.30000000000000004,\n  "a": 1e-300,\n  "name": "café"\n}\n'
    assert files.read_json(tmp_path / "data.json") == value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_json_without_meaning_is_refused_and_the_old_file_kept(tmp_path: Path, value: float) -> None:
    path = tmp_path / "data.json"
    files.write_json(path, {"loss": 1.0})
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(path, {"loss": value})
    assert files.read_json(path) == {"loss": 1.0}
    assert names(tmp_path) == ["data.json"]


def test_a_csv_file_gives_back_the_same_floats(tmp_path: Path) -> None:
    rows = [(1, 0.1 + 0.2, 1e-300), (2, 1 / 3, 83.4301282051282)]
    files.write_csv(tmp_path / "curve.csv", ["epoch", "loss", "acc"], rows)
    content = (tmp_path / "curve.csv").read_bytes()
    assert content.startswith(b"epoch,loss,acc\n1,0.30000000000000004,1e-300\n")
    header, *read = csv.reader(content.decode().splitlines())
    assert header == ["epoch", "loss", "acc"]
    assert [(int(epoch), float(loss), float(acc)) for epoch, loss, acc in read] == rows


def test_a_comma_or_a_quote_in_a_csv_field_is_read_back(tmp_path: Path) -> None:
    rows = [["T-shirt, top", 'a "new" one']]
    files.write_csv(tmp_path / "names.csv", ["first", "second"], rows)
    assert list(csv.reader((tmp_path / "names.csv").read_text().splitlines()))[1:] == rows


def test_rows_that_fail_on_the_way_keep_the_old_csv_file(tmp_path: Path) -> None:
    path = tmp_path / "curve.csv"
    files.write_csv(path, ["epoch"], [[1]])
    with pytest.raises(ZeroDivisionError):
        files.write_csv(path, ["epoch"], ([1 // (2 - number)] for number in range(4)))
    assert path.read_text() == "epoch\n1\n"
    assert names(tmp_path) == ["curve.csv"]


def test_a_copy_has_the_same_bytes_and_replaces_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "model_1.safetensors").write_bytes(bytes(range(256)))
    (tmp_path / "best.safetensors").write_bytes(b"the winner of before")
    files.copy(tmp_path / "model_1.safetensors", tmp_path / "best.safetensors")
    assert (tmp_path / "best.safetensors").read_bytes() == bytes(range(256))


def test_copying_a_missing_file_keeps_the_target(tmp_path: Path) -> None:
    (tmp_path / "best.safetensors").write_bytes(b"the winner of before")
    with pytest.raises(FileNotFoundError):
        files.copy(tmp_path / "model_1.safetensors", tmp_path / "best.safetensors")
    assert (tmp_path / "best.safetensors").read_bytes() == b"the winner of before"
    assert names(tmp_path) == ["best.safetensors"]


@pytest.mark.parametrize(
    ("content", "complaint"),
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
def test_a_json_file_that_cannot_be_used_is_named_with_the_remedy(
    tmp_path: Path, content: bytes | None, complaint: str
) -> None:
    path = tmp_path / "best.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        files.read_json(path)
    message = str(caught.value)
    assert message.startswith(f"{path} {complaint}")
    assert "`dvc repro`" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "write",
    [
        lambda path: files.write_text(path, "text"),
        lambda path: files.write_json(path, {"a": 1}),
        lambda path: files.write_csv(path, ["a"], [[1]]),
    ],
    ids=["text", "json", "csv"],
)
def test_writing_the_same_twice_gives_the_same_bytes(tmp_path: Path, write: Callable[[Path], Any]) -> None:
    write(tmp_path / "first")
    write(tmp_path / "second")
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_json_of_floats_survives_a_round_trip_through_the_standard_library(tmp_path: Path) -> None:
    value = {"accuracy": 83.41, "correct": 8341}
    files.write_json(tmp_path / "data.json", value)
    assert json.loads((tmp_path / "data.json").read_text()) == value
