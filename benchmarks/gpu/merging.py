"""Two checkpoints merged into one on the local disk: seconds and the process's peak memory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu import shapes
from benchmarks.gpu.emit import Clock, emit

LAYERS = (32, 16, 8, 4, 1)
PROBE = 2**29
Q = 0.5


def run(clock: Clock, *, shape: str) -> None:
    """Write two checkpoints as large as disk and time allow, merge them, and say how large they were."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        speed = disk_speed(place) if shape == "7b" else 1e9
        config, gb = _largest(shape, speed, shutil.disk_usage(place).free, clock.left())
        started = time.perf_counter()
        _write(config, place, clock.device)
        written = time.perf_counter() - started
        emit("written", gb=2 * gb, seconds=written, disk_gb_per_s=speed / 1e9, layers=config.num_hidden_layers)
        command = [sys.executable, "-m", "benchmarks.gpu.merging", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=max(clock.left(), 1))
        if done.returncode:
            raise RuntimeError(f"the merge failed: {done.stderr[-300:]}")
        emit("merged", gb=gb, layers=config.num_hidden_layers, **json.loads(done.stdout.splitlines()[-1]))


def disk_speed(place: Path) -> float:
    """Return the bytes a second that a file is written with, flushed to the disk."""
    block = os.urandom(2**24)
    started = time.perf_counter()
    with (place / "probe").open("wb") as file:
        for _ in range(PROBE // len(block)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    seconds = time.perf_counter() - started
    (place / "probe").unlink()
    return PROBE / seconds


def _largest(shape: str, speed: float, free: float, left: float) -> tuple[Any, float]:
    """Return the configuration with as many layers as three checkpoints have room and time for, and its GB."""
    for layers in LAYERS:
        config = shapes.config_of(shape, num_hidden_layers=min(layers, shapes.LLAMAS[shape]["num_hidden_layers"]))
        hidden, ff = config.hidden_size, config.intermediate_size
        weights = config.num_hidden_layers * (4 * hidden**2 + 3 * hidden * ff) + 2 * hidden * config.vocab_size
        size = 2.0 * weights
        if 3.3 * size < free and 3 * size / speed < 0.6 * left:
            break
    return config, size / 1e9


def _write(config: Any, place: Path, device: str) -> None:
    import torch

    model = shapes.build(config, device)
    model.save_pretrained(place / "A")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    model.save_pretrained(place / "B")
    for name in "AB":
        shapes.tokenizer().save_pretrained(place / name)


def main() -> None:
    """Merge the checkpoints A and B of a folder, and print seconds and peak memory as JSON.

    The peak is this program's: `ru_maxrss` would hold that of the process that began it, too.
    """
    from benchmarks.memory import resident
    from sacpo.merge import linear, merge_checkpoints, tabulate

    place = Path(sys.argv[1])
    started = time.perf_counter()
    terms, rows = tabulate([linear([place / "A", place / "B"], [1 - Q, Q])])
    merge_checkpoints(terms, rows, [place / "merged"])
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "peak_gib": resident("VmHWM") / 2**30}))


if __name__ == "__main__":
    main()
