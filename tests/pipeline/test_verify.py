"""`make verify` on the whole project."""

from collections.abc import Callable
from pathlib import Path

import pytest

from stages.commands.verify import CHANGED

pytestmark = pytest.mark.slow


@pytest.mark.usefixtures("project")
def test_committed_results_verify_to_the_byte(shell: Callable[..., str]) -> None:
    printed = shell("python -m stages.commands.verify")
    assert "worst: same bytes" in printed
    assert "models/best.safetensors" in printed
    assert "device, processes, threads, torch and CPU capability are those of the committed run" in printed


@pytest.mark.usefixtures("project")
def test_a_committed_figure_that_was_tampered_with_is_found(shell: Callable[..., str]) -> None:
    figures, lock = Path("metrics/train/model_0.json"), Path("dvc.lock")
    figures.write_text(figures.read_text().replace('"parameters": 7960', '"parameters": 9999'))
    md5 = shell(f"md5sum {figures}").split()[0]
    old = shell(f"git show HEAD:{figures} | md5sum").split()[0]
    lock.write_text(lock.read_text().replace(old, md5))
    shell("git commit -qam 'A wrong figure'")
    line = next(
        line for line in shell("python -m stages.commands.verify", status=3).splitlines() if line.startswith(str(figures))
    )
    assert CHANGED in line
