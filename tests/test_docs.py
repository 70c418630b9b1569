"""README.md, docs/ and CONTRIBUTING.md against the project: what they name is there."""

import ast
import os
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.helpers import PROJECT

PAGES = sorted((PROJECT / "docs").glob("*.md"))
STUDIES = sorted(PROJECT.glob("studies/**/README.md"))
DOCS = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *PAGES, *STUDIES, PROJECT / "docs/walkthrough.py"]
PIPELINE: dict[str, Any] = YAML(typ="safe").load(PROJECT / "dvc.yaml")["stages"]
FOLDERS = ("stages", "studies", "tests", "docs", "metrics", "plots", "data", "models", "logs", ".dvc")
EXAMPLES = {"resnet.py", "nosuch.py", "shirt.png", "picture.png", "name.png"}  # files that a reader may have
MADE = {
    "report.html",
    "explain.html",
    "logs",
    "timing",
    "cache",
    "walkthrough",
    "unfinished",
    "search",
    "rwlock",
}  # files and folders that commands make

PATH = re.compile(rf"(?<![\w./])(?:{'|'.join(map(re.escape, FOLDERS))})/[\w./*-]*")
FILE = re.compile(r"`([\w.-]+\.(?:py|yaml|toml|lock|md|txt|json|csv|png|html))`")
LINK = re.compile(r"(?:\]\(|src=\")(?!https?://)([^)#\"]*)(?:#([^)]*))?[)\"]")
LINES_PER_MODEL = 18  # of dvc.yaml: a stage, and three paths elsewhere

each_document = pytest.mark.parametrize("document", DOCS, ids=lambda path: str(path.relative_to(PROJECT)))


def code(document: Path) -> str:
    """Return what stands between backticks, one piece per line."""
    text = document.read_text(encoding="utf-8")
    blocks = re.findall(r"^ *```\w*\n(.*?)^ *```$", text, re.S | re.M)
    return "\n".join([*blocks, *re.findall(r"`([^`\n]+)`", text)])


def paths(stage: str, *keys: str) -> set[str]:
    """Return the paths under `deps`, `outs` and the like."""
    entries = [entry for key in keys for entry in PIPELINE[stage].get(key, [])]
    return {next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries}


OUTPUTS = {path for stage in PIPELINE for path in paths(stage, "outs", "metrics", "plots")}
OUTPUTS |= {
    next(iter(out))
    for file in PROJECT.glob("studies/*/dvc.yaml")
    for out in YAML(typ="safe").load(file)["stages"]["results"]["outs"]
}


def is_there(path: str) -> bool:
    """Tell whether a path, which may hold a `*`, is on disk, or is made by a stage or a command."""
    path = path.rstrip("/.")
    made = {path, *(parent.as_posix() for parent in Path(path).parents)} & OUTPUTS
    holds_made = any(output.startswith(f"{path}/") for output in OUTPUTS)
    return bool(made or holds_made or {*Path(path).parts} & (EXAMPLES | MADE)) or any(PROJECT.glob(path))


def defined_names(module: Path) -> set[str]:
    """Return the functions, classes and constants of a module."""
    body = ast.parse(module.read_text(encoding="utf-8")).body
    assigned = {
        name.id
        for node in body
        if isinstance(node, ast.Assign)
        for name in ast.walk(node)
        if isinstance(name, ast.Name)
    }
    return assigned | {node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def resolves(name: str) -> bool:
    """Tell whether a dotted name is a module or a package of the project, or defined in a module."""
    path = PROJECT / name.replace(".", "/")
    if path.is_dir() or path.with_suffix(".py").is_file():
        return True
    module = path.parent.with_suffix(".py")
    return module.is_file() and path.name in defined_names(module)


def anchors(document: Path) -> set[str]:
    """Return the names that GitHub gives to the headings."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_document
def test_paths_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert [path for path in PATH.findall(text) if not is_there(path)] == []


@each_document
def test_file_names_exist(document: Path) -> None:
    known = {path.name for folder in (PROJECT, *map(PROJECT.joinpath, FOLDERS)) for path in folder.glob("*")}
    known |= {path.name for path in (PROJECT / "stages").rglob("*")} | {Path(path).name for path in OUTPUTS}
    names = set(FILE.findall(document.read_text(encoding="utf-8")))
    assert names - known - EXAMPLES - MADE == set()


@each_document
def test_make_targets_exist(document: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.M))
    assert set(re.findall(r"\bmake ([a-z][\w-]*)", code(document))) - targets == set()


@each_document
def test_modules_exist(document: Path) -> None:
    modules = re.findall(r"-m ((?:stages|studies|tests)[\w.]*)", code(document))
    assert [module for module in modules if not (PROJECT / f"{module.replace('.', '/')}.py").is_file()] == []


@each_document
def test_dotted_names_resolve(document: Path) -> None:
    names = re.findall(r"\bstages(?:\.\w+)+", code(document))
    assert [name for name in names if not resolves(name)] == []


@each_document
def test_links_lead_somewhere(document: Path) -> None:
    for target, anchor in LINK.findall(document.read_text(encoding="utf-8")):
        file = document.parent / target if target else document
        made = os.path.normpath(file.relative_to(PROJECT)) in OUTPUTS
        assert made or file.is_file(), target
        assert not anchor or anchor in anchors(file), f"{target}#{anchor}"


def test_diagram_shows_the_pipeline() -> None:
    (diagram,) = re.findall(r"```mermaid\n(.*?)```", (PROJECT / "README.md").read_text(encoding="utf-8"), re.S)
    chains = [re.findall(r"\w+", re.sub(r"\|.*?\|", "", line)) for line in diagram.splitlines()[1:]]
    arrows = {pair for chain in chains for pair in pairwise(chain)}
    for first, second in arrows:
        outputs, inputs = paths(first, "outs", "metrics", "plots"), paths(second, "deps")
        assert any(Path(output).is_relative_to(dep) for output in outputs for dep in inputs), f"{first} -> {second}"
    assert {stage for arrow in arrows for stage in arrow} <= PIPELINE.keys()


def test_readme_is_one_page() -> None:
    assert len((PROJECT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


def test_pipeline_is_short() -> None:
    added = sum(stage.startswith("train_") for stage in PIPELINE) - 3
    lines = len((PROJECT / "dvc.yaml").read_text(encoding="utf-8").splitlines())
    assert lines <= 150 + LINES_PER_MODEL * max(added, 0)
