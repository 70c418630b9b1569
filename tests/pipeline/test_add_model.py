"""`make model` as docs/add_a_model.md has it: a new model trains alone, and the others are left alone."""

import re
from pathlib import Path

import pytest

from tests.helpers import Shell, StagesRun

pytestmark = pytest.mark.slow


def test_new_model_trains_alone(project: Path, shell: Shell, stages_run: StagesRun) -> None:
    (architecture,) = re.findall(r"^```python\n(.*?)^```$", Path("docs/add_a_model.md").read_text(), re.S | re.M)
    Path("stages/architectures/ours.py").write_text(architecture)
    shell("python -m stages.commands.add_model model_7 ours")
    assert stages_run(shell("dvc repro")) == ["train_model_7", "evaluate", "compare", "confusion"]
    assert '"model_7": {' in Path("metrics/compare.json").read_text()
    for table in ("plots/compare.csv", "plots/curves.csv"):
        assert "model_7" in Path(table).read_text()
    shell("dvc status -q dvc.yaml")
