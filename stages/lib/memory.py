"""What the C library does with memory that is given back."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # mallopt(3)


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
