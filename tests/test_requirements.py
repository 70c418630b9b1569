"""requirements.txt and versions.toml against pyproject.toml: everything pinned, hashed, within its range."""

import re
import shutil
import subprocess
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from stages.lib.base.versions import MINIMUM
from tests.helpers import PROJECT

LOCK = (PROJECT / "requirements.txt").read_text()
ABOUT = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
VERSIONS = tomllib.loads((PROJECT / "versions.toml").read_text())
EXTRAS = ABOUT["optional-dependencies"]
WANTED = [Requirement(text) for text in [*ABOUT["dependencies"], *EXTRAS["cluster"], *EXTRAS["dev"]]]
ENTRIES = re.split(r"\n(?=[A-Za-z0-9])", LOCK.strip())
OLDEST_PYTHON = {"python_version": "3.11", "python_full_version": "3.11.0"}  # the one that the results are made with

PINS: defaultdict[str, list[Requirement]] = defaultdict(list)
for entry in ENTRIES:
    pin = Requirement(entry.split("\\")[0])
    PINS[canonicalize_name(pin.name)].append(pin)


def version_of(pin: Requirement) -> str:
    (specifier,) = pin.specifier
    assert specifier.operator == "=="
    return specifier.version


@pytest.mark.parametrize("wanted", WANTED, ids=str)
def test_locked_within_its_range(wanted: Requirement) -> None:
    versions = [version_of(pin) for pin in PINS[canonicalize_name(wanted.name)]]
    assert versions
    assert all(wanted.specifier.contains(version) for version in versions)


def test_every_version_has_a_hash() -> None:
    assert len(ENTRIES) > len(WANTED)
    assert [entry for entry in ENTRIES if "--hash=sha256:" not in entry] == []


@pytest.mark.parametrize("torch", ["", "none", "cpu"])
def test_setup_without_cuda(tmp_path: Path, torch: str) -> None:
    """What `make setup` installs, with a Python that installs nothing."""
    for file in ("Makefile", "requirements.txt"):
        shutil.copy(PROJECT / file, tmp_path)
    python = tmp_path / "python"
    copies = 'mkdir -p .venv/bin; cp "$0" .venv/bin/python; cp "$0" .venv/bin/uv'
    python.write_text(f'#!/bin/sh\necho "$@" >> calls\n[ "$2" = venv ] && {{ {copies}; }}\nexit 0\n')
    python.chmod(0o755)
    make = ["make", "setup", f"TORCH={torch}", "PYTHON=./python"]
    subprocess.run(make, cwd=tmp_path, capture_output=True, check=True)

    locked = re.split(r"\n(?=[A-Za-z0-9])", (tmp_path / ".venv/lock.txt").read_text().strip())
    left_out = {entry.split("==")[0] for entry in {*ENTRIES} - {*locked}}
    calls = (tmp_path / "calls").read_text().splitlines()
    assert {*locked} <= {*ENTRIES}
    assert bool(left_out) is bool(torch)
    assert not torch or {"torch", "torchvision", "triton", "nvidia-cublas", "cuda-bindings"} <= left_out
    assert {name for name in left_out if not re.match("(torch|triton|nvidia|cuda)", name)} == set()
    assert all("--require-hashes" in call for call in calls if " install " in call or " sync " in call)
    assert any("--torch-backend cpu" in call for call in calls) is (torch == "cpu")
    if torch == "cpu":
        wanted = (tmp_path / ".venv/torch.in").read_text().split()
        assert wanted == [f"{library}=={VERSIONS[library]}" for library in ("torch", "torchvision")]


def test_no_address_of_an_index() -> None:
    assert "://" not in LOCK


def test_minimum_versions_are_those_required() -> None:
    lower = {
        wanted.name: specifier.version
        for wanted in WANTED
        for specifier in wanted.specifier
        if specifier.operator == ">=" and wanted.name in MINIMUM
    }
    assert lower == MINIMUM


@pytest.mark.parametrize("library", VERSIONS)
def test_recorded_version_is_locked(library: str) -> None:
    locked = [pin for pin in PINS[library] if not pin.marker or pin.marker.evaluate(OLDEST_PYTHON)]
    assert [version_of(pin) for pin in locked] == [VERSIONS[library]]
    assert [wanted.name for wanted in WANTED if wanted.name == library]  # a direct dependency


def test_git_keeps_line_ends(tmp_path: Path) -> None:
    # A hash of `dvc.lock` and of a requirement fits one kind of line end alone.
    def git(*arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=tmp_path, capture_output=True, check=True)

    git("init", "--quiet", "--bare", "bare.git")
    project = ["--git-dir=bare.git", f"--work-tree={PROJECT}", "-c", "user.name=T", "-c", "user.email=t@example.com"]
    git(*project, "add", f"{PROJECT}/.gitattributes", f"{PROJECT}/requirements.txt")
    git(*project, "commit", "--quiet", "--message=lock")
    git("-c", "core.autocrlf=true", "clone", "--quiet", "bare.git", "clone")
    assert (tmp_path / "clone/requirements.txt").read_bytes() == (PROJECT / "requirements.txt").read_bytes()
