"""The process itself: when it started, and ending when the process that started it ends."""

import os
import signal
import time
from contextlib import suppress
from threading import Thread

STARTED_NS = time.time_ns()  # stages/__init__.py imports this before any library: some milliseconds late at most
LOOK_SECONDS = 1.0  # between two looks at the parent


def cpus() -> int:
    """Return how many CPUs this process may use: perhaps not all there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def end_with_parent() -> None:
    """Interrupt this process, as Ctrl-C does, when the process that started it is gone.

    DVC killed outright would leave its stage running, to write its outputs into the middle of the next run.
    """
    import psutil

    child = psutil.Process()
    with suppress(psutil.Error):  # a process that may not be looked at
        while (parent := child.parent()) and parent.cmdline()[-2:-1] == ["-c"]:  # a shell, as dash, that outlives DVC
            child = parent
    parent_id = child.ppid()

    def watch() -> None:
        with suppress(psutil.NoSuchProcess):
            while child.ppid() == parent_id:
                time.sleep(LOOK_SECONDS)
        os.kill(os.getpid(), signal.SIGINT)

    Thread(target=watch, daemon=True).start()
