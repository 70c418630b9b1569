"""The plots in DVC's terms: definitions in dvc.yaml, templates in .dvc/plots, and what DVC makes of them."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dvc_render.vega_templates import TEMPLATES as DVC_TEMPLATES  # type: ignore[import-untyped]
from ruamel.yaml import YAML

from stages.lib import plots
from stages.lib.base.files import write_csv

PROJECT = Path(__file__).parents[1]
PIPELINE = YAML(typ="safe").load(PROJECT / "dvc.yaml")
OURS = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in (PROJECT / ".dvc/plots").glob("*.json")}
STAGE_PLOTS = {
    path: properties
    for stage in PIPELINE["stages"].values()
    for entry in stage.get("plots", [])
    for path, properties in entry.items()
}
TOP_LEVEL = {name: properties for entry in PIPELINE["plots"] for name, properties in entry.items()}
CURVE = ["epoch", "train_loss", "train_acc", "test_loss", "test_acc"]


def fields(node: Any) -> Iterator[str]:
    """The columns that a template asks the data for."""
    if isinstance(node, dict):
        if isinstance(node.get("field"), str):
            yield node["field"]
        for value in node.values():
            yield from fields(value)
    elif isinstance(node, list):
        for value in node:
            yield from fields(value)


@pytest.mark.parametrize("name", [*TOP_LEVEL, *STAGE_PLOTS])
def test_every_template_is_ours_or_one_of_dvc(name: str) -> None:
    template = ({**TOP_LEVEL, **STAGE_PLOTS})[name].get("template")
    assert template is None or template in {*OURS, *(theirs.DEFAULT_NAME for theirs in DVC_TEMPLATES)}


def test_every_template_of_ours_is_used() -> None:
    used = {properties.get("template") for properties in [*TOP_LEVEL.values(), *STAGE_PLOTS.values()]}
    assert set(OURS) <= used


def test_a_plot_of_several_files_names_a_curve_of_every_model() -> None:
    curves = {path for path in STAGE_PLOTS if path.startswith("plots/curves/") and path.endswith(".csv")}
    for name, properties in TOP_LEVEL.items():
        assert set(properties["y"]) == curves, name


def test_the_templates_have_the_colours_of_the_pictures() -> None:
    for name in ("models", "accuracy", "reliability"):
        ranges = re.findall(r"#[0-9a-f]{6}", json.dumps(OURS[name]))
        assert tuple(ranges) == plots.MODEL_COLOURS, name


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A DVC repository with the project's definitions and two revisions, `HEAD` and the workspace, of its tables."""
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(PROJECT / name, tmp_path / name)
    (tmp_path / ".dvc").mkdir()
    shutil.copy(PROJECT / ".dvc/config", tmp_path / ".dvc/config")
    shutil.copytree(PROJECT / ".dvc/plots", tmp_path / ".dvc/plots")
    write_tables(tmp_path, 0.5)
    for arguments in (
        ["init", "--quiet"],
        ["add", "--all"],
        ["-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "--quiet", "--message", "One"],
    ):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    write_tables(tmp_path, 0.25)
    return tmp_path


def write_tables(folder: Path, loss: float) -> None:
    names = ("model_0", "model_1", "model_2")
    for number, name in enumerate(names):
        curve = [(epoch, loss + number, 70 + epoch, loss / epoch, 80 + epoch) for epoch in (1, 2, 3)]
        write_csv(folder / f"plots/curves/{name}.csv", CURVE, curve)
        write_csv(folder / f"plots/layers/{name}.csv", ["layer", "multiply_adds"], [("block.0", 700), ("block.1", 30)])
    header = ["model", "accuracy", "accuracy_low", "accuracy_high", "loss", "parameters"]
    write_csv(folder / "plots/compare.csv", header, [(name, 80 + loss, 79, 82, loss, 7_960) for name in names])
    header = ["model", "confidence_pct", "accuracy_pct", "images"]
    write_csv(folder / "plots/reliability.csv", header, [(name, 90, 80 + loss, 700) for name in names])


def specs(folder: Path, *arguments: str) -> dict[str, dict[str, Any]]:
    """What DVC would hand to Vega-Lite, by the name of the plot."""
    targets = [*TOP_LEVEL, "plots/compare.csv", "plots/reliability.csv", "plots/layers/model_2.csv"]
    command = [sys.executable, "-m", "dvc", "plots", *arguments, "--json"]
    command += ["--targets", *targets] if arguments[0] == "diff" else targets
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    answer = json.loads(done.stdout)
    assert "errors" not in answer
    plots = {name: plot[0]["content"] for name, plot in answer["data"].items()}
    assert set(plots) == set(targets)
    return {name: json.loads(plot) if isinstance(plot, str) else plot for name, plot in plots.items()}


def values(spec: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = spec["data"]["values"]
    return found


@pytest.mark.slow
class TestDvc:
    def test_fills_every_template_and_finds_every_column(self, repository: Path) -> None:
        for name, spec in specs(repository, "show").items():
            assert "<DVC_METRIC" not in json.dumps(spec), name
            computed = {entry["as"] for entry in spec.get("transform", [])} | {"at"}  # at: the diagonal's own data
            assert set(fields(spec)) <= set(values(spec)[0]) | computed, name

    def test_hands_editors_the_templates_and_what_belongs_into_them(self, repository: Path) -> None:
        command = [sys.executable, "-m", "dvc", "plots", "diff", "HEAD", "--split", "--json", "--targets", *TOP_LEVEL]
        done = subprocess.run(command, cwd=repository, check=True, capture_output=True, text=True)
        for name, (plot,) in json.loads(done.stdout)["data"].items():
            fillings, content = plot["anchor_definitions"], json.dumps(plot["content"])
            assert set(plot["revisions"]) == {"HEAD", "workspace"}
            assert len(fillings["<DVC_METRIC_DATA>"]) > 0, name
            assert set(re.findall("<DVC_METRIC_[A-Z_]+>", content)) <= set(fillings), name

    def test_puts_the_models_of_both_revisions_into_one_plot(self, repository: Path) -> None:
        plots = specs(repository, "diff", "HEAD")
        for name in ("test_loss", "test_accuracy"):
            rows = {(row["filename"], row["rev"]) for row in values(plots[name])}
            files = ("model_0.csv", "model_1.csv", "model_2.csv")
            assert rows == {(file, rev) for file in files for rev in ("HEAD", "workspace")}
        losses = {row["rev"]: row["test_loss"] for row in values(plots["test_loss"]) if row["epoch"] == "1"}
        assert losses == {"HEAD": "0.5", "workspace": "0.25"}

    def test_puts_training_beside_test(self, repository: Path) -> None:
        rows = values(specs(repository, "show")["train_beside_test"])
        assert {(row["filename"], row["field"]) for row in rows} == {
            (f"model_{number}.csv", field) for number in range(3) for field in ("train_loss", "test_loss")
        }

    def test_writes_a_page_with_every_picture(self, repository: Path) -> None:
        from PIL import Image

        for path in STAGE_PLOTS:
            if path.endswith(".png"):
                (repository / path).parent.mkdir(parents=True, exist_ok=True)
                Image.new("L", (8, 8)).save(repository / path)
        subprocess.run([sys.executable, "-m", "dvc", "plots", "show", "-o", "page"], cwd=repository, check=True)
        page = (repository / "page/index.html").read_text()
        shown = {
            path for path in STAGE_PLOTS if path.endswith(".png") and f"workspace_{path.replace('/', '_')}" in page
        }
        assert shown == {path for path in STAGE_PLOTS if path.endswith(".png")}
