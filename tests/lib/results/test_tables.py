"""Reading the CSV files that stages write."""

from pathlib import Path
from typing import Any

import pytest

from stages.lib.base.files import write_csv
from stages.lib.results.tables import read_table
from tests.helpers import refusal


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        (["epoch", "loss"], [[1, 0.1 + 0.2], [2, 1e-17], [3, 0.47663894295692444]]),
        (["layer", "parameters"], [["0", 1], ["1.1", 2], ["1.10", 3]]),  # names, not numbers
        (["class", "images"], [["007", 1], ["1.10", 2], ["1_0", 3]]),  # of part numbers, say
        (["kind", "how"], [["None", ""], ["NA", "kernel 3"]]),  # not missing values
    ],
    ids=["digits", "layers", "classes", "words"],
)
def test_table_comes_back(tmp_path: Path, header: list[str], rows: list[list[Any]]) -> None:
    write_csv(tmp_path / "a.csv", header, rows)
    table = read_table(str(tmp_path / "a.csv"))
    assert list(table) == header
    assert [list(row) for row in table.itertuples(index=False)] == rows


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "is missing"),
        (b"", "is damaged"),
        (b"a,b\n1,2,3\n", "is damaged"),
        (b"a,b\n1,2\n<<<<<<< HEAD\n", "is damaged"),
        (b"a,b\n1,\xff\n", "is damaged"),
        (b'a,b\n1,"2\n', "is damaged"),
    ],
    ids=["missing", "empty", "too-many-fields", "merge-conflict", "no-utf-8", "open-quote"],
)
def test_unusable_table(tmp_path: Path, content: bytes | None, problem: str) -> None:
    path = tmp_path / "a.csv"
    if content is not None:
        path.write_bytes(content)
    message = refusal(read_table, str(path))
    assert message.startswith(f"{path} {problem}")
    assert "`dvc repro`" in message
