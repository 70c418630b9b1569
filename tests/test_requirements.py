"""requirements.txt against pyproject.toml: everything pinned, hashed, allowed by its range, and from no named index."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from stages.lib.base.versions import MINIMUM

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "requirements.txt").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WANTED = [
    Requirement(text) for text in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
]  # fmt: skip
PINS: dict[str, list[str]] = {}
for pinned_name, pinned_version in re.findall(r"^([A-Za-z0-9._-]+)==([^ \\;]+)", LOCK, re.MULTILINE):
    PINS.setdefault(canonicalize_name(pinned_name), []).append(pinned_version)


@pytest.mark.parametrize("wanted", WANTED, ids=str)
def test_every_requirement_is_locked_within_its_range(wanted: Requirement) -> None:
    pins = PINS[canonicalize_name(wanted.name)]
    assert all(wanted.specifier.contains(version) for version in pins)


def test_every_locked_version_has_a_hash() -> None:
    entries = re.split(r"\n(?=[A-Za-z0-9])", LOCK.strip())
    assert len(entries) >= len(PINS)
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_no_address_of_an_index_stands_in_the_lock() -> None:
    assert "://" not in LOCK


def test_the_minimum_versions_checked_at_run_time_are_those_required() -> None:
    lower = {
        wanted.name: specifier.version
        for wanted in WANTED
        for specifier in wanted.specifier
        if specifier.operator == ">=" and wanted.name in MINIMUM
    }
    assert lower == MINIMUM


def test_torch_is_the_version_the_figures_were_made_with() -> None:
    assert (PINS["torch"], PINS["torchvision"]) == (["2.14.1"], ["0.29.1"])
