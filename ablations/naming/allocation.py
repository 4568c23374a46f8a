"""How the C library hands out memory. The stdlib alone."""

from __future__ import annotations

import ctypes

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3  # of mallopt(3), the GNU C library's malloc.h
KEPT_BYTES, GROWTH_BYTES, LARGEST_BYTES = 256 << 20, 16 << 20, 32 << 20  # the last is the most that mallopt takes


def keep_freed_memory() -> bool:
    """Has the C library keep what tensors free for the next ones; says whether it could.

    By default it gives large blocks back to the system, which zeroes each page again when it is next touched: some
    3,000 page faults and a tenth of the time of a small model's training step. No number changes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not the GNU C library
        return False
    wanted = ((TRIM_THRESHOLD, KEPT_BYTES), (TOP_PAD, GROWTH_BYTES), (MMAP_THRESHOLD, LARGEST_BYTES))
    return all(mallopt(name, value) == 1 for name, value in wanted)
