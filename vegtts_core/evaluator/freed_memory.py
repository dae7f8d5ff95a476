"""Freed memory stays with this process while an evaluator runs.

Draws, answers and float64 copies are tensors of many megabytes that come and go all the time. Fresh pages for each of
them cost as much as what is computed in them; the processes that are timed are spared that too (`warm_process`).
"""

from __future__ import annotations

import ctypes

# malloc.h of glibc
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
#: The number of mappings that glibc starts with, and the thresholds that its own adaptation ends at.
_MMAP_MAX, _MMAP_THRESHOLD = 65536, 32 << 20

_libc = ctypes.CDLL(None)


def keep() -> None:
    """From now on. Does nothing under a C library that has no such setting."""
    if hasattr(_libc, "mallopt"):
        _libc.mallopt(_M_MMAP_MAX, 0)
        _libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def give_back() -> None:
    """Return it to the system, and what is freed from now on."""
    if hasattr(_libc, "mallopt"):
        _libc.mallopt(_M_MMAP_MAX, _MMAP_MAX)
        _libc.mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD)
        _libc.mallopt(_M_TRIM_THRESHOLD, 2 * _MMAP_THRESHOLD)
        _libc.malloc_trim(0)
