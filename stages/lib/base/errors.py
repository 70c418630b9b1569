"""How a command ends: errors for people are one line on stderr and a non-zero exit status, without a traceback."""

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from stages.lib.base.process import end_with_parent

WAY_BACK = "Mend it and run again, or go back to the last commit and lose all edits: `git checkout . && dvc checkout`"
NO_WAY_BACK = "NO_WAY_BACK"  # environment variable that keeps stages from telling it

CODE, CODE_HERE = Path(__file__).parents[2] / "__init__.py", Path("stages/__init__.py")

OUT_OF_MEMORY = "out of memory; is there a limit (`ulimit -a`)?"
SHORT_MEMORY = (
    "can't allocate memory",  # torch, on the CPU
    "Cannot allocate memory",  # the system
    "out of memory",  # GPUs
    "bad_alloc",  # libraries in C++
    "failed to map segment",  # the dynamic linker
    "can't start new thread",
)


class UserError(ValueError):
    """Something a user can cause and mend. The message names the file, key or value, and what to do now."""


class Outdated(UserError):  # noqa: N818 - the state of a file rather than a mistake
    """A file that a stage writes is missing, damaged or from another run: running the pipeline makes it again."""

    def __init__(self, path: str | Path, what: str = "is missing") -> None:
        super().__init__(f"{path} {what}; run `dvc repro` to make it again")


def exit_cleanly(name: str, main: Callable[[], None]) -> None:
    """Run `main`; turn what a user can cause into one line on stderr that starts with `name`.

    Exits with 1 after a `UserError`, an `OSError` (disk full, no permission) or short memory, with 130 after Ctrl-C.
    Anything else is a mistake of ours, or of an architecture: its traceback comes first. DVC removes the outputs of a
    stage before it runs it: there a line more gives the way back.
    """
    if sys.stdout is None or sys.stderr is None:  # the next file to be opened would get what is printed
        exit_with(f"{name}: standard output or error is closed (`>&-`); `>/dev/null` is for those who want none", 1)
    if CODE_HERE.is_file() and not CODE_HERE.samefile(CODE):  # DVC would record the code here, and verify praise it
        exit_with(f"{name}: Python takes the code in {CODE.parent}, not the one here; unset PYTHONSAFEPATH", status=1)
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if "DVC_STAGE" in os.environ:
        end_with_parent()
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output, `head` say, has left
        sys.stderr.close()
        sys.exit(1)
    except (UserError, OSError) as error:
        exit_with(f"{name}: {one_line(error)}", status=1)
    except KeyboardInterrupt:
        exit_with(f"\n{name}: interrupted; nothing half-written is left behind", status=130)
    except Exception as error:
        if is_out_of_memory(error):
            exit_with(f"{name}: {OUT_OF_MEMORY}", status=1)
        if not dvc_runs_the_project():
            raise
        exit_with(traceback.format_exc().rstrip(), status=1)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether too little memory is behind an error, which may come out of somebody's architecture."""
    said = str(error)
    return (
        isinstance(error, MemoryError)
        or said == "could not create a primitive"  # oneDNN's; with more words it is something else
        or any(words in said for words in SHORT_MEMORY)
    )


def one_line(error: UserError | OSError) -> str:
    """Say what went wrong, and with which file."""
    if isinstance(error, UserError):
        return printable(str(error))
    name = error.filename2 or error.filename  # the second is the target, where a temporary file was moved into place
    where = f"{name}: " if name else ""
    return printable(f"{where}{error.strerror or error}")


def printable(text: str) -> str:
    """Replace what would break the line or command the terminal: names of files, and texts in files, can hold it."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def exit_at_once() -> None:
    """Exit with status 0 at once, without interpreter shutdown (saves 0.5 s with torch).

    For the last line of a script, when every file is closed.
    """
    os._exit(0)


def exit_with(message: str, status: int) -> None:
    """Print `message` on stderr, with the way back where DVC runs the stage in the project itself, and exit."""
    print(message, file=sys.stderr)
    if dvc_runs_the_project():
        print(WAY_BACK, file=sys.stderr)
    sys.exit(status)


def dvc_runs_the_project() -> bool:
    """Tell whether DVC runs this as a stage, in the project itself: not in a copy of it, and not without git."""
    in_a_copy = NO_WAY_BACK in os.environ or ".dvc" in Path.cwd().parts  # of --queue and --temp
    return "DVC_STAGE" in os.environ and Path(".git").exists() and not in_a_copy
