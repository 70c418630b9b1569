"""Reading the CSV files that stages write."""

from pathlib import Path

import pytest

from stages.lib.base.errors import UserError
from stages.lib.base.files import write_csv
from stages.lib.results.tables import read_table


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_table(str(path))
    message = str(caught.value)
    assert message.startswith(f"{path} is ")
    assert "\n" not in message
    return message.removeprefix(f"{path} is ")


def test_numbers_are_read_to_the_last_digit(tmp_path: Path) -> None:
    rows = [(1, 0.1 + 0.2), (2, 1e-17), (3, 2.0)]
    write_csv(tmp_path / "a.csv", ["epoch", "loss"], rows)
    assert read_table(str(tmp_path / "a.csv")).to_numpy().tolist() == [list(row) for row in rows]


def test_layers_of_an_nn_sequential_keep_their_names(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", ["layer", "parameters"], [("0", 1), ("1.1", 2), ("1.10", 3)])
    assert read_table(str(tmp_path / "a.csv"))["layer"].tolist() == ["0", "1.1", "1.10"]


def test_an_empty_field_and_words_for_nothing_are_text(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", ["kind", "how"], [("None", ""), ("NA", "kernel 3")])
    assert read_table(str(tmp_path / "a.csv")).to_numpy().tolist() == [["None", ""], ["NA", "kernel 3"]]


def test_a_missing_file_says_how_to_make_it(tmp_path: Path) -> None:
    assert refusal(tmp_path / "a.csv") == "missing; run `dvc repro` to make it"


@pytest.mark.parametrize(
    "content",
    [b"", b"a,b\n1,2,3\n", b"a,b\n1,2\n<<<<<<< HEAD\n", b"a,b\n1,\xff\n", b'a,b\n1,"2\n'],
    ids=["empty", "too-many-fields", "merge-conflict", "no-utf-8", "open-quote"],
)
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    assert refusal(tmp_path / "a.csv").startswith("damaged")
