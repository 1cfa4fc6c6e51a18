"""bf16 on a CPU that has no bf16 arithmetic: found out by a timed product, and replaced by float32.

Such a CPU converts each number on its way: matrix products take several times as long as in float32, and hundreds of
times where nothing is vectorised. float32 is at least as exact, so nothing but memory is lost.
"""

from __future__ import annotations

import time
import warnings
from functools import cache

import torch

SLOWER = 2.5
"""With bf16 arithmetic a product takes .1 to 1.5 times the time of float32, without 5 to hundreds."""
SIZE, TIMES = 256, 10
REPLACED = "float32, not bf16: this CPU has no bf16 arithmetic"
"""What the summary of a training says; without the time, which no result holds."""


class PrecisionWarning(UserWarning):
    """Something is computed in another number type than was asked for."""


def without_bfloat16(device: str | torch.device) -> bool:
    """Tell whether a device is a CPU on which bf16 is slower than float32 by more than `SLOWER`."""
    return torch.device(device).type == "cpu" and slowdown() > SLOWER


@cache
def slowdown() -> float:
    """Return how many times as long as in float32 a matrix product takes in bf16 on this CPU.

    It is timed once, with one thread: several wait for each other on a busy machine, longer than a product takes.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return seconds(torch.bfloat16) / seconds(torch.float32)
    finally:
        torch.set_num_threads(threads)


def seconds(dtype: torch.dtype) -> float:
    """Return the shortest time of a few products of square matrices."""
    ones = torch.ones((SIZE, SIZE), dtype=dtype)
    taken = []
    for _ in range(TIMES + 1):  # the first one is also the warm-up
        start = time.perf_counter()
        torch.nn.functional.linear(ones, ones)
        taken.append(time.perf_counter() - start)
    return min(taken)


def warn() -> None:
    """Say that float32 takes the place of bf16; a program says it once."""
    said = f"{REPLACED} (a matrix product takes {slowdown():.0f} times as long in bf16)"
    warnings.warn(said, PrecisionWarning, stacklevel=2)


def in_float32(model: torch.nn.Module) -> torch.nn.Module:
    """Return a bf16 model with its weights as float32; its configuration keeps the type that was asked for."""
    warn()
    return model.float()


def replaced(model: torch.nn.Module) -> bool:
    """Tell whether a model was asked for in bf16 and has float32 weights."""
    asked = getattr(getattr(model, "config", None), "dtype", None)
    return asked == torch.bfloat16 and next(model.parameters()).dtype == torch.float32
