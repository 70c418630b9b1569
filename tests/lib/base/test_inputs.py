"""What a stage reads stays the same while it runs, or the stage fails."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stages.lib.base.inputs import HASHED_BYTES, Inputs
from tests.helpers import SetParams, refusal, set_keys

DVC_YAML = """
stages:
  train_model_1:
    deps: [data/prepared, "stages/architectures/${model_1.arch}.py", stages/lib]
    params: [seed, model_1, fetch.source, versions.toml: [torch]]
"""


@pytest.fixture(autouse=True)
def stage(workspace: Path) -> None:
    """A stage in dvc.yaml, with files older than this process."""
    Path("dvc.yaml").write_text(DVC_YAML)
    for file in ("data/prepared/train.safetensors", "stages/architectures/mlp.py", "stages/lib/base/files.py"):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text("as it was")
        os.utime(file, (0, 0))


def changed_by(edit: Callable[[], object]) -> str:
    inputs = Inputs("train_model_1")
    edit()
    return refusal(inputs.check_unchanged)


def test_nothing_changed() -> None:
    Inputs("train_model_1").check_unchanged()


@pytest.mark.parametrize(
    ("key", "named"),
    [
        ("seed", "seed in params.yaml"),
        ("model_1.epochs", "model_1 in params.yaml"),
    ],
)
def test_parameter_changed(key: str, named: str, set_params: SetParams) -> None:
    assert named in changed_by(lambda: set_params({key: 7}))


def test_library_version_changed() -> None:
    assert "torch in versions.toml" in changed_by(lambda: Path("versions.toml").write_text('torch = "1.0"'))


@pytest.mark.parametrize(
    "file", ["data/prepared/train.safetensors", "stages/architectures/mlp.py", "stages/lib/base/files.py"]
)
def test_file_changed(file: str) -> None:
    assert file in changed_by(lambda: Path(file).write_text("otherwise"))


def test_file_removed() -> None:
    assert "mlp.py" in changed_by(Path("stages/architectures/mlp.py").unlink)


def test_file_added() -> None:
    assert "validation" in changed_by(lambda: Path("data/prepared/validation.safetensors").write_text("new"))


def test_large_file_changed() -> None:
    large = Path("data/prepared/train.safetensors")
    large.write_bytes(bytes(HASHED_BYTES + 1))
    assert str(large) in changed_by(lambda: os.utime(large, (1, 1)))


def test_parameters_half_written() -> None:
    assert "seed" in changed_by(lambda: Path("params.yaml").write_text("seed: ["))


def test_code_edited_while_python_loads() -> None:
    Path("stages/lib/base/files.py").write_text("edited after this process started")
    assert "files.py" in changed_by(lambda: None)


def test_code_of_a_later_time_zone() -> None:
    """From an archive, say, that keeps the time of another clock: in the future nobody has edited anything."""
    later = time.time() + 3600
    os.utime("stages/lib/base/files.py", (later, later))
    Inputs("train_model_1").check_unchanged()


def test_other_parameters_may_change(set_params: SetParams) -> None:
    inputs = Inputs("train_model_1")
    set_params({"model_2.lr": 0.5, "confusion.samples": 4})
    inputs.check_unchanged()


@pytest.mark.parametrize("name", [".files.py.swp", "files.py~", "__pycache__/files.pyc", ".files.py.tmp"])
def test_ignored_files_may_change(name: str) -> None:
    inputs = Inputs("train_model_1")
    dropped = Path("stages/lib") / name
    dropped.parent.mkdir(exist_ok=True)
    dropped.write_text("of an editor")
    inputs.check_unchanged()


def test_same_content_written_again() -> None:
    inputs = Inputs("train_model_1")
    Path("stages/architectures/mlp.py").write_text("as it was")
    inputs.check_unchanged()


def test_stage_unknown_to_dvc() -> None:
    inputs = Inputs("train_model_9")
    Path("params.yaml").unlink()
    inputs.check_unchanged()


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda: set_keys(Path("params.yaml"), {"model_1.lr": 0.5}), "model_1 in params.yaml"),
        (lambda: Path("stages/architectures/mlp.py").write_text("otherwise"), "stages/architectures/mlp.py"),
    ],
    ids=["parameter", "file"],
)
def test_item_of_a_matrix(edit: Callable[[], object], named: str) -> None:
    pipeline = Path("studies/seeds/dvc.yaml")
    pipeline.parent.mkdir(parents=True)
    pipeline.write_text("""
stages:
  cell:
    deps: ["stages/architectures/${item.model.arch}.py"]
    params: ["${item.model.name}"]
""")
    inputs = Inputs("cell", pipeline, {"model": {"name": "model_1", "arch": "mlp"}})
    edit()
    assert named in refusal(inputs.check_unchanged)
