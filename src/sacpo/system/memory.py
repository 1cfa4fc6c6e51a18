"""Keeping freed memory between the steps of a training on a CPU."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from functools import cache
from typing import Any

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, MMAP_MAX = -1, -2, -3, -4  # glibc's malloc.h
KEEPING = {MMAP_MAX: 0, TRIM_THRESHOLD: 2**31 - 1, TOP_PAD: 2**26}
USUAL = {MMAP_MAX: 65536, MMAP_THRESHOLD: 2**25, TRIM_THRESHOLD: 2**26, TOP_PAD: 2**17}
"""Where glibc's own thresholds end in a process that has freed large blocks."""

_depth = 0


@contextlib.contextmanager
def kept_memory() -> Iterator[None]:
    """Keep freed memory in the process instead of giving it back to the system, until the outermost block ends.

    A step frees what the next one allocates. glibc gives large blocks back at once, and the system then clears each of
    their pages anew: about 8 % of a DPO training on a CPU. The peak stays what it was. Without glibc nothing happens.
    """
    global _depth
    _depth += 1
    if _depth == 1:
        _set(KEEPING)
    try:
        yield
    finally:
        _depth -= 1
        if _depth == 0:
            _set(USUAL)
            if (library := _glibc()) is not None:
                library.malloc_trim(0)


def _set(options: dict[int, int]) -> None:
    if (library := _glibc()) is not None:
        for option, value in options.items():
            library.mallopt(option, value)


@cache
def _glibc() -> Any:
    """Return the process's C library if its allocator takes these options."""
    try:
        library = ctypes.CDLL(None)
        return library if hasattr(library, "gnu_get_libc_version") and hasattr(library, "mallopt") else None
    except (OSError, TypeError):
        return None
