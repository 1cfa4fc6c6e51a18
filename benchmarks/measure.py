"""Paired measurements: both sides run one after the other, each in a process of its own, several times."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
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


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    import torch

    cpu = platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        cpu = next((line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line), cpu)
    return {"cpu": cpu, "cores": len(os.sched_getaffinity(0)), "torch": torch.__version__}


class Results:
    """Finished pairs of runs, in memory and, where a file is given, one JSON line each, so that a bench can go on.

    Args:
        path: The file; what it holds already is not measured again.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path is not None and path.is_file() else []
        self.lines: list[dict[str, Any]] = [json.loads(line) for line in lines]

    def of(self, key: str) -> list[dict[str, Any]]:
        """Return the pairs of a case, in order."""
        return [line for line in self.lines if line["key"] == key]

    def add(self, line: dict[str, Any]) -> None:
        """Keep one pair; a line is written at once."""
        self.lines.append(line)
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
