"""Keeps the C library's allocator from giving memory back while something is timed."""

from __future__ import annotations

import ctypes
import sys

# Parameters of mallopt, from malloc.h.
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3

LARGEST = 2**30  # bytes


def keep_freed_memory() -> bool:
    """Let later allocations reuse what was freed; False where that is not possible.

    glibc gives large buffers back to the system at some calls and not at others. The
    next one is mapped anew, a page fault for each of its pages: that can take longer
    than what is computed, and hits one implementation by the size of its buffers.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    parameters = (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD)
    return all(mallopt(one, LARGEST) == 1 for one in parameters)
