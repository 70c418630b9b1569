"""The command behind `make lecture`, on a small notebook, and the committed walk-through."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nbclient.exceptions import CellExecutionError

from stages.commands import walkthrough
from stages.commands.walkthrough import NOTEBOOK, SOURCE, as_text, read_notebook, run_notebook
from stages.lib.base.errors import UserError
from tests.helpers import PROJECT

SMALL = """# %% [markdown]
# # A heading

# %%
import sys

print("one")
print("a warning", file=sys.stderr)
print("two")

# %% tags=["varies"]
import time

print(f"{time.time():.6f} seconds")

# %%
import matplotlib.pyplot as plt

plt.plot([1, 2])
plt.show()
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`small(text)` writes the source of a notebook."""

    def write(text: str) -> Path:
        path = tmp_path_factory.mktemp("notebook") / "small.py"
        path.write_text(text)
        return path

    return write


@pytest.fixture(scope="module")
def ran(small: Callable[[str], Path]) -> Any:
    return run_notebook(small(SMALL))


@pytest.fixture(scope="module")
def cells(ran: Any) -> list[dict[str, Any]]:
    """The cells as they are written to disk."""
    cells: list[dict[str, Any]] = json.loads(as_text(ran))["cells"]
    return cells


def printed(cell: dict[str, Any]) -> str:
    return "".join(line for output in cell["outputs"] for line in output.get("text", []))


def test_outputs(cells: list[dict[str, Any]]) -> None:
    assert printed(cells[1]) == "one\ntwo\n"
    assert [list(output["data"]) for output in cells[3]["outputs"]] == [["image/png", "text/plain"]]


def test_what_varies_is_shown_and_left_out(ran: Any, cells: list[dict[str, Any]]) -> None:
    warning, shown = walkthrough.varying_outputs(ran)
    assert warning == "a warning\n"
    assert re.fullmatch(r"\d+\.\d{6} seconds\n", shown)
    assert "seconds" not in printed(cells[2])
    assert "run the cell" in printed(cells[2])


def test_command_writes_and_shows(
    small: Callable[[str], Path], ran: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = small(SMALL)
    monkeypatch.setattr(walkthrough, "SOURCE", source)
    monkeypatch.setattr(walkthrough, "NOTEBOOK", source.with_suffix(".ipynb"))
    monkeypatch.setattr("sys.argv", ["walkthrough"])
    walkthrough.main()
    assert source.with_suffix(".ipynb").read_text() == as_text(ran)  # the same bytes in another run
    assert " seconds\n" in capsys.readouterr().out


@pytest.mark.slow
def test_missing_results_are_one_line(small: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    source = small("from stages.lib.base.errors import Outdated\nraise Outdated('models/model_2.safetensors')\n")
    with pytest.raises(UserError, match=r"^models/model_2\.safetensors is missing"):
        run_notebook(source)


def test_other_errors_show_the_cell(small: Callable[[str], Path]) -> None:
    with pytest.raises(CellExecutionError, match="1 / 0"):
        run_notebook(small("number = 1 / 0\n"))


def test_committed_notebook_is_of_its_source() -> None:
    committed = json.loads((PROJECT / NOTEBOOK).read_text(encoding="utf-8"))["cells"]
    assert ["".join(cell["source"]) for cell in committed] == [
        cell.source for cell in read_notebook(PROJECT / SOURCE).cells
    ]


@pytest.mark.parametrize(
    ("source", "images", "said"),
    [("mnist", 60_000, True), ("fashion-mnist", 55_000, True), ("fashion-mnist", 60_000, False)],
)
def test_walk_through_says_where_its_text_does_not_hold(
    source: str, images: int, said: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it says of figures is said of the lecture's: such as "these are the lecture's numbers, digit by digit"."""

    class Images:
        def __init__(self, train: bool) -> None:
            self.source = source

        def __len__(self) -> int:
            return images

    monkeypatch.setattr("stages.lecture.datasets.FashionMNIST", Images)
    (cell,) = [cell.source for cell in read_notebook(PROJECT / SOURCE).cells if '"images of"' in cell.source]
    exec(cell, {})
    assert ("do not hold" in capsys.readouterr().out) is said


def test_committed_notebook_is_small_and_of_no_machine() -> None:
    text = (PROJECT / NOTEBOOK).read_text(encoding="utf-8")
    assert len(text) < 1_000_000
    assert re.findall(r"0x[0-9a-f]{6,}|/(?:home|root|tmp|Users)/|Traceback", text) == []
