"""Freed memory stays in the process inside of `kept_memory`, and is given back behind it."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from types import SimpleNamespace

import pytest

from sacpo.system import memory as allocator

FAULTS = """
import resource, torch
from sacpo.system.memory import kept_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

usual = faults()
with kept_memory():
    kept = faults()
print(usual, kept)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="the C library is not glibc")
def test_most_pages_are_cleared_once_instead_of_each_time() -> None:
    """64 MiB are 16,384 pages of 4 KiB; what comes behind the block depends on where the heap lies."""
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    usual, kept = map(int, done.stdout.split())
    assert usual > 15 * 2**14
    assert kept < usual / 2


def test_only_the_outermost_block_gives_memory_back(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, ...]] = []
    library = SimpleNamespace(
        mallopt=lambda *option: calls.append(option), malloc_trim=lambda pad: calls.append((pad,))
    )
    monkeypatch.setattr(allocator, "_glibc", lambda: library)
    with allocator.kept_memory():
        with allocator.kept_memory():
            pass
        assert calls == [*allocator.KEEPING.items()]
    assert calls[len(allocator.KEEPING) :] == [*allocator.USUAL.items(), (0,)]


def test_nothing_happens_without_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator, "_glibc", lambda: None)
    with allocator.kept_memory():
        assert allocator._depth == 1
    assert allocator._depth == 0
