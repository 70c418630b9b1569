"""The fetch stage as DVC runs it: a process in a folder with a params.yaml."""

import hashlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages.lib.source.fashion_mnist import RAW_FILES

PROJECT = Path(__file__).parents[1]
NAMES = sorted(file.name for file in RAW_FILES)


@pytest.fixture
def refusing() -> Iterator[str]:
    """An address where nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/"


def fetch(folder: Path, source: str, *mirrors: str, first: str = "") -> subprocess.CompletedProcess[str]:
    """Run the stage in `folder`, with these settings in its params.yaml and `first` in the environment."""
    yaml = YAML(typ="safe")
    params = yaml.load(PROJECT / "params.yaml")
    params["fetch"].update(source=source, mirrors=list(mirrors), synthetic={"train": 20, "test": 10})
    yaml.dump(params, folder / "params.yaml")
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment |= {
        "PYTHONPATH": str(PROJECT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "XDG_CACHE_HOME": str(folder / "cache"),
        "FASHION_MNIST_MIRROR": first,
    }
    return subprocess.run(
        [sys.executable, "-m", "stages.fetch"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_without_any_mirror_the_stage_fails_with_the_remedy_and_no_traceback(tmp_path: Path, refusing: str) -> None:
    done = fetch(tmp_path, "fashion-mnist", refusing, "absent/folder", first="~/nowhere at all")
    assert done.returncode == 1
    *passed_over, message = done.stderr.splitlines()
    assert passed_over == [
        "fetch: ~/nowhere at all: no such folder; trying the next",
        f"fetch: {refusing}: connection refused; trying the next",
    ]
    assert message.startswith("fetch: no mirror gave all 4 files (~/nowhere at all: no such folder; ")
    assert "Set FASHION_MNIST_MIRROR to a folder or an address" in message
    assert "dvc exp run -S fetch.source=synthetic" in message
    assert done.stdout == ""
    assert not (tmp_path / "data").exists()


def test_files_that_are_not_as_published_are_refused_and_the_ones_there_stay(tmp_path: Path) -> None:
    for folder in (tmp_path / "mirror", tmp_path / "data" / "raw"):
        folder.mkdir(parents=True)
        for file in RAW_FILES:
            (folder / file.name).write_bytes(folder.name.encode())
    done = fetch(tmp_path, "fashion-mnist", "mirror")
    assert done.returncode == 1
    assert "mirror: train-images-idx3-ubyte.gz: expected 26,421,880 bytes, got 6" in done.stderr
    raw = tmp_path / "data" / "raw"
    assert {path.name: path.read_bytes() for path in raw.iterdir()} == dict.fromkeys(NAMES, b"raw")


def test_the_synthetic_source_needs_no_mirror_and_says_what_it_drew(tmp_path: Path) -> None:
    done = fetch(tmp_path, "synthetic")
    assert (done.returncode, done.stderr) == (0, "")
    *files, how = done.stdout.splitlines()
    raw = tmp_path / "data" / "raw"
    assert sorted(path.name for path in raw.iterdir()) == NAMES
    for line, file in zip(files, RAW_FILES, strict=True):
        content = (raw / file.name).read_bytes()
        assert line.split() == [
            file.name, f"{len(content):,}", "bytes", "sha256", hashlib.sha256(content).hexdigest()[:12]
        ]  # fmt: skip
    assert how == "data/raw: drawn with seed 42"


def test_a_wrong_source_is_refused(tmp_path: Path) -> None:
    done = fetch(tmp_path, "cifar")
    assert done.returncode == 1
    assert "fetch.source" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_published_files_are_fetched_once_and_then_found_whole(tmp_path: Path, refusing: str) -> None:
    mirror = os.environ.get("FASHION_MNIST_MIRROR")
    if not mirror:
        pytest.skip("FASHION_MNIST_MIRROR is not set")
    done = fetch(tmp_path, "fashion-mnist", first=mirror)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"train-images-idx3-ubyte.gz    26,421,880 bytes  sha256 {RAW_FILES[0].sha256[:12]}" in done.stdout
    assert sorted(path.name for path in (tmp_path / "data" / "raw").iterdir()) == NAMES

    again = fetch(tmp_path, "fashion-mnist", refusing)
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout.endswith("data/raw: whole already, nothing to fetch\n")

    (tmp_path / "data" / "raw" / RAW_FILES[1].name).write_bytes(b"damaged")
    mended = fetch(tmp_path, "fashion-mnist", refusing, first=mirror)
    assert (mended.returncode, mended.stderr) == (0, "")
    assert sorted(path.name for path in (tmp_path / "data" / "raw").iterdir()) == NAMES
