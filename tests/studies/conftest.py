"""A project with small studies, and a way to run their scripts without a new process."""

import shutil
import sys
from importlib import import_module
from pathlib import Path

import pytest

from stages.lib.base.files import write_json, write_text
from tests.helpers import PROJECT, RunStudy, set_keys

FRONTIER = Path("studies/frontier/params.yaml")


@pytest.fixture
def studies(prepared: Path) -> Path:
    """The workspace with prepared images and the project's studies: two models, recipes, seeds and sizes."""
    for name in ("seeds", "relu", "data_size", "frontier"):
        for file in ("dvc.yaml", "params.yaml"):
            write_text(f"studies/{name}/{file}", (PROJECT / f"studies/{name}/{file}").read_text())
        set_keys(Path(f"studies/{name}/params.yaml"), {"seeds": [42, 43]})
    set_keys(Path("studies/data_size/params.yaml"), {"images": [50, 1000]})
    recipe = {"hidden_units": 4, "settings.widths": [4], "settings.blocks": [0], "epochs": 1}
    for name in ("residual_2k", "residual_5k"):
        set_keys(FRONTIER, {f"{name}.{key}": value for key, value in recipe.items()})
    set_keys(FRONTIER, {"recipes": ["residual_2k", "residual_5k"], "limits": [10, 10_000]})
    write_text(
        "studies/models.yaml",
        "models:\n- {name: model_0, arch: linear}\n- {name: model_1, arch: mlp}\n",
    )
    write_json("metrics/data.json", {"source": "synthetic"})
    shutil.copytree(PROJECT / "stages/architectures", "stages/architectures")
    return prepared


@pytest.fixture
def run_study(monkeypatch: pytest.MonkeyPatch) -> RunStudy:
    """`run_study("cell", "studies/seeds/cells/model_0-42.json", "model_0", "--seed", "42")`."""

    def run(script: str, *arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        import_module(f"studies.{script}").main()

    return run
