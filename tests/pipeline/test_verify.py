"""`make verify` on the whole project."""

import re
from pathlib import Path

import pytest

from tests.helpers import SetParams, Shell

pytestmark = pytest.mark.slow

VERIFY = "python -m stages.commands.verify"


def verdict(printed: str, path: str) -> str:
    return next(line for line in printed.splitlines() if line.startswith(f"{path} "))


@pytest.mark.usefixtures("project")
def test_committed_results_verify(shell: Shell) -> None:
    shell("python -m stages.commands.card && git commit -qam Card")
    printed = shell(VERIFY)
    assert "worst: same bytes" in printed
    for path in ("models/best.safetensors", "metrics/eval/model_1.json", "data/predictions/model_2.safetensors"):
        assert "same bytes" in verdict(printed, path)
    assert "timing" not in printed
    shell("git clone -q . ../clone")
    shell("make -o setup check-lock", folder=Path("../clone"))  # with the libraries of these tests


@pytest.mark.usefixtures("project")
def test_relative_mirror(shell: Shell, set_params: SetParams) -> None:
    """A folder is meant as seen from here, not from the clone."""
    name = Path("mirror")
    name.mkdir()
    set_params({"fetch.source": "fashion-mnist", "fetch.mirrors": ["no/such/folder"]})
    shell("git commit -qam Real")
    printed = shell(VERIFY, status=1, FASHION_MNIST_MIRROR=str(name))
    assert re.search(f"{name.resolve()}: .* is missing", printed)  # of an empty folder, which was found
