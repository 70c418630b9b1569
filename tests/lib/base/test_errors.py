"""What a user sees when a command fails."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from stages.lib.base.errors import UserError, exit_cleanly

PROJECT = Path(__file__).parents[2]


def raising(error: BaseException) -> Callable[[], None]:
    def main() -> None:
        raise error

    return main


def test_a_command_that_succeeds_simply_returns() -> None:
    exit_cleanly("prepare", lambda: None)


def test_a_users_error_is_a_value_error() -> None:
    assert issubclass(UserError, ValueError)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("seed is -1; it must be from 0"), "train: seed is -1; it must be from 0"),
        (OSError(28, "No space left on device", "models/model_0"), "train: models/model_0: No space left on device"),
        (PermissionError(13, "Permission denied", "data"), "train: data: Permission denied"),
        (OSError(28, "No space left on device"), "train: No space left on device"),
        (OSError("the disk is gone"), "train: the disk is gone"),
    ],
)
def test_what_a_user_can_cause_ends_in_one_line(error: Exception, line: str) -> None:
    with pytest.raises(SystemExit) as ended:
        exit_cleanly("train", raising(error))
    assert ended.value.code == line  # which Python prints on stderr, exiting with 1


def test_a_mistake_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        exit_cleanly("train", raising(ZeroDivisionError()))


def test_a_plain_value_error_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="unexpected"):
        exit_cleanly("train", raising(ValueError("unexpected")))


def test_ctrl_c_exits_with_130_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        exit_cleanly("train", raising(KeyboardInterrupt()))
    assert ended.value.code == 130
    out, err = capsys.readouterr()
    assert (out, err) == ("", "\ntrain: interrupted; nothing half-written is left behind\n")


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.2, 0.4, 0.7, 1.0, 1.4, 1.8, 2.3, 3.0])
def test_ctrl_c_at_any_moment_of_a_stage_shows_no_traceback(prepared: Path, seconds: float) -> None:
    stage = subprocess.Popen(
        [sys.executable, "-m", "stages.train", "model_1"],
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        cwd=prepared,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(seconds)  # it spends the first seconds on imports
    stage.send_signal(signal.SIGINT)
    _, stderr = stage.communicate(timeout=60)
    assert stage.returncode in (-signal.SIGINT, 130, 0)
    assert stderr in ("", "\ntrain: interrupted; nothing half-written is left behind\n")


def test_a_command_in_the_background_goes_on_ignoring_ctrl_c() -> None:
    done = run(f"""trap '' INT; {sys.executable} -Bc "
import signal
from stages.lib.base.errors import exit_cleanly
exit_cleanly('predict', lambda: print(signal.getsignal(signal.SIGINT).name))" """)
    assert done.stdout == "SIG_IGN\n"


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", code], cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False)


def test_a_failing_command_exits_with_1_one_line_and_no_traceback() -> None:
    python = f"{sys.executable} -Bc"
    done = run(f"""{python} "
from stages.lib.base.errors import UserError, exit_cleanly
def main(): raise UserError('no such model')
exit_cleanly('train', main)" """)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "train: no such model\n")


def test_a_reader_that_leaves_early_causes_no_traceback() -> None:
    python = f"{sys.executable} -Bc"
    done = run(f"""set -o pipefail; {python} "
from stages.lib.base.errors import exit_cleanly
def main():
    for line in range(100_000): print(line, flush=True)
exit_cleanly('predict', main)" | head -1""")
    assert (done.returncode, done.stdout, done.stderr) == (1, "0\n", "")


@pytest.mark.parametrize("stage", ["fetch", "prepare", "confusion", "run", "verify"])
def test_a_command_that_takes_no_arguments_refuses_them_before_any_work(
    workspace: Path, run_stage: Callable[..., CompletedProcess[str]], stage: str
) -> None:
    done = run_stage(stage, "model_1")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"python -m stages.{stage}: error: unrecognized arguments: model_1"
    assert [path.name for path in workspace.iterdir()] == ["params.yaml"]
