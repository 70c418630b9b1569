"""`python -m stages.commands.run`, which is what `make run` calls: kind where DVC is strict."""

import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

pytestmark = pytest.mark.slow

RUN = "python -m stages.commands.run"
WARNING = "NOT FashionMNIST: no mirror of it could be reached."
NOBODY = "http://127.0.0.1:1/"  # nobody listens there

Shell = Callable[..., str]
SetParams = Callable[[dict[str, Any]], None]
StagesRun = Callable[[str], list[str]]


class Page(BaseHTTPRequestHandler):
    """Answers everything with a page, as a hotel's network does."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>Please log in</html>")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def wrong_mirror() -> Iterator[str]:
    """The address of a server that is no mirror."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def offline(
    reproduced: Path, tmp_path_factory: pytest.TempPathFactory, shell: Shell, set_params: SetParams
) -> tuple[Path, str, str]:
    """An unpacked archive, without .git, after its first run, without network; its params.yaml before; what it printed.

    Not to be changed.
    """
    folder = tmp_path_factory.mktemp("offline")
    archive = subprocess.check_output(["git", "archive", "HEAD~1"], cwd=reproduced)
    with tarfile.open(fileobj=BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
    before = Path.cwd()
    os.chdir(folder)
    try:
        set_params({"fetch.source": "fashion-mnist", "fetch.mirrors": [NOBODY, "no/such/folder"]})
        params = Path("params.yaml").read_text()
        return folder, params, shell(RUN)
    finally:
        os.chdir(before)


def test_without_a_mirror_it_says_first_and_last_that_the_images_are_drawn(offline: tuple[Path, str, str]) -> None:
    _, _, output = offline
    first, last = output.index(WARNING), output.rindex(WARNING)
    assert first < output.index("Running stage")
    assert output.index("\nTest images of synthetic:") < last
    assert output.rindex("Running stage") < last
    assert output[last:].count("\n") < 10


def test_without_a_mirror_params_say_synthetic_and_are_otherwise_as_they_were(offline: tuple[Path, str, str]) -> None:
    folder, params, _ = offline
    now = (folder / "params.yaml").read_text()
    # Words, for indentation may change.
    changed = [
        (" ".join(old.split()), " ".join(new.split()))
        for old, new in zip(params.splitlines(), now.splitlines(), strict=True)
        if old.split() != new.split()
    ]
    ((old, new),) = changed
    assert old.startswith("source: fashion-mnist #")
    assert new == old.replace("fashion-mnist", "synthetic", 1)


def test_without_a_mirror_the_whole_pipeline_has_run_and_says_synthetic(offline: tuple[Path, str, str]) -> None:
    folder, _, output = offline
    assert '"source": "synthetic"' in (folder / "metrics/data.json").read_text()
    assert '"source": "synthetic"' in (folder / "metrics/compare.json").read_text()
    assert "Test images of synthetic:" in output
    subprocess.run([sys.executable, "-m", "dvc", "status", "-q"], cwd=folder, check=True)


def test_a_second_run_runs_no_stage(
    offline: tuple[Path, str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shell: Shell,
    stages_run: StagesRun,
) -> None:
    monkeypatch.chdir(shutil.copytree(offline[0], tmp_path / "project"))
    output = shell(RUN)
    assert stages_run(output) == []
    assert WARNING not in output
    assert "Test images of synthetic:" in output


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="models are trained together on two cores or more")
def test_models_trained_together_are_the_same_to_the_last_byte(
    offline: tuple[Path, str, str], reproduced: Path
) -> None:
    together, _, _ = offline
    files = [path.relative_to(reproduced) for path in sorted(reproduced.rglob("*")) if path.is_file()]
    made = [path for path in files if path.parts[0] in ("data", "metrics", "models", "plots")]
    assert len(made) > 40
    differing = [path for path in made if (together / path).read_bytes() != (reproduced / path).read_bytes()]
    assert {path.parent for path in differing} == {Path("metrics/timing")}
    for number in range(3):
        log = (together / f"logs/train_model_{number}.log").read_text()
        assert f"Running stage 'train_model_{number}'" in log
        assert log.count("Epoch: 1 |") == 1


def test_a_mirror_that_is_reached_and_wrong_is_an_error(
    project: Path, shell: Shell, set_params: SetParams, wrong_mirror: str
) -> None:
    set_params({"fetch.source": "fashion-mnist", "fetch.mirrors": [NOBODY, wrong_mirror]})
    before = shell("git diff")
    output = shell(RUN, status=1)
    assert WARNING not in output
    assert output.splitlines()[-1].startswith("run: no mirror gave all 4 files")
    assert "Traceback" not in output
    assert shell("git diff") == before
    assert [line.split() for line in shell("git status --short").splitlines()] == [["M", "params.yaml"]]


def test_it_runs_where_git_knows_no_name(
    project: Path, shell: Shell, set_params: SetParams, stages_run: StagesRun
) -> None:
    shell("git config --remove-section user")
    set_params({"confusion.samples": 4})
    assert stages_run(shell(RUN)) == ["confusion"]


def test_after_ctrl_c_in_a_training_nothing_is_left_behind_and_the_next_run_completes(
    project: Path,
    environment: dict[str, str],
    shell: Shell,
    set_params: SetParams,
    stages_run: StagesRun,
    survived: Callable[[str], None],
    group_lives: Callable[[int], bool],
) -> None:
    set_params({"model_1.epochs": 10_000, "model_2.epochs": 10_000})
    with subprocess.Popen(
        RUN.split(),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # as from a terminal: Ctrl-C reaches every process of the group
    ) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if "Epoch: 2 " in line:
                break
        os.killpg(run.pid, signal.SIGINT)
        rest = run.stdout.read()
        status = run.wait(timeout=60)
    assert status == 130, rest
    assert rest.splitlines()[-1] == "run: interrupted; nothing half-written is left behind"
    assert not group_lives(run.pid)
    assert list(project.rglob("*.tmp")) == []

    set_params({"model_1.epochs": 2, "model_2.epochs": 1})
    assert stages_run(shell(RUN)) == ["train_model_1", "evaluate", "compare"]
    shell("dvc status -q")
    survived("Ctrl-C in make run")
