"""dvc.yaml against the code: a stage depends on the files and libraries that it imports, and on no others."""

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.helpers import PROJECT

PIPELINE: dict[str, Any] = YAML(typ="safe").load(PROJECT / "dvc.yaml")
STAGES: dict[str, Any] = PIPELINE["stages"]
STUDIES: dict[str, Any] = {
    path.parent.name: YAML(typ="safe").load(path)["stages"] for path in sorted(PROJECT.glob("studies/*/dvc.yaml"))
}
STUDY_STAGES = [(study, stage) for study, stages in STUDIES.items() for stage in stages]
TRAIN = [name for name in STAGES if name.startswith("train_")]
MODELS = [name.removeprefix("train_") for name in TRAIN]
VERSIONS = tomllib.loads((PROJECT / "versions.toml").read_text())
LIBRARIES = {"PIL": "pillow", "sklearn": "scikit-learn"}  # where a library is imported under another name
PACKAGE_FILE = "stages/__init__.py"  # runs before every stage, and decides no result


@cache
def imports(file: str) -> set[str]:
    """Return what a file imports at any level, but for type checkers: `a` and `a.b` of `from a import b`."""
    names = set()
    nodes: list[ast.AST] = [ast.parse((PROJECT / file).read_text())]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: write imports in full, they are followed here"
            names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
        nodes += ast.iter_child_nodes(node)
    return names


def imported_files(script: str) -> set[str]:
    """Return the files of the project that a script imports, directly or through others, itself included."""
    found: set[str] = set()
    waiting = {script}
    while waiting:
        file = waiting.pop()
        found.add(file)
        paths = {name.replace(".", "/") + ".py" for name in imports(file)}
        waiting |= {path for path in paths if (PROJECT / path).is_file()} - found
    return found


def imported_libraries(script: str) -> set[str]:
    """Return the libraries of versions.toml that a script uses."""
    tops = {name.split(".")[0] for file in imported_files(script) for name in imports(file)}
    libraries = {LIBRARIES.get(top, top) for top in tops}
    # matplotlib writes its PNG files with pillow
    return (libraries | ({"pillow"} if "matplotlib" in libraries else set())) & VERSIONS.keys()


def script_of(stage: str) -> str:
    return str(STAGES[stage]["cmd"].split()[2]).replace(".", "/") + ".py"


def code_deps(stage: str) -> set[str]:
    return {dep for dep in STAGES[stage]["deps"] if dep.startswith("stages/")}


def architectures(stage: str) -> set[str]:
    return {dep for dep in code_deps(stage) if is_in(dep, "stages/architectures")}


def outputs(stage: str) -> set[str]:
    entries = [entry for key in ("outs", "metrics", "plots") for entry in STAGES[stage].get(key, [])]
    return {next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries}


def is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


@pytest.mark.parametrize("stage", STAGES)
def test_imported_files_are_dependencies(stage: str) -> None:
    imported, deps = imported_files(script_of(stage)), code_deps(stage) - architectures(stage)
    assert {file for file in imported if not any(is_in(file, dep) for dep in deps)} == set()
    assert {dep for dep in deps if not any(is_in(file, dep) for file in imported)} == set()


@pytest.mark.parametrize("stage", STAGES)
def test_imported_libraries_are_parameters(stage: str) -> None:
    listed = [entry["versions.toml"] for entry in STAGES[stage]["params"] if isinstance(entry, dict)]
    checked = [
        [ast.literal_eval(argument) for argument in call.args]
        for call in ast.walk(ast.parse((PROJECT / script_of(stage)).read_text()))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "check_versions"
    ]
    assert listed == checked == [sorted(imported_libraries(script_of(stage)))]


@pytest.mark.parametrize("stage", STAGES)
def test_architectures_are_dependencies(stage: str) -> None:
    built = {"evaluate": MODELS, **{name: [name.removeprefix("train_")] for name in TRAIN}}.get(stage, [])
    expected = {f"stages/architectures/${{{model}.arch}}.py" for model in built}
    assert architectures(stage) == ({"stages/architectures"} if stage == "confusion" else expected)


@pytest.mark.parametrize("stage", ["evaluate", "compare"])
def test_all_models_are_dependencies(stage: str) -> None:
    assert {f"models/{model}.safetensors" for model in MODELS} <= set(STAGES[stage]["deps"])


def is_code(dep: str) -> bool:
    return dep.startswith("stages/") or dep.endswith(".py")


@pytest.mark.parametrize(("study", "stage"), STUDY_STAGES)
def test_studies_depend_on_what_they_import(study: str, stage: str) -> None:
    entry = STUDIES[study][stage]
    script = entry["cmd"].split()[2].replace(".", "/") + ".py"
    deps = {dep for dep in entry["deps"] if is_code(dep) and not is_in(dep, "stages/architectures")}
    imported = imported_files(script)
    assert {file for file in imported if not any(is_in(file, dep) for dep in deps)} == set()
    assert {dep for dep in deps if not any(is_in(file, dep) for file in imported)} == set()
    (listed,) = [
        each["versions.toml"] for each in entry["params"] if isinstance(each, dict) and "versions.toml" in each
    ]
    assert listed == sorted(imported_libraries(script))


@pytest.mark.parametrize("study", STUDIES)
def test_studies_stay_out_of_metrics_and_plots(study: str) -> None:
    for entry in STUDIES[study].values():
        assert not {"metrics", "plots"} & entry.keys()
        assert all(options == {"cache": False} for out in entry["outs"] for options in out.values())


def test_training_stages_differ_by_model() -> None:
    assert len({re.sub(rf"{stage.removeprefix('train_')}\b", "model_N", str(STAGES[stage])) for stage in TRAIN}) == 1


def test_data_dependencies_are_outputs() -> None:
    made = {path for stage in STAGES for path in outputs(stage)}
    data = {dep for stage in STAGES for dep in STAGES[stage]["deps"] if not dep.startswith("stages/")}
    assert {dep for dep in data if not any(is_in(dep, path) or is_in(path, dep) for path in made)} == set()


def test_artifacts_are_outputs() -> None:
    made = {path for stage in STAGES for path in outputs(stage)}
    assert {each["path"] for each in PIPELINE["artifacts"].values()} <= made


def test_outputs_keep_the_run_cache() -> None:
    # A plain output with `cache: false` switches it off for its stage; typed as metrics or plots it does not.
    plain = [entry for stage in STAGES for entry in STAGES[stage].get("outs", []) if isinstance(entry, dict)]
    assert [entry for entry in plain if next(iter(entry.values())).get("cache") is False] == []


def test_times_are_no_outputs() -> None:
    assert "timing" not in str(STAGES)


def files_in(folder: str) -> list[str]:
    return [str(path.relative_to(PROJECT)) for path in sorted((PROJECT / folder).rglob("*.py"))]


@pytest.mark.parametrize(
    ("folder", "never"),
    [
        ("stages/lib/data", r"stages\.lib\.learning"),
        ("stages/lib/results", r"stages\.lib\.learning"),
        ("stages/lib", r"stages\.(?!lib\b)|studies\b"),  # scripts, commands, lecture
        ("stages/architectures", rf"(?!({'|'.join([*sys.stdlib_module_names, 'torch'])})\b)"),
    ],
    ids=["data", "results", "lib", "architectures"],
)
def test_arrows_that_never_run(folder: str, never: str) -> None:
    assert [(file, name) for file in files_in(folder) for name in imports(file) if re.match(never, name)] == []


def test_package_files_hold_a_docstring_alone() -> None:
    packages = [file for file in files_in("stages") if file.endswith("__init__.py") and file != PACKAGE_FILE]
    code = [node for file in packages for node in ast.parse((PROJECT / file).read_text()).body]
    assert [ast.unparse(node) for node in code if not isinstance(node, ast.Expr)] == []


def test_package_of_stages_decides_no_result() -> None:
    assert imported_files(PACKAGE_FILE) <= {
        PACKAGE_FILE,
        "stages/lib/base/errors.py",
        "stages/lib/base/process.py",
    }
    assert imported_libraries(PACKAGE_FILE) == set()


UNWANTED = {
    "fetch": {"torch", "torchvision", "pandas", "sklearn", "matplotlib", "scipy"},
    "train": {"torchvision", "pandas", "sklearn", "matplotlib", "scipy"},
    "evaluate": {"torchvision", "pandas", "sklearn", "matplotlib", "scipy"},
    "confusion": {"torchvision"},
    "prepare": {"pandas", "sklearn", "scipy"},
    "compare": {"torch", "torchvision", "sklearn"},
}


# One process may import several: what the next may import is more.
@pytest.mark.parametrize("stages", ["fetch train evaluate confusion", "prepare", "compare"])
def test_stage_imports_only_what_it_uses(stages: str) -> None:
    lines = [
        f"import stages.{stage}; print(*{{name.split('.')[0] for name in sys.modules}})" for stage in stages.split()
    ]
    code = "\n".join(["import sys", *lines])
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    for stage, imported in zip(stages.split(), done.stdout.splitlines(), strict=True):
        assert not UNWANTED[stage] & set(imported.split()), stage
