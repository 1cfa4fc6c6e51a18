"""Paired measurements: both sides run one after the other, each in a process of its own, several times."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from statistics import median
from typing import Any


def run_side(module: str, *arguments: str) -> dict[str, Any]:
    """Run `python -m MODULE ARGUMENTS...` and return the JSON on its last line of output.

    Raises:
        RuntimeError: The process failed.
    """
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{module} {' '.join(arguments)} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Say the ratio of paired rates: its median and its ends."""
    found = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    return f"ratio {median(found):.2f} ({found[0]:.2f} to {found[-1]:.2f}, {len(found)} pairs)"
