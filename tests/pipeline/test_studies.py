"""A small study of the real pipeline, run by DVC: only trainings that changed, and nothing of it in the pipeline."""

import json
import re
from pathlib import Path

import pytest

from tests.helpers import SetParams, Shell, StagesRun, set_keys

pytestmark = pytest.mark.slow

STUDY = "python -m stages.commands.studies seeds"
CELL_RUN = re.compile(r"Running stage 'studies/seeds/dvc.yaml:cell@(model\d-\d+)'")


def test_study(project: Path, shell: Shell, set_params: SetParams, stages_run: StagesRun) -> None:
    set_keys(Path("studies/seeds/params.yaml"), {"seeds": [1, 2]})
    everything = {f"model{model}-{seed}" for model in range(3) for seed in (1, 2)}
    printed = shell(STUDY)
    assert set(CELL_RUN.findall(printed)) == everything
    assert stages_run(printed) == []  # none of the pipeline itself
    assert "with 2 of 2 seeds" in printed
    results = json.loads(Path("studies/seeds/results.json").read_text())
    assert (results["data_set"], list(results["recipes"])) == ("synthetic", ["model_0", "model_1", "model_2"])
    assert Path("studies/seeds/accuracies.png").stat().st_size > 1000

    shell("dvc status -q dvc.yaml studies/seeds/dvc.yaml")
    assert "studies" not in shell("dvc metrics show")
    assert "Each model with 2 seeds" in shell("python -m stages.commands.run")

    set_params({"model_1.epochs": 2})
    assert "studies" not in shell("dvc repro --dry")
    assert set(CELL_RUN.findall(shell(STUDY))) == {"model1-1", "model1-2"}
