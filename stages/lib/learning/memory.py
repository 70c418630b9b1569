"""Memory: keeping what was freed, and saying so when there is not enough."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from stages.lib.base.errors import UserError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # mallopt(3)
OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "bad_alloc")  # of the CPU, of GPUs, of libraries


def keep_freed_memory() -> None:
    """Let glibc keep what is freed for the next to ask, up to a GiB; elsewhere nothing happens.

    Each step of a training frees what the next one asks for again. By default glibc hands blocks of this size back to
    the system and the system fills them with zeros anew: some 900 page faults in each step of a small convolutional
    network, a quarter of its time. The results are the same bits.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, 2**30)
        mallopt(M_MMAP_THRESHOLD, 2**25)  # the largest there is


@contextmanager
def enough_memory(remedy: str) -> Iterator[None]:
    """Name a remedy where the block runs out of the memory of the CPU or the GPU.

    Raises:
        UserError: it did. What the system ends with SIGKILL never comes here.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch has no class of its own for the CPU
        if isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY):
            raise UserError(f"memory is short; {remedy}") from None
        raise
