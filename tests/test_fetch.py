"""The fetch stage: where the raw files come from, and what it says of them."""

import hashlib
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from stages.lib.base.files import sha256_of
from stages.lib.source.idx_sets import IDX_SETS, MNIST, PACKED, RAW_FILES, TRAIN_LABELS, RawFile
from stages.lib.source.image_sets import PROJECT
from stages.lib.source.synthetic import write_synthetic
from tests.helpers import RunStage, SetParams, StageRefusal, file_names, write_photos
from tests.lib.source.server import NOBODY

MIRROR = os.environ.get("FASHION_MNIST_MIRROR", "")  # of the published files
NAMES = {file.name for file in RAW_FILES}
RAW = Path("data/raw")


@pytest.fixture(autouse=True)
def _no_mirror_but_those_given(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(workspace / "cache"))
    monkeypatch.setenv("FASHION_MNIST_MIRROR", "")


def test_no_mirror(run_stage: RunStage, set_params: SetParams, monkeypatch: pytest.MonkeyPatch) -> None:
    set_params({"fetch.mirrors": [NOBODY, "absent/folder"]})
    monkeypatch.setenv("FASHION_MNIST_MIRROR", "~/nowhere at all")
    done = run_stage("fetch")
    assert (done.returncode, done.stdout) == (1, "")
    first, second, message = done.stderr.splitlines()
    assert first.startswith("fetch: ~/nowhere at all: no such folder")
    assert second.startswith(f"fetch: {NOBODY}: connection refused")
    for part in ("~/nowhere at all: no such", "absent/folder: no such", "FASHION_MNIST_MIRROR", "source=synthetic"):
        assert part in message
    assert not Path("data").exists()


def test_other_files_than_published(stage_refusal: StageRefusal, set_params: SetParams) -> None:
    set_params({"fetch.mirrors": ["mirror"]})
    for folder in (Path("mirror"), RAW):
        folder.mkdir(parents=True)
        for name in NAMES:
            (folder / name).write_bytes(folder.name.encode())
    assert "mirror: train-images-idx3-ubyte.gz: expected 26,421,880 bytes, got 6" in stage_refusal("fetch")


def test_linked_folder_is_not_drawn_over(stage_refusal: StageRefusal, set_params: SetParams) -> None:
    set_params({"fetch.source": "synthetic"})
    Path("shared").mkdir()
    for name in NAMES:
        (Path("shared") / name).write_bytes(b"of others")
    RAW.parent.mkdir()
    RAW.symlink_to(Path("shared").absolute())
    assert "data/raw is a link" in stage_refusal("fetch")


def test_synthetic_source(run_stage: RunStage, set_params: SetParams) -> None:
    set_params({"fetch.source": "synthetic", "fetch.synthetic.train": 20, "fetch.synthetic.test": 10})
    done = run_stage("fetch")
    assert (done.returncode, done.stderr) == (0, "")
    *files, origin = done.stdout.splitlines()
    assert file_names(RAW) == NAMES
    for line, file in zip(files, RAW_FILES, strict=True):
        content = (RAW / file.name).read_bytes()
        for part in (file.name, f"{len(content):,} bytes", hashlib.sha256(content).hexdigest()[:12]):
            assert part in line
    assert "seed 42" in origin


def test_mnist(run_stage: RunStage, set_params: SetParams, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a folder with files in its format: the way of its data, though not its data."""
    write_synthetic(Path("mirror"), seed=1, train=20, test=10)
    files = []
    for file in MNIST.files:
        content = (Path("mirror") / file.name).read_bytes()
        digests = hashlib.sha256(content).hexdigest(), hashlib.md5(content).hexdigest()
        files.append(RawFile(file.name, len(content), *digests))
    monkeypatch.setitem(IDX_SETS, "mnist", replace(MNIST, files=tuple(files), mirrors=(NOBODY, "mirror")))
    set_params({"fetch.source": "mnist", "fetch.mirrors": ["that of FashionMNIST is not asked"]})
    done = run_stage("fetch")
    assert done.returncode == 0
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["fetch"]  # for the one that is not there
    assert {path.name: path.read_bytes() for path in RAW.iterdir()} == {
        path.name: path.read_bytes() for path in Path("mirror").iterdir()
    }
    assert "fetched from mirror" in done.stdout


def test_mnist_without_a_mirror(
    stage_refusal: StageRefusal, set_params: SetParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_params({"fetch.source": "mnist"})
    monkeypatch.setitem(IDX_SETS, "mnist", replace(MNIST, mirrors=("absent",)))
    monkeypatch.setenv("MNIST_MIRROR", "")
    assert "MNIST_MIRROR" in stage_refusal("fetch")


def test_wrong_source(stage_refusal: StageRefusal, set_params: SetParams) -> None:
    set_params({"fetch.source": "cifar"})
    assert "fetch.source" in stage_refusal("fetch")


@pytest.mark.skipif(not MIRROR, reason="FASHION_MNIST_MIRROR is not set")
def test_published_files(run_stage: RunStage, set_params: SetParams, monkeypatch: pytest.MonkeyPatch) -> None:
    set_params({"fetch.mirrors": [NOBODY]})
    monkeypatch.setenv("FASHION_MNIST_MIRROR", MIRROR)
    done = run_stage("fetch")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"26,421,880 bytes  sha256 {RAW_FILES[0].sha256[:12]}" in done.stdout
    assert file_names(RAW) == NAMES

    (RAW / TRAIN_LABELS).write_bytes(b"damaged")
    assert run_stage("fetch").returncode == 0
    assert (RAW / TRAIN_LABELS).stat().st_size == RAW_FILES[1].size

    monkeypatch.setenv("FASHION_MNIST_MIRROR", "")
    again = run_stage("fetch")
    assert (again.returncode, again.stderr) == (0, "")
    assert "nothing to fetch" in again.stdout


def use_images(run_stage: RunStage, folder: str = "pets") -> None:
    assert run_stage("commands.use_images", folder).returncode == 0


def test_images_of_ones_own(run_stage: RunStage, workspace: Path) -> None:
    write_photos(workspace / "pets")
    use_images(run_stage)
    done = run_stage("fetch")
    assert (done.returncode, done.stderr) == (0, "")
    assert file_names(RAW) == {"images.zip"}
    assert "taken from pets" in done.stdout
    (workspace / "pets").rename("elsewhere")  # as for those who have them from `dvc pull`
    assert "nothing to fetch" in run_stage("fetch").stdout


def test_images_that_changed(run_stage: RunStage, stage_refusal: StageRefusal, workspace: Path) -> None:
    write_photos(workspace / "pets")
    use_images(run_stage)
    (workspace / "pets/Hose/0.jpg").unlink()
    line = stage_refusal("fetch")
    assert "use_images pets" in line
    assert not RAW.exists() or not file_names(RAW)
    use_images(run_stage)
    assert run_stage("fetch").returncode == 0


def test_clone_of_a_project(run_stage: RunStage, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of `make verify`: a relative path counts from the project, and what was fetched there need not be there again."""
    write_photos(workspace / "pets")
    use_images(run_stage)
    clone = workspace / "clone"
    clone.mkdir()
    for file in ("params.yaml", "versions.toml"):
        shutil.copy(file, clone)
    monkeypatch.chdir(clone)
    monkeypatch.setenv(PROJECT, str(workspace))
    assert "taken from pets" in run_stage("fetch").stdout
    (workspace / RAW).mkdir(parents=True)
    (clone / RAW / PACKED).rename(workspace / RAW / PACKED)
    (workspace / "pets").rename(workspace / "elsewhere")
    assert f"taken from {workspace / RAW}" in run_stage("fetch").stdout
    assert sha256_of(clone / RAW / PACKED) == sha256_of(workspace / RAW / PACKED)


def test_images_of_which_nothing_is_said(stage_refusal: StageRefusal, set_params: SetParams) -> None:
    set_params({"fetch.source": "images"})
    assert "use_images PATH" in stage_refusal("fetch")


def test_other_source_leaves_nothing(run_stage: RunStage, set_params: SetParams, workspace: Path) -> None:
    write_photos(workspace / "pets")
    use_images(run_stage)
    for source, files in (("synthetic", NAMES), ("images", {"images.zip"}), ("synthetic", NAMES)):
        set_params({"fetch.source": source, "fetch.synthetic.train": 20, "fetch.synthetic.test": 10})
        assert run_stage("fetch").returncode == 0
        assert file_names(RAW) == files
