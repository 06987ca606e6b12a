"""How a process with many threads and large, short-lived arrays gives memory back."""

from __future__ import annotations

import ctypes

_ARENAS, _MAPPED_FROM, _TRIMMED_FROM = -8, -3, -1  # M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD of malloc.h
_MIB = 1 << 20


def give_back() -> None:
    """Let glibc's malloc return what is freed to the system; elsewhere nothing is changed.

    It gives each thread an arena and keeps in them whatever lay between two things still in use: fifty open pages held
    three times the memory in use, and more every quarter of an hour. Two arenas are enough for threads that wait for
    one interpreter, and arrays that are mapped by themselves leave no holes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_ARENAS, 2)
        mallopt(_MAPPED_FROM, _MIB // 4)
        mallopt(_TRIMMED_FROM, 4 * _MIB)
