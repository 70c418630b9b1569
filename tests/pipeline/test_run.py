"""`python -m stages.commands.run`, which is what `make run` calls: it falls back where DVC fails."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.helpers import SetParams, Shell, StagesRun, interrupt, start

pytestmark = pytest.mark.slow

RUN = "python -m stages.commands.run"
WARNING = "NOT FashionMNIST"
NOBODY = "http://127.0.0.1:1/"  # nobody listens there


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
) -> tuple[Path, str]:
    """An unpacked archive, without .git, after its first run, without network; what it printed.

    With DVC's cache: the models need no training. Not to be changed.
    """
    folder = tmp_path_factory.mktemp("offline")
    shell(f"git archive HEAD~1 | tar -x -C '{folder}' && cp -R .dvc/cache '{folder}/.dvc'", folder=reproduced)
    before = Path.cwd()
    os.chdir(folder)
    try:
        set_params({"fetch.source": "fashion-mnist", "fetch.mirrors": [NOBODY, "no/such/folder"]})
        return folder, shell(RUN)
    finally:
        os.chdir(before)


def test_said_first_and_last(offline: tuple[Path, str]) -> None:
    _, output = offline
    first, last = output.index(WARNING), output.rindex(WARNING)
    assert first < output.index("Running stage")
    assert output.index("\nTest images of synthetic:") < last
    assert output.rindex("Running stage") < last
    assert output[last:].count("\n") < 10


def test_results_say_synthetic(offline: tuple[Path, str]) -> None:
    folder, output = offline
    assert '"source": "synthetic"' in (folder / "metrics/data.json").read_text()
    assert '"source": "synthetic"' in (folder / "metrics/compare.json").read_text()
    assert "Test images of synthetic:" in output
    subprocess.run([sys.executable, "-m", "dvc", "status", "-q", "dvc.yaml"], cwd=folder, check=True)


def test_wrong_mirror_is_an_error(project: Path, shell: Shell, set_params: SetParams, wrong_mirror: str) -> None:
    set_params({"fetch.source": "fashion-mnist", "fetch.mirrors": [NOBODY, wrong_mirror]})
    before = shell("git diff")
    output = shell(RUN, status=1)
    assert WARNING not in output
    assert output.splitlines()[-1].startswith("run: ")
    assert wrong_mirror in output.splitlines()[-1]
    assert "Traceback" not in output
    assert shell("git diff") == before
    assert [line.split() for line in shell("git status --short").splitlines()] == [["M", "params.yaml"]]


def test_ctrl_c_in_a_training(
    project: Path,
    environment: dict[str, str],
    shell: Shell,
    set_params: SetParams,
    stages_run: StagesRun,
    survived: Callable[[str], None],
    group_lives: Callable[[int], bool],
) -> None:
    set_params({"model_1.epochs": 10_000, "model_2.epochs": 10_000})
    with start(RUN, environment, stdout=subprocess.PIPE) as run:
        rest = interrupt(run, at="Epoch: 2 ")
        status = run.wait(timeout=300)
    assert status == 130, rest
    assert rest.splitlines()[-1].startswith("run: interrupted")
    assert not group_lives(run.pid)
    assert list(project.rglob("*.tmp")) == []

    set_params({"model_1.epochs": 2, "model_2.epochs": 1})
    assert stages_run(shell(RUN)) == ["train_model_1", "evaluate", "compare"]
    shell("dvc status -q dvc.yaml")
    survived("Ctrl-C in make run")


def test_fresh_clone_same_bytes(
    reproduced: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: Shell, stages_run: StagesRun
) -> None:
    """On the same kind of machine all results come out to the byte, trained together or one by one; git is clean."""
    shell(f"git clone -q '{reproduced}' '{tmp_path}/clone'")
    monkeypatch.chdir(tmp_path / "clone")
    assert "train_model_2" in stages_run(shell(RUN))
    assert shell("git status --short") == ""

    files = [path.relative_to(reproduced) for path in sorted(reproduced.rglob("*")) if path.is_file()]
    made = [path for path in files if path.parts[0] in ("data", "metrics", "models", "plots")]
    assert len(made) > 40
    differing = [path for path in made if path.read_bytes() != (reproduced / path).read_bytes()]
    assert {path.parent for path in differing} <= {Path("metrics/timing")}
    if (os.cpu_count() or 1) > 1:  # then they are trained together
        for number in range(3):
            log = Path(f"logs/train_model_{number}.log").read_text()
            assert f"Running stage 'train_model_{number}'" in log
            assert log.count("Epoch: 1 |") == 1


def test_times_stand_beside_their_models(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: Shell, set_params: SetParams
) -> None:
    """A model that DVC brings back from its cache was not timed: a dash stands there, not the time of another.

    In a link to a folder of any name, and by somebody whom git does not know.
    """
    (tmp_path / "link").symlink_to(project.rename(tmp_path / "with ü and ç"))
    monkeypatch.chdir(tmp_path / "link")
    shell("git config --remove-section user")
    for lr in (0.02, 0.1):
        set_params({"model_1.lr": lr})
        output = shell(RUN, PWD=str(tmp_path / "link"))
        rows = {line.split()[0]: line.split() for line in output.splitlines() if " to " in line}
        assert re.fullmatch(r"[\d.]+", rows["model_0"][-2])
        assert (rows["model_1"][-2] == "-") is (lr == 0.1)
    shell("python -m stages.commands.report")
    shell("dvc status -q dvc.yaml")
