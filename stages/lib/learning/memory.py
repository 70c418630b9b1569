"""Memory: keeping what was freed, and a one-line error when there is not enough."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from stages.lib.base.errors import UserError, is_out_of_memory

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # mallopt(3)


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next allocation, up to a GiB; does nothing on other systems.

    Each step of a training frees what the next one asks for again. By default glibc hands blocks of this size back to
    the system, which fills them with zeros again: some 900 page faults in each step of a small convolutional network,
    a quarter of its time. The results are the same bits.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, 2**30)
        mallopt(M_MMAP_THRESHOLD, 2**25)  # the largest there is


@contextmanager
def enough_memory(remedy: str) -> Iterator[None]:
    """Name a remedy when the block runs out of memory, of the CPU or of the GPU.

    Raises:
        UserError: out of memory. (The kernel's OOM killer cannot be caught.)
    """
    try:
        yield
    except Exception as error:  # torch has no class of its own for the CPU
        if is_out_of_memory(error):
            raise UserError(f"out of memory; {remedy}, unless there is a limit to lift (`ulimit -a`)") from None
        raise
