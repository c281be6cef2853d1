"""The server's memory: what a large run took for a moment goes back to the system."""

from __future__ import annotations

import ctypes

_MMAP_THRESHOLD = -3  # of glibc's mallopt
_LARGE = 2**20  # bytes


def give_memory_back() -> None:
    """Has the C library hand large blocks back as soon as they are freed, for all of this process; glibc only.

    By itself glibc learns from the first large arrays to keep such blocks in its heaps, of which each thread of the
    server has another one: twenty reloads of a large run made 550 MB of 390.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return
    mallopt(_MMAP_THRESHOLD, _LARGE)
