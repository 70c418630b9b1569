"""Run the walk-through and write it with its outputs: `make lecture`.

The source is docs/walkthrough.py, a Python file that comments `# %%` part into cells. It runs from top to bottom in a
Python of its own and is written as docs/walkthrough.ipynb: the same bytes for the same outputs. What differs from run
to run is printed here and left out there: outputs of cells tagged `varies`, such as times and paths, and everything on
stderr. Takes less than a minute on an idle machine.
"""

import asyncio
import os
import signal
import subprocess
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from traitlets.config import Config

from stages.lib.base.errors import UserError, exit_cleanly
from stages.lib.base.files import write_text

SOURCE = Path("docs/walkthrough.py")
NOTEBOOK = SOURCE.with_suffix(".ipynb")
VARIES = "varies"
LEFT_OUT = "(This differs from run to run: run the cell to see it.)\n"
OURS = ("UserError", "Outdated")  # errors whose message is enough
# Nothing of the machine that ran it. Jupyter, VS Code and Colab need these to find a Python.
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def main() -> None:
    """Run, show what varies, write."""
    ArgumentParser(prog="python -m stages.commands.walkthrough", description="Run the walk-through.").parse_args()
    notebook = run_notebook(SOURCE)
    for text in varying_outputs(notebook):
        print(text.strip())
    write_text(NOTEBOOK, as_text(notebook))
    print(f"{NOTEBOOK}: {len(notebook.cells)} cells")


def read_notebook(source: Path) -> Any:
    """Read the cells of the source; their ids are their numbers."""
    notebook = jupytext.reads(source.read_text(encoding="utf-8"), fmt="py:percent")
    notebook.metadata = nbformat.from_dict(METADATA)
    for number, cell in enumerate(notebook.cells, start=1):
        cell.id = f"cell-{number}"
    return notebook


def run_notebook(source: Path) -> Any:
    """Run the cells of the source in the current folder; return them with their outputs.

    Raises:
        UserError: a cell says that something is missing.
        CellExecutionError: another error in a cell.
    """
    notebook = read_notebook(source)
    with TemporaryDirectory() as folder:
        # A socket in this folder instead of a port that other users of the machine could reach.
        kernel = Config(KernelManager={"transport": "ipc", "connection_file": f"{folder}/kernel.json"})
        client = NotebookClient(
            notebook,
            config=kernel,
            timeout=None,
            record_timing=False,
            coalesce_streams=True,
            on_notebook_start=let_ctrl_c_end_it,
        )
        try:
            # Without anybody's own settings, and without what a kernel says when it is ended; cells have a stderr of
            # their own.
            client.execute(env={**os.environ, "IPYTHONDIR": folder}, stderr=subprocess.DEVNULL)
        except CellExecutionError as error:
            if error.ename in OURS:
                raise UserError(error.evalue) from None
            raise
    return notebook


def let_ctrl_c_end_it(**_: Any) -> None:
    """Take Ctrl-C back from nbclient, which ends its kernel and then trips over that. It does so at exit as well."""
    asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)


def varying_outputs(notebook: Any) -> Iterator[str]:
    """Yield what is printed by cells tagged `varies`, and by all cells on stderr."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "stream" and (_varies(cell) or output.name == "stderr"):
                yield output.text


def as_text(notebook: Any) -> str:
    """Return the notebook as it is written to disk, without what varies."""
    notebook = nbformat.from_dict(notebook)
    notebook.metadata = METADATA
    for cell in notebook.cells:
        if cell.cell_type == "code":
            left_out = [nbformat.v4.new_output("stream", text=LEFT_OUT)]
            same = [output for output in cell.outputs if output.get("name") != "stderr"]
            cell.outputs = left_out if _varies(cell) else same
    return f"{nbformat.writes(notebook)}\n"


def _varies(cell: Any) -> bool:
    return VARIES in cell.metadata.get("tags", [])


if __name__ == "__main__":
    exit_cleanly("lecture", main)
