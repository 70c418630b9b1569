"""What happens when Python imports the package `stages`, before any of its code runs."""

import os
import py_compile
import subprocess
import sys
from pathlib import Path

from stages import remove_stale_bytecode
from tests.helpers import PROJECT


def test_stale_bytecode_is_not_run(tmp_path: Path) -> None:
    """Of an earlier file with the same size and time, as an edit within a second leaves one, or `cp -p`."""
    stages, file = tmp_path / "stages", tmp_path / "stages/ours.py"
    stages.mkdir()
    (stages / "__init__.py").write_bytes((PROJECT / "stages/__init__.py").read_bytes())
    for answer in (1, 2):
        file.write_text(f"print({answer})\n")
        os.utime(file, (1_000_000_000, 1_000_000_000))
        if answer == 1:
            py_compile.compile(str(file))
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    (stages / "lib").symlink_to(PROJECT / "stages/lib")
    done = subprocess.run(
        [sys.executable, "-m", "stages.ours"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "2\n"


def test_other_bytecode_stays(tmp_path: Path) -> None:
    file = tmp_path / "ours.py"
    file.write_text("answer = 1\n")
    compiled = Path(py_compile.compile(str(file)) or "")
    os.utime(compiled, ns=(0, file.stat().st_ctime_ns + 1))  # some file systems count in steps of milliseconds
    remove_stale_bytecode(tmp_path)
    assert compiled.exists()
