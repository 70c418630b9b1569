"""CPUs that a training has to share with other programs.

Threads wait for each other many times in each step. Where another program holds one of their CPUs, all of them wait:
two threads then take up to ten times as long as one alone.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer

MOST_LOAD = 1.5  # beyond the CPUs there are: the stages before, and what set up the project, were a load too
PACE_SECONDS = 3  # some hundred steps of a small convolutional network
CROWDED = 0.7  # of the CPU time that the threads could have: alone they get above 0.9, beside a busy program about 0.5


@contextmanager
def watched_pace(name: str, threads: int) -> Iterator[None]:
    """Say on stderr that the training `name` has to share its CPUs: before it starts, and once it shows in its pace."""
    if threads < 2:
        yield
        return
    if is_busy(threads):
        _warn(name, f"this machine has been busy (load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} CPUs)")
    start, cpu_start = time.perf_counter(), time.process_time()

    def check() -> None:
        if is_crowded(time.process_time() - cpu_start, time.perf_counter() - start, threads):
            _warn(name, f"its {threads} threads have to share their CPUs with other programs")

    timer = Timer(PACE_SECONDS, check)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def is_busy(threads: int) -> bool:
    """Tell whether other programs left too few CPUs for `threads` in the last minute; False where nobody can tell."""
    return hasattr(os, "getloadavg") and os.getloadavg()[0] + threads > (os.cpu_count() or 1) + MOST_LOAD


def is_crowded(cpu_seconds: float, seconds: float, threads: int) -> bool:
    """Tell whether `threads` got much less CPU time in `seconds` than they could have had."""
    return cpu_seconds < CROWDED * threads * seconds


def _warn(name: str, why: str) -> None:
    print(f"train: warning: {name}: {why}; on a busy machine {name}.threads: 1 is faster", file=sys.stderr)
