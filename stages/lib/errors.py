"""How a command ends: errors for people are one line on stderr and a non-zero exit status, without a traceback."""

import os
import signal
import sys
from collections.abc import Callable


class UserError(ValueError):
    """Something a user can cause and mend. The message names the file, key or value, and the remedy."""


def exit_cleanly(name: str, main: Callable[[], None]) -> None:
    """Run `main`; turn what a user can cause into one line on stderr that starts with `name`.

    Exits with 1 after a `UserError` or an `OSError` (disk full, no permission), and with 130 after Ctrl-C.
    Anything else is a mistake of ours and keeps its traceback.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output, `head` say, has left
        sys.stderr.close()
        sys.exit(1)
    except (UserError, OSError) as error:
        sys.exit(f"{name}: {one_line(error)}")
    except KeyboardInterrupt:
        print(f"\n{name}: interrupted; nothing half-written is left behind", file=sys.stderr)
        sys.exit(130)


def one_line(error: UserError | OSError) -> str:
    """What went wrong, and with which file."""
    if isinstance(error, UserError):
        return str(error)
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def end_at_once() -> None:
    """End this process well, and let the system clean up: torch takes half a second to take itself down.

    For the last line of a script, when every file is closed.
    """
    os._exit(0)
