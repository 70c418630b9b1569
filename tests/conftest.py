"""What several tests share: small data, a folder to run stages in, and a way to run them without a new process."""

import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import import_module, invalidate_caches
from pathlib import Path
from subprocess import CompletedProcess
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from stages.lib.base.errors import exit_cleanly
from stages.lib.source.idx_sets import CLASS_NAMES

pytest.register_assert_rewrite("tests.helpers")
from tests.helpers import PROJECT, MakeSplit, RunStage, SetParams, StageRefusal, set_keys, write_inputs  # noqa: E402

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from stages.lib.data.datasets import Split

# A shell has what it starts with & ignore Ctrl-C, these tests perhaps; what they start must not.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Workers with as many threads as there are cores, each, would wait for one another.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples in every run, and no time limits: the machine may be busy.
settings.register_profile(
    "steady", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("few", parent=settings.get_profile("steady"), max_examples=10)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))

LONGEST = [
    "test_somebodys_project",
    "test_scale",  # the next one needs what the first one makes
    "test_own_images",
    "test_experiments",
    "test_verify",
    "test_studies",
    "test_who_runs_when",
]


@pytest.fixture(scope="session")
def make_split() -> MakeSplit:
    """`make_split(images, seed=0, source="synthetic")`: noise with a bright band whose height tells the class."""

    def make(images: int, seed: int = 0, source: str = "synthetic") -> "Split":
        import torch

        from stages.lib.data.datasets import Split

        draw = torch.Generator().manual_seed(seed)
        labels_N = torch.arange(images) % len(CLASS_NAMES)
        images_NCHW = torch.randint(0, 120, (images, 1, 28, 28), dtype=torch.uint8, generator=draw)
        for row in (4, 5):
            images_NCHW[torch.arange(images), 0, labels_N * 2 + row] += 120
        return Split(images_NCHW, labels_N, CLASS_NAMES, source)

    return make


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a workspace begins with. Not to be changed."""
    folder = tmp_path_factory.mktemp("inputs")
    write_inputs(folder, {"train.device": "cpu", "train.threads": 1})
    return folder


@pytest.fixture
def workspace(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to run stages in, the current one, with the lecture's parameters, set for one CPU thread."""
    monkeypatch.chdir(tmp_path)
    for file in inputs.iterdir():
        shutil.copyfile(file, tmp_path / file.name)
    return tmp_path


@pytest.fixture
def set_params(workspace: Path) -> SetParams:
    """`set_params({"model_1.lr": 0.5})` changes the params.yaml of the workspace."""
    return lambda changes: set_keys(workspace / "params.yaml", changes)


@pytest.fixture
def prepared(workspace: Path, make_split: MakeSplit) -> Path:
    """The workspace with 330 training images, no validation images and 77 test images: the last batches are short."""
    from stages.lib.data.datasets import save_split

    for name, split in (("train", make_split(330)), ("validation", make_split(0)), ("test", make_split(77, seed=1))):
        save_split(workspace / f"data/prepared/{name}.safetensors", split)
    return workspace


@pytest.fixture
def write_architecture(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], None]]:
    """`write_architecture(code)` gives the architecture `ours` this code; the project's own are there as well."""
    from stages import architectures
    from stages.lib.base import params
    from stages.lib.learning import models

    folder = tmp_path_factory.mktemp("project") / "stages/architectures"
    shutil.copytree(PROJECT / "stages/architectures", folder)
    monkeypatch.setattr(architectures, "__path__", [str(folder)])
    for module in (params, models):
        monkeypatch.setattr(module, "ARCHITECTURES", folder)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # of two versions within a second Python would take the first

    def write(code: str) -> None:
        (folder / "ours.py").write_text(code)
        invalidate_caches()
        sys.modules.pop("stages.architectures.ours", None)

    yield write
    sys.modules.pop("stages.architectures.ours", None)


@pytest.fixture
def group_lives() -> Callable[[int], bool]:
    """`group_lives(group)`: whether a process of the group is still there after half a minute."""

    def check(group: int) -> bool:
        for _ in range(300):
            try:
                os.killpg(group, 0)
            except ProcessLookupError:
                return False
            time.sleep(0.1)
        return True

    return check


@pytest.fixture
def run_stage(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> RunStage:
    """`run_stage("train", "model_1")` does what `python -m stages.train model_1` does, in this process."""

    def run(stage: str, *arguments: str) -> CompletedProcess[str]:
        main = import_module(f"stages.{stage}").main
        monkeypatch.setattr(sys, "argv", [stage, *arguments])
        capsys.readouterr()
        status = 0
        try:
            exit_cleanly(stage, main)
        except SystemExit as ended:
            status = int(ended.code or 0)
        return CompletedProcess([stage, *arguments], status, *capsys.readouterr())

    return run


@pytest.fixture
def stage_refusal(run_stage: RunStage) -> StageRefusal:
    """`stage_refusal("train", "model_1")` gives the one line of a stage that must fail and change no file but `new`."""

    def run(stage: str, *arguments: str, new: tuple[str, ...] = ()) -> str:
        before = _files()
        done = run_stage(stage, *arguments)
        after = {path: status for path, status in _files().items() if path not in new}
        assert (done.returncode, after) == (1, before)
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"{stage}: ")
        return line

    return run


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> "dict[str, Figure]":
    """The pictures that a stage draws, by path, kept instead of rendered: that takes most of the time."""
    from stages.lib import plots

    kept: dict[str, Figure] = {}
    monkeypatch.setattr(plots, "save", lambda figure, path: kept.update({str(path): figure}))
    return kept


@pytest.fixture
def survived(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """`survived("full disk")` counts a fault that did no harm for the table that ends the test run."""
    return lambda fault, tried=1: record_property("fault", (fault, tried))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that try a fault. The longest files come first, or the last of them would end alone."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))
    for item in items:
        if "survived" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.fault)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """End with the table of the faults that did no harm, from whichever process tried them."""
    tried: Counter[str] = Counter()
    for report in terminalreporter.stats.get("passed", []):
        tried.update({value[0]: value[1] for name, value in report.user_properties if name == "fault"})
    if tried:
        terminalreporter.section("faults")
        terminalreporter.write_line(f"{'fault':<48} {'tried':>5} {'survived':>8}  bytes lost")
        for fault, times in sorted(tried.items()):
            terminalreporter.write_line(f"{fault:<48} {times:>5} {times:>8}  none")


def _files() -> dict[str, tuple[int, int]]:
    """Return size and time of each file below the current folder."""
    found = {str(path): path.stat() for path in Path().rglob("*") if path.is_file()}
    return {path: (status.st_size, status.st_mtime_ns) for path, status in found.items()}
