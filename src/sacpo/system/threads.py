"""How threads wait for each other, which their libraries read once, when numpy and torch are loaded."""

from __future__ import annotations

import os

SPINS, OPENBLAS_CYCLES = "5000", "15"
"""How long waiting threads spin: so many rounds, and 2 to this power of clock cycles; each about 10 microseconds."""


def let_threads_sleep() -> None:
    """Let threads that wait for each other fall asleep soon, unless the user says otherwise.

    Their libraries' default is to spin for milliseconds: beside other work, a spinning thread holds the core that the
    awaited one needs, and the threads of numpy's and of scipy's OpenBLAS hold each other's. But to be woken costs more
    than most small operations take, so a few microseconds are waited out.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # of GNU's OpenMP, which torch brings along on Linux
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", OPENBLAS_CYCLES)
