"""dvc.yaml against the code: every import is a dependency, and no stage imports more than it uses."""

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
STAGES: dict[str, Any] = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
TRAIN = sorted(name for name in STAGES if name.startswith("train_"))


def imported_files(script: Path) -> set[str]:
    """Files of the project that `script` imports, directly or through others, itself included."""
    found: set[Path] = set()
    waiting = {script, *module_files("stages")}
    while waiting:
        file = waiting.pop()
        found.add(file)
        waiting |= {path for name in imported_names(file) for path in module_files(name)} - found
    return {str(file.relative_to(ROOT)) for file in found}


def imported_names(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    packages = {name.rpartition(".")[0] for name in names}
    return {name for name in names | packages if name.startswith("stages")}


def module_files(name: str) -> list[Path]:
    path = ROOT / name.replace(".", "/")
    return [file for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists() and has_code(file)]


def has_code(file: Path) -> bool:
    """Whether there is more in the file than a docstring."""
    return any(not isinstance(node, ast.Expr) for node in ast.parse(file.read_text()).body)


def code_deps(stage: str) -> set[str]:
    return {dep for dep in STAGES[stage]["deps"] if dep.endswith(".py")}


def paths(stage: str, *keys: str) -> set[str]:
    entries = [entry for key in keys for entry in STAGES[stage].get(key, [])]
    return {next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_exactly_the_files_it_imports(stage: str) -> None:
    script = ROOT / (STAGES[stage]["cmd"].split()[2].replace(".", "/") + ".py")
    architectures = {dep for dep in code_deps(stage) if re.search(r"architectures/\$\{model_\d+\.arch\}\.py", dep)}
    assert code_deps(stage) - architectures == imported_files(script)


@pytest.mark.parametrize("stage", [*TRAIN, "evaluate"])
def test_a_stage_that_builds_a_model_depends_on_its_architecture(stage: str) -> None:
    for model in STAGES[stage]["cmd"].split()[3:]:
        assert f"stages/architectures/${{{model}.arch}}.py" in code_deps(stage)


def test_the_training_stages_differ_only_by_their_model() -> None:
    texts = {str(STAGES[stage]).replace(stage.removeprefix("train_"), "model_N") for stage in TRAIN}
    assert len(texts) == 1


def test_every_data_dependency_is_exactly_an_output() -> None:
    outputs = {path for stage in STAGES for path in paths(stage, "outs", "metrics", "plots")}
    data = {dep for stage in STAGES for dep in STAGES[stage]["deps"] if not dep.endswith(".py")}
    assert data <= outputs


def test_no_output_in_git_loses_the_run_cache() -> None:
    uncached = [
        entry
        for stage in STAGES
        for entry in STAGES[stage].get("outs", [])
        if isinstance(entry, dict) and next(iter(entry.values())).get("cache") is False
    ]
    assert uncached == []


def test_measured_times_reach_the_comparison_and_nothing_after_it() -> None:
    readers = {stage for stage in STAGES if any("timing" in dep for dep in STAGES[stage]["deps"])}
    timing = {path for path in paths("compare", "outs", "metrics", "plots") if "timing" in path}
    assert readers == {"compare"}
    assert timing == {"metrics/timing/speed.png"}


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("stages.fetch", {"torch", "torchvision", "pandas", "sklearn", "matplotlib", "scipy"}),
        ("stages.train", {"torchvision", "pandas", "sklearn", "matplotlib", "scipy"}),
        ("stages.evaluate", {"torchvision", "pandas", "sklearn", "matplotlib", "scipy"}),
        ("stages.compare", {"torch", "torchvision", "sklearn"}),
        ("stages.confusion", {"torchvision"}),
        ("stages.prepare", {"pandas", "sklearn", "scipy"}),
    ],
)
def test_a_stage_imports_only_what_it_uses(module: str, unwanted: set[str]) -> None:
    code = f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not unwanted & set(loaded.split())
