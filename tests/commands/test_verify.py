"""`make verify` on a project of one small stage: the same results, nearly the same, and changed ones."""

import hashlib
import json
import math
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from ruamel.yaml import YAML

from stages.commands.verify import CHANGED, WITHIN, judge
from tests.helpers import RunStage, StageRefusal

Verify = Callable[..., CompletedProcess[str]]

# Its figures are a factor off when OFF says so; the factor is a fault of the machine that DVC does not know of.
STAGE = """
import json, os
import numpy as np
from pathlib import Path
from safetensors.numpy import save_file

off = 1 + float(os.environ.get("OFF", "0"))
Path("metrics").mkdir(exist_ok=True)
for folder in ("kept", "cached"):
    Path(folder).mkdir(exist_ok=True)
    Path(folder, "b.json").write_text(json.dumps({"loss": 0.5 * off}))
    Path(folder, "a.csv").write_text("unchanged\\n")
Path("metrics/a.json").write_text(json.dumps({"name": "a", "accuracies": [80 * off, 90.0], "best": True}))
Path("curve.csv").write_text(f"epoch,loss\\n1,{0.5 * off}\\n2,nan\\n")
Path("picture.png").write_bytes(b"PNG" + os.environ.get("PICTURE", "").encode())
save_file({"weights": np.full((20, 20), off, np.float32)}, "weights.safetensors")
"""
IDENTITY = ["-c", "user.name=Tester", "-c", "user.email=tester@example.com"]
PIPELINE = """
stages:
  make:
    cmd: python make.py
    deps: [make.py]
    params: [versions.toml: [numpy]]
    outs:
      - weights.safetensors
      - metrics/a.json: {cache: false}
      - kept: {cache: false}
      - cached
      - curve.csv: {cache: false}
      - picture.png: {cache: false}
"""
STUDY = """
stages:
  results:
    wdir: ../..
    cmd: echo 0.5 > studies/seeds/results.json
    deps: [make.py]
    outs:
      - studies/seeds/results.json: {cache: false}
"""


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with its results committed. Not to be changed."""
    folder = tmp_path_factory.mktemp("verify") / "project"
    folder.mkdir()
    (folder / "make.py").write_text(STAGE)
    (folder / "versions.toml").write_text('numpy = "0.1"\n')  # the results pretend to be of an old one
    (folder / "dvc.yaml").write_text(PIPELINE.replace("python make.py", f"\"'{sys.executable}' make.py\""))
    for command in (
        ["git", "init", "--quiet"],
        [sys.executable, "-m", "dvc", "init", "--quiet"],
        [sys.executable, "-m", "dvc", "repro", "--quiet"],
        ["git", "add", "--all"],
        ["git", *IDENTITY, "commit", "--quiet", "--message=Results"],
    ):
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return folder


@pytest.fixture
def verify(committed: Path, monkeypatch: pytest.MonkeyPatch, run_stage: RunStage) -> Verify:
    """`verify(OFF="0.1")` verifies the committed results on a machine with that fault."""

    def run(**faults: str) -> CompletedProcess[str]:
        monkeypatch.chdir(committed)
        for name, value in faults.items():
            monkeypatch.setenv(name, value)
        return run_stage("commands.verify")

    return run


def results(output: str) -> dict[str, str]:
    """What the table says of each output."""
    lines = [line.split("  ", 1) for line in output.splitlines() if "  " in line]
    return {path: result.strip() for path, result in lines if path != "output"}


def test_same_machine(verify: Verify) -> None:
    done = verify()
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1].startswith("8 of 8 outputs have the same bytes")
    assert "numpy" not in done.stdout


def test_commit_is_named(committed: Path, verify: Verify) -> None:
    revision = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=committed, text=True)
    for uncommitted in (False, True):
        if uncommitted:
            (committed / "notes.txt").touch()
        first, *_ = verify().stdout.splitlines()
        assert first.split()[1] in revision
        assert "Results" in first
        assert ("not committed" in first) is uncommitted
    (committed / "notes.txt").unlink()


def test_another_processor_and_library(verify: Verify) -> None:
    done = verify(OFF="0.001")
    assert done.returncode == 2
    assert re.search(r"numpy 0\.1, here \d", done.stdout)
    assert f"Python {platform.python_version()}" in done.stdout
    assert results(done.stdout) == {
        "cached/a.csv": "same bytes",
        "cached/b.json": "within tolerance: 1 of 2 entries differ, numbers by up to 0.001",
        "curve.csv": "within tolerance: 1 of 6 entries differ, numbers by up to 0.001",
        "kept/a.csv": "same bytes",
        "kept/b.json": "within tolerance: 1 of 2 entries differ, numbers by up to 0.001",
        "metrics/a.json": "within tolerance: 1 of 7 entries differ, numbers by up to 0.001",
        "picture.png": "same bytes",
        "weights.safetensors": "within tolerance: 400 of 400 entries differ, numbers by up to 0.001",
    }


def test_far_off(verify: Verify) -> None:
    done = verify(OFF="0.5")
    assert done.returncode == 3
    assert results(done.stdout)["weights.safetensors"].startswith(f"{CHANGED}: 400 of 400 entries differ")


def test_another_picture(verify: Verify) -> None:
    done = verify(PICTURE="x")
    assert done.returncode == 3
    assert results(done.stdout)["picture.png"] == f"{CHANGED}: a picture or another format"


@pytest.fixture
def clone(committed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone of the committed project, without its cache: the current folder."""
    folder = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(committed), str(folder)], check=True)
    monkeypatch.chdir(folder)
    return folder


def commit() -> None:
    subprocess.run(["git", *IDENTITY, "commit", "--quiet", "--all", "--message=Tampered"], check=True)


def test_clone_without_the_cache(clone: Path, run_stage: RunStage) -> None:
    done = run_stage("commands.verify")
    assert done.returncode == 0
    assert results(done.stdout)["cached"] == "same bytes"


@pytest.mark.parametrize(("file", "row"), [("metrics/a.json", "metrics/a.json"), ("kept/b.json", "kept")])
def test_tampered_file(file: str, row: str, clone: Path, run_stage: RunStage) -> None:
    path = Path(file)
    path.write_text(path.read_text().replace("0.", "0.0").replace("80", "81"))
    commit()
    done = run_stage("commands.verify")
    assert done.returncode == 3
    assert results(done.stdout)[row].startswith(CHANGED)


def drop_output(path: str, *files: str) -> None:
    """Let dvc.lock, and perhaps dvc.yaml, say nothing of an output."""
    for file in files:
        tree = YAML().load(Path(file))
        outs = tree["stages"]["make"]["outs"]
        paths = [out if isinstance(out, str) else out.get("path") or next(iter(out)) for out in outs]
        del outs[paths.index(path)]
        YAML().dump(tree, Path(file))
    commit()


def test_output_dropped_from_the_lock(clone: Path, run_stage: RunStage) -> None:
    drop_output("picture.png", "dvc.lock")
    done = run_stage("commands.verify")
    assert done.returncode == 3
    assert results(done.stdout)["picture.png"].startswith(CHANGED)


def test_output_that_no_stage_makes_any_more(clone: Path, run_stage: RunStage) -> None:
    """It stays in git, and would look like a result."""
    Path("metrics/a.json").rename("metrics/b.json")
    subprocess.run(["git", "add", "metrics"], check=True)
    drop_output("metrics/a.json", "dvc.lock", "dvc.yaml")
    for options in ([], ["--no-run"]):
        done = run_stage("commands.verify", *options)
        assert done.returncode == 3
        assert results(done.stdout)["metrics/b.json"].startswith(CHANGED)


def forge(lock: Any, path: str, content: str, stage: str = "make") -> None:
    """Write `content` to an output, and its checksum into dvc.lock, as an output of `stage`."""
    Path(path).write_text(content)
    outs = lock["stages"].setdefault(stage, {"cmd": "true", "outs": [{"path": path, "hash": "md5"}]})["outs"]
    next(out for out in outs if out["path"] == path)["md5"] = hashlib.md5(content.encode()).hexdigest()
    YAML().dump(lock, Path("dvc.lock"))


def test_forged_in_file_and_lock(clone: Path, run_stage: RunStage) -> None:
    forge(YAML().load(Path("dvc.lock")), "metrics/a.json", '{"accuracy": 99}')
    commit()
    done = run_stage("commands.verify")
    assert done.returncode == 3
    assert results(done.stdout)["metrics/a.json"].startswith(CHANGED)


def test_forged_by_less_than_the_tolerance(clone: Path, run_stage: RunStage) -> None:
    """Rounding does not change a metric of models that have the same bytes."""
    accuracies = Path("metrics/a.json").read_text().replace("80.0", "80.5")
    forge(YAML().load(Path("dvc.lock")), "metrics/a.json", accuracies)
    commit()
    assert results(run_stage("commands.verify").stdout)["metrics/a.json"].startswith(CHANGED)


@pytest.mark.parametrize("file", ["metrics/a.json", "metrics/b.json"])
def test_forged_output_of_a_stage_that_is_gone(clone: Path, run_stage: RunStage, file: str) -> None:
    """DVC leaves in dvc.lock what it says of stages that are no longer in dvc.yaml."""
    forge(YAML().load(Path("dvc.lock")), file, '{"accuracy": 99}', stage="older")
    subprocess.run(["git", "add", file], check=True)
    commit()
    for options in ([], ["--no-run"]):
        done = run_stage("commands.verify", *options)
        assert done.returncode == 3
        assert results(done.stdout)[file].startswith(CHANGED)


def test_forged_output_of_a_frozen_stage(clone: Path, run_stage: RunStage) -> None:
    """DVC does not run it, and takes the committed files for what it has made; nobody can tell without a run."""
    for path in ("cached", "weights.safetensors"):
        drop_output(path, "dvc.yaml", "dvc.lock")
    forge(YAML().load(Path("dvc.lock")), "metrics/a.json", '{"accuracy": 99}')
    pipeline = YAML().load(Path("dvc.yaml"))
    pipeline["stages"]["make"]["frozen"] = True
    YAML().dump(pipeline, Path("dvc.yaml"))
    commit()
    assert run_stage("commands.verify").returncode == 1
    done = run_stage("commands.verify", "--no-run")
    assert (done.returncode, "'make' is frozen" in done.stdout + done.stderr) == (1, True)


@pytest.mark.parametrize("content", ["", "<<<<<<< HEAD\nschema: '2.0'\n=======\n", "stages: [make]\n"])
def test_damaged_lock(clone: Path, stage_refusal: StageRefusal, content: str) -> None:
    Path("dvc.lock").write_text(content)
    commit()
    line = stage_refusal("commands.verify")
    assert "dvc.lock" in line
    assert "`git checkout HEAD dvc.lock`" in line


class TestWithoutRunning:
    """`make check-lock` asks this in seconds: does dvc.lock match code and results, all as committed?"""

    def test_committed_results(self, clone: Path, run_stage: RunStage) -> None:
        done = run_stage("commands.verify", "--no-run")
        assert (done.returncode, results(done.stdout)) == (0, {})
        assert "5 of the 5 outputs" in done.stdout
        assert "2 more are in neither" in done.stdout  # cached/ and weights.safetensors

    def test_studies(self, clone: Path, run_stage: RunStage) -> None:
        """Their results are shown beside those of the pipeline, and stand in a dvc.lock of their own."""
        study = Path("studies/seeds")
        study.mkdir(parents=True)
        (study / "dvc.yaml").write_text(STUDY)
        subprocess.run([sys.executable, "-m", "dvc", "repro", "--quiet", str(study / "dvc.yaml")], check=True)
        subprocess.run(["git", "add", "."], check=True)
        commit()
        done = run_stage("commands.verify", "--no-run")
        assert (done.returncode, "6 of the 6 outputs" in done.stdout, "older" in done.stdout) == (0, True, False)

        (study / "dvc.yaml").write_text(STUDY.replace("echo", "echo again"))
        commit()
        done = run_stage("commands.verify", "--no-run")
        assert (done.returncode, "studies/seeds is of older code" in done.stdout) == (0, True)

        (study / "results.json").write_text("better")
        commit()
        for options in ([], ["--no-run"]):
            done = run_stage("commands.verify", *options)
            assert done.returncode == 3
            assert results(done.stdout)["studies/seeds/results.json"].startswith(CHANGED)

    def test_stage_that_would_run(self, clone: Path, run_stage: RunStage) -> None:
        Path("make.py").write_text("raise SystemExit(1)")
        commit()
        done = run_stage("commands.verify", "--no-run")
        assert (done.returncode, "Running stage 'make'" in done.stdout) == (1, True)

    def test_code_that_dvc_does_not_see(self, clone: Path, run_stage: RunStage) -> None:
        for path, text in (("stages/train.py", ""), ("stages/lib/steps.py", ""), (".dvcignore", "steps.py\n")):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(text)
        subprocess.run(["git", "add", "."], check=True)
        commit()
        done = run_stage("commands.verify", "--no-run")
        assert done.returncode == 1
        assert re.findall(r"(\S+) is hidden", done.stdout) == ["stages/lib/steps.py"]

    def test_lock_that_is_not_committed(self, clone: Path, run_stage: RunStage) -> None:
        """The commit alone counts: what is here may match it or not."""
        lock = Path("dvc.lock").read_text()
        Path("dvc.lock").write_text(lock.replace("0.1", "0.2"))
        commit()
        Path("dvc.lock").write_text(lock)
        assert run_stage("commands.verify", "--no-run").returncode == 1

    @pytest.mark.parametrize(("file", "row"), [("metrics/a.json", "metrics/a.json"), ("kept/b.json", "kept")])
    def test_tampered_file(self, clone: Path, run_stage: RunStage, file: str, row: str) -> None:
        Path(file).write_text("{}")
        commit()
        done = run_stage("commands.verify", "--no-run")
        assert done.returncode == 3
        assert list(results(done.stdout)) == [row]

    def test_output_dropped_from_the_lock(self, clone: Path, run_stage: RunStage) -> None:
        drop_output("metrics/a.json", "dvc.lock")
        done = run_stage("commands.verify", "--no-run")
        assert done.returncode == 3
        assert list(results(done.stdout)) == ["metrics/a.json"]


def test_without_a_repository(workspace: Path, run_stage: RunStage) -> None:
    done = run_stage("commands.verify")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "no git repository here" in done.stderr


def test_without_a_committed_run(workspace: Path, run_stage: RunStage) -> None:
    subprocess.run(["git", "init", "--quiet"], check=True)
    done = run_stage("commands.verify")
    assert done.returncode == 1
    assert "dvc.lock is not committed: run `dvc repro`" in done.stderr


def test_numbers_a_little_off() -> None:
    assert judge([100.0, 0.5], [101.0, 0.5], exact_words=True)[0] == WITHIN


def test_numbers_far_off() -> None:
    assert judge([100.0, 0.5], [150.0, 0.5], exact_words=True)[0] == CHANGED


def test_words_of_a_table() -> None:
    old = ["Shirt"] + [json.dumps(number) for number in range(39)]
    assert judge(old, ["Coat", *old[1:]], exact_words=False)[0] == WITHIN
    assert judge(old, ["x"] * 3 + old[3:], exact_words=False)[0] == CHANGED


def test_another_best_model() -> None:
    figures = [float(number) for number in range(100)]
    assert judge(["model_2", *figures], ["model_0", *figures], exact_words=True)[0] == CHANGED


def test_one_number_far_off() -> None:
    figures = [float(number) for number in range(100)]
    assert judge([83.0, *figures], [25.0, *figures], exact_words=True)[0] == CHANGED


def test_last_digits_of_the_same_models() -> None:
    assert judge([80.0], [80.0 + 1e-12], exact_words=True, amplified=False)[0] == WITHIN
    assert judge([80.0], [80.5], exact_words=False, amplified=False)[0] == CHANGED
    assert judge(["a", 1.0], ["b", 1.0], exact_words=False, amplified=False)[0] == CHANGED


def test_few_numbers_off_by_more() -> None:
    figures = [float(number) for number in range(100)]
    assert judge([239.0, *figures], [250.0, *figures], exact_words=True)[0] == WITHIN
    assert judge([239.0] * 10 + figures, [250.0] * 10 + figures, exact_words=True)[0] == CHANGED


def test_no_number_where_one_was() -> None:
    assert judge([1.0] * 10, [math.nan] * 10, exact_words=False)[0] == CHANGED
    assert judge([1.0] * 30, [1.1] + [math.nan] * 29, exact_words=True)[0] == CHANGED


def test_tiny_probabilities() -> None:
    assert judge([2.3e-107], [1.4e-101], exact_words=True)[0] == WITHIN
    assert judge([0.03], [0.04], exact_words=True)[0] == CHANGED
