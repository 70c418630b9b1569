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
from PIL import Image
from ruamel.yaml import YAML

from stages.lib import plots
from stages.lib.base.files import write_csv
from tests.browser import needs_chromium, probe_pages
from tests.helpers import PROJECT

PIPELINE = YAML(typ="safe").load(PROJECT / "dvc.yaml")
OURS = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in (PROJECT / ".dvc/plots").glob("*.json")}
STAGE_PLOTS = {
    path: properties
    for stage in PIPELINE["stages"].values()
    for entry in stage.get("plots", [])
    for path, properties in entry.items()
}
TOP_LEVEL = {name: properties for entry in PIPELINE["plots"] for name, properties in entry.items()}
DEFINITIONS = {**TOP_LEVEL, **STAGE_PLOTS}
MODELS = ("model_0", "model_1", "model_2")
PICTURES = {"plots/data/grid.png", *(path for path in STAGE_PLOTS if path.endswith(".png"))}


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


@pytest.mark.parametrize("name", DEFINITIONS)
def test_template_exists(name: str) -> None:
    template = DEFINITIONS[name].get("template")
    assert template is None or template in {*OURS, *(theirs.DEFAULT_NAME for theirs in DVC_TEMPLATES)}


def test_templates_are_used() -> None:
    used = {properties.get("template") for properties in DEFINITIONS.values()}
    assert set(OURS) <= used


@pytest.mark.parametrize("path", [path for path in STAGE_PLOTS if path.endswith(".csv")])
def test_table_says_what_to_draw(path: str) -> None:
    assert {"x", "y"} <= set(STAGE_PLOTS[path])  # or DVC draws the last column over the number of the row


@pytest.mark.parametrize("name", ["models", "accuracy", "classes", "reliability"])
def test_templates_have_the_colours_of_the_pictures(name: str) -> None:
    colours = re.findall(r"#[0-9a-f]{6}", json.dumps(OURS[name]))
    assert tuple(colours[: len(plots.MODEL_COLOURS)]) == plots.MODEL_COLOURS
    assert len(set(colours)) == len(colours) >= 12  # no two of twelve models look the same


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A DVC repository with the project's definitions and two revisions, `HEAD` and the workspace, of its tables."""
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(PROJECT / name, tmp_path / name)
    (tmp_path / ".dvc").mkdir()
    for name in ("config", "plots.html"):
        shutil.copy(PROJECT / ".dvc" / name, tmp_path / ".dvc" / name)
    shutil.copytree(PROJECT / ".dvc/plots", tmp_path / ".dvc/plots")
    for path in PICTURES:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(tmp_path / path)
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
    def write(name: str, columns: str, rows: list[tuple[Any, ...]]) -> None:
        write_csv(folder / f"plots/{name}.csv", columns.split(), rows)

    columns = "epoch train_loss train_acc test_loss test_acc"
    curve = [(epoch, loss + 1, 70 + epoch, loss / epoch, 80 + epoch) for epoch in (1, 2, 3)]
    write("curves", f"model {columns}", [(name, *row) for name in MODELS for row in curve])
    for name in MODELS:
        write(f"curves/{name}", columns, list(curve))
        write(f"layers/{name}", "layer multiply_adds", [("block.0", 700), ("block.1", 30)])
    columns = "model accuracy accuracy_low accuracy_high loss parameters"
    write("compare", columns, [(name, 80 + loss, 79, 82, loss, 7_960) for name in MODELS])
    write("reliability", "model confidence_pct accuracy_pct images", [(name, 90, 80 + loss, 700) for name in MODELS])
    write("recall", "model class recall_pct", [(name, "Bag", 80 + loss) for name in MODELS])
    write("behaviour", "model images accuracy", [(name, "mirrored", 80 + loss) for name in MODELS])
    write("confusion", "actual predicted", [("Bag", "Bag"), ("Bag", "Coat")])
    write("per_class", "class f1", [("Bag", 0.5), ("Coat", 0.25)])


def title_of(template: str, column: str) -> str:
    """The title of the plot of that column."""
    (title,) = (
        properties.get("title", name)
        for name, properties in DEFINITIONS.items()
        if properties.get("template") == template and column in str(properties["y"])
    )
    return str(title)


def dvc_plots(folder: Path, *arguments: str) -> Any:
    command = [sys.executable, "-m", "dvc", "plots", *arguments, "--json"]
    answer = json.loads(subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout)
    assert "errors" not in answer
    return answer["data"]


def specs(folder: Path, *arguments: str) -> dict[str, dict[str, Any]]:
    """What DVC would hand to Vega-Lite, by the title of the plot."""
    drawn = [plot["content"] for found in dvc_plots(folder, *arguments).values() for plot in found if "content" in plot]
    contents = [json.loads(content) if isinstance(content, str) else content for content in drawn]
    titles = [content["title"] for content in contents]
    return {
        title if isinstance(title, str) else title["text"]: spec for title, spec in zip(titles, contents, strict=True)
    }


def values(spec: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = spec["data"]["values"]
    return found


@pytest.mark.slow
class TestDvc:
    def test_every_column_is_found(self, repository: Path) -> None:
        found = specs(repository, "show")
        assert {*TOP_LEVEL, title_of("accuracy", "model"), "plots/layers/model_2.csv"} <= set(found)
        for title in found.keys() - STAGE_PLOTS.keys():  # templates of ours: those of DVC count and stack
            assert "<DVC_METRIC" not in json.dumps(found[title]), title
            diagonal = {"at"}  # data of the template itself
            for row in values(found[title]):
                assert set(fields(found[title])) <= set(row) | diagonal, title

    def test_editors_get_templates_and_fillings(self, repository: Path) -> None:
        for name, (plot,) in dvc_plots(repository, "diff", "HEAD", "--split", "--targets", *TOP_LEVEL).items():
            fillings, content = plot["anchor_definitions"], json.dumps(plot["content"])
            assert set(plot["revisions"]) == {"HEAD", "workspace"}
            assert len(fillings["<DVC_METRIC_DATA>"]) > 0, name
            assert set(re.findall("<DVC_METRIC_[A-Z_]+>", content)) <= set(fillings), name

    def test_models_of_both_revisions_in_one_plot(self, repository: Path) -> None:
        rows = values(specs(repository, "diff", "HEAD")[title_of("models", "test_loss")])
        expected = {(name, rev, loss) for name in MODELS for rev, loss in (("HEAD", "0.5"), ("workspace", "0.25"))}
        assert {(row["model"], row["rev"], row["test_loss"]) for row in rows if row["epoch"] == "1"} == expected

    def test_training_beside_the_images_held_out(self, repository: Path) -> None:
        rows = values(specs(repository, "show")[title_of("train_beside_test", "train_loss")])
        expected = {(name, field) for name in MODELS for field in ("train_loss", "test_loss")}
        assert {(row["model"], row["field"]) for row in rows} == expected

    def test_page_with_every_picture(self, repository: Path) -> None:
        subprocess.run([sys.executable, "-m", "dvc", "plots", "show", "-o", "page"], cwd=repository, check=True)
        page = (repository / "page/index.html").read_text()
        assert [path for path in PICTURES if f"workspace_{path.replace('/', '_')}" not in page] == []

    @needs_chromium
    def test_page_draws_each_thing_once(self, repository: Path, tmp_path: Path) -> None:
        subprocess.run([sys.executable, "-m", "dvc", "plots", "show", "-o", "page"], cwd=repository, check=True)
        page = re.sub("<script src=.*</script>", "", (repository / "page/index.html").read_text())
        charts = page.replace("<head>", "<head><script>function vegaEmbed() {}</script>")
        script = "return {ids: [...document.querySelectorAll('body > div')].map((plot) => plot.id)}"
        online, offline = (set(found["ids"]) for found in probe_pages([charts, page], script, tmp_path / "browser"))
        assert offline == {re.sub(r"\W", "_", path) for path in PICTURES}
        assert {"plots_compare_csv", "plots_curves_csv", "plots_confusion_csv", "plots_costs_png"} <= online
        assert online & {"plots_accuracy_png", "plots_confusion_png", "plots_curves_model_0_csv"} == set()
