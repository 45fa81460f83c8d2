"""Memory that a training on the CPU would give back and ask for again in every step stays with the process.

The allocator of glibc hands large blocks back to the system when they are freed; the next step gets them anew, page
by page, each emptied by the kernel. How much of this happens follows from the order of the first allocations, and
so differs from one start of the same training to the next by a tenth of its time and more (docs/benchmarks.md, What
the parts cost in training). Kept blocks change no number.
"""

from __future__ import annotations

import ctypes
import os
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
LARGEST_BLOCK = 32 << 20  # bytes; glibc takes no higher threshold (HEAP_MAX_SIZE / 2)
NEVER = (1 << 31) - 1


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed memory for the next step; whether it does.

    Nothing is changed on other systems, and where the user has chosen by `MALLOC_*` or `GLIBC_TUNABLES`.
    """
    chosen = any(name.startswith("MALLOC_") for name in os.environ) or "glibc.malloc" in os.environ.get(
        "GLIBC_TUNABLES", ""
    )
    if chosen or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_BLOCK) and mallopt(M_TRIM_THRESHOLD, NEVER))
