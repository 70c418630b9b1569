"""What a user sees when a command fails."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stages import say_out_of_memory
from stages.lib.base.errors import WAY_BACK, Outdated, UserError, exit_cleanly
from tests.helpers import PROJECT, RunStage, run_process

INTERRUPTED = "\ntrain: interrupted; nothing half-written is left behind\n"


def raising(error: BaseException) -> Callable[[], None]:
    def main() -> None:
        raise error

    return main


@pytest.fixture
def ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[object, str]]:
    """Return `ending(error)`: the exit status of a command that raises `error`, and what it says on stderr."""

    def end(error: BaseException, stage: str | None = None, folder: Path = tmp_path) -> tuple[object, str]:
        monkeypatch.delenv("DVC_STAGE", raising=False)
        monkeypatch.chdir(folder)
        if stage:
            monkeypatch.setenv("DVC_STAGE", stage)
            Path(".git").mkdir(exist_ok=True)
        with pytest.raises(SystemExit) as ended:
            exit_cleanly("train", raising(error))
        out, err = capsys.readouterr()
        assert out == ""
        return ended.value.code, err

    return end


def shell(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", code], cwd=PROJECT, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("variables", [{}, {"PYTHONSAFEPATH": "1"}])
def test_code_of_another_folder(tmp_path: Path, variables: dict[str, str]) -> None:
    """As in a clone that `make verify` or `dvc exp run --temp` makes, where PYTHONPATH names the project itself."""
    shutil.copytree(PROJECT / "stages", tmp_path / "stages")
    done = run_process("commands.lock_versions", "--help", folder=tmp_path, **variables)
    assert done.returncode == bool(variables)
    assert (str(PROJECT / "stages") in done.stderr) == bool(variables)


def test_success_returns() -> None:
    exit_cleanly("prepare", lambda: None)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("seed is -1"), "train: seed is -1"),
        (OSError(28, "No space left on device", "models/model_0"), "train: models/model_0: No space left on device"),
        (PermissionError(13, "Permission denied", "data"), "train: data: Permission denied"),
        (OSError(21, "Is a directory", "raw/.a.tmp", None, "raw/a"), "train: raw/a: Is a directory"),
        (OSError(28, "No space left on device"), "train: No space left on device"),
        (OSError("the disk is gone"), "train: the disk is gone"),
    ],
)
def test_user_error_is_one_line(ending: Callable[..., tuple[object, str]], error: Exception, line: str) -> None:
    assert ending(error) == (1, line + "\n")


def test_outdated_file_names_the_remedy(ending: Callable[..., tuple[object, str]]) -> None:
    _, line = ending(Outdated(Path("metrics/best.json"), "is damaged"))
    assert line.startswith("train: metrics/best.json is damaged; ")
    assert "`dvc repro`" in line


def test_ctrl_c(ending: Callable[..., tuple[object, str]]) -> None:
    assert ending(KeyboardInterrupt()) == (130, INTERRUPTED)


@pytest.mark.parametrize("error", [UserError("seed is -1"), ZeroDivisionError(), KeyboardInterrupt()])
def test_way_back_under_dvc(ending: Callable[..., tuple[object, str]], error: BaseException) -> None:
    *_, last = ending(error, stage="train_model_1")[1].splitlines()
    assert last == WAY_BACK


@pytest.mark.parametrize(("stage", "folder"), [(None, "."), ("train_model_1", ".dvc/tmp/exps/a")])
def test_no_way_back_elsewhere(
    ending: Callable[..., tuple[object, str]], stage: str | None, folder: str, tmp_path: Path
) -> None:
    """Not without DVC, and not in the folder of an experiment of its own."""
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    assert WAY_BACK not in ending(UserError("seed is -1"), stage, tmp_path / folder)[1]


@pytest.mark.parametrize(
    "error", [ZeroDivisionError(), ValueError("unexpected"), RuntimeError("could not create a primitive descriptor")]
)
def test_our_mistake_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)):
        exit_cleanly("train", raising(error))


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.2, 0.6, 1.2, 2.0, 3.0])
def test_ctrl_c_at_any_moment(prepared: Path, seconds: float) -> None:
    stage = subprocess.Popen(
        [sys.executable, "-m", "stages.train", "model_1"],
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        cwd=prepared,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(seconds)  # it spends the first seconds on imports
    stage.send_signal(signal.SIGINT)
    _, stderr = stage.communicate(timeout=300)
    assert stage.returncode in (-signal.SIGINT, 130, 0)
    assert stderr in ("", INTERRUPTED)


def test_background_command_ignores_ctrl_c() -> None:
    done = shell(f"""trap '' INT; '{sys.executable}' -Bc "
import signal
from stages.lib.base.errors import exit_cleanly
exit_cleanly('predict', lambda: print(signal.getsignal(signal.SIGINT).name))" """)
    assert done.stdout == "SIG_IGN\n"


def test_closed_pipe() -> None:
    done = shell(f"""set -o pipefail; '{sys.executable}' -Bc "
from stages.lib.base.errors import exit_cleanly
def main():
    for line in range(100_000): print(line, flush=True)
exit_cleanly('predict', main)" | head -1""")
    assert (done.returncode, done.stdout, done.stderr) == (1, "0\n", "")


@pytest.mark.parametrize(
    ("stage", "closed"),
    [("compare", ">&-"), *(("predict missing.png", closed) for closed in (">&-", "2>&-", ">&- 2>&-"))],
)
def test_closed_stdout_or_stderr(stage: str, closed: str, survived: Callable[[str], None]) -> None:
    """What a stage prints would go into the next file that it opens; what predict prints would be lost."""
    done = shell(f"'{sys.executable}' -Bm stages.{stage} {closed}")
    assert done.returncode == 1
    lines = (done.stdout + done.stderr).splitlines()
    assert ["is closed" in line for line in lines] == ([] if closed == ">&- 2>&-" else [True])
    survived("closed stdout or stderr")


def test_error_cannot_command_the_terminal(ending: Callable[..., tuple[object, str]]) -> None:
    error = OSError(2, "No such file or directory", "a\x1b]0;owned\x07\nb")
    _, line = ending(error)
    assert line == "train: a\ufffd]0;owned\ufffd\ufffdb: No such file or directory\n"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the dynamic linker has other words")
def test_too_little_memory_to_load_torch() -> None:
    done = shell(f"ulimit -v 300000; '{sys.executable}' -Bm stages.train model_0")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("train: out of memory")


SHORT_MEMORY = [
    MemoryError(),
    ImportError("libtorch.so: failed to map segment from shared object"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("unable to mmap 9 bytes from file <train.safetensors>: Cannot allocate memory (12)"),
    RuntimeError("could not create a primitive"),  # oneDNN
    RuntimeError("can't start new thread"),
]


@pytest.mark.parametrize("error", SHORT_MEMORY, ids=str)
@pytest.mark.parametrize("stage", [None, "train_model_1"])
def test_short_memory_is_one_line(
    ending: Callable[..., tuple[object, str]], error: Exception, stage: str | None
) -> None:
    status, said = ending(error, stage)
    assert status == 1
    assert said.startswith("train: out of memory; ")
    assert "Traceback" not in said


@pytest.mark.parametrize("error", SHORT_MEMORY[:2], ids=str)
def test_uncaught_memory_error(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        say_out_of_memory(type(error), error, None)
    assert ended.value.code == 1
    assert "out of memory" in capsys.readouterr().err


def test_uncaught_other_error(capsys: pytest.CaptureFixture[str]) -> None:
    error = ImportError("No module named 'nothing'")
    say_out_of_memory(ImportError, error, None)
    assert capsys.readouterr().err == f"ImportError: {error}\n"


@pytest.mark.parametrize("stage", ["fetch", "prepare", "evaluate", "compare", "confusion"])
def test_stray_argument(workspace: Path, run_stage: RunStage, stage: str) -> None:
    before = sorted(workspace.iterdir())
    done = run_stage(stage, "model_1")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("unrecognized arguments: model_1")
    assert sorted(workspace.iterdir()) == before
