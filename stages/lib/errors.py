"""How a command ends: errors for people are one line on stderr and a non-zero exit status, without a traceback."""

import os
import sys
from collections.abc import Callable


class UserError(ValueError):
    """Something a user can cause and mend. The message names the file, key or value, and the remedy."""


def exit_cleanly(name: str, main: Callable[[], None]) -> None:
    """Run `main`; turn what a user can cause into one line on stderr that starts with `name`.

    Exits with 1 after a `UserError` or an `OSError` (disk full, no permission), and with 130 after Ctrl-C.
    Anything else is a mistake of ours and keeps its traceback.
    """
    try:
        main()
        sys.stdout.flush()
    except UserError as error:
        sys.exit(f"{name}: {error}")
    except BrokenPipeError:  # the reader of our output, `head` say, has left
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(f"{name}: {where}{error.strerror or error}")
    except KeyboardInterrupt:
        print(f"\n{name}: interrupted; nothing half-written is left behind", file=sys.stderr)
        sys.exit(130)


def end_at_once() -> None:
    """End this process well, and let the system clean up: torch takes half a second to take itself down.

    For the last line of a script, when every file is closed.
    """
    os._exit(0)
