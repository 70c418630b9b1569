"""Library versions: the recorded ones, others, and those that are too old."""

from pathlib import Path

import pytest

from stages.lib.base import versions
from tests.helpers import PROJECT, refusal

RECORDED = 'numpy = "2.4.6"\ntorch = "2.14.1"\n'


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The versions.toml of the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "versions.toml").write_text(RECORDED)
    return tmp_path / "versions.toml"


def install(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(versions, "version", lambda library: version)


@pytest.mark.parametrize("installed", ["2.14.1", "2.14.1+cpu", "2.14.1+cu128"])
@pytest.mark.usefixtures("recorded")
def test_recorded_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], installed: str) -> None:
    install(monkeypatch, installed)
    versions.check_versions("torch")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("installed", ["2.11", "2.14.0+cpu", "2.14.1rc1", "2.15.0", "10.0"])
@pytest.mark.usefixtures("recorded")
def test_another_version_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], installed: str
) -> None:
    install(monkeypatch, installed)
    versions.check_versions("torch")
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert out == ""
    assert all(words in line for words in ("torch", installed.split("+")[0], "2.14.1", "versions.toml"))


@pytest.mark.usefixtures("recorded")
def test_each_library_has_its_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    install(monkeypatch, "3.0")
    versions.check_versions("numpy", "torch")
    first, second = capsys.readouterr().err.splitlines()
    assert ("numpy" in first, "torch" in second) == (True, True)


@pytest.mark.parametrize("installed", ["1.10.0", "2.9.1", "2.10.9+cu128", "2.11.0rc1"])
@pytest.mark.usefixtures("recorded")
def test_too_old(monkeypatch: pytest.MonkeyPatch, installed: str) -> None:
    install(monkeypatch, installed)
    message = refusal(versions.check_versions, "torch")
    assert message.startswith(f"torch {installed} is too old; 2.11 ")
    assert "make setup" in message


@pytest.mark.usefixtures("recorded")
def test_library_without_a_record() -> None:
    assert "scipy" in refusal(versions.check_versions, "scipy")


@pytest.mark.parametrize("content", [None, "torch = ", "torch = 2.14.1"])
def test_unusable_file(recorded: Path, content: str | None) -> None:
    recorded.unlink()
    if content:
        recorded.write_text(content)
    message = refusal(versions.read_versions)
    assert message.startswith("versions.toml is ")
    assert "git" in message


def test_project_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    assert versions.MINIMUM.keys() <= versions.read_versions().keys()
    versions.check_versions(*versions.read_versions())
