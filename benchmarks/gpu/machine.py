"""The machine: card, memory, versions, what is missing, and how fast it multiplies matrices."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from importlib import metadata
from statistics import median
from typing import Any

from benchmarks.gpu.emit import Clock, emit

LOOKED_FOR = (
    "trl",
    "peft",
    "accelerate",
    "datasets",
    "safetensors",
    "pydantic",
    "typer",
    "bitsandbytes",
    "vllm",
    "triton",
)
AT_ONCE = 4
SIDE = {"cuda": 8192, "cpu": 256}


def describe(clock: Clock) -> None:
    """Tell the environment, then the rates."""
    import torch

    emit("environment", **environment(clock.device))
    side = SIDE[clock.device]
    bf16_rate(clock)
    for kind, precision in (("fp32", "highest"), ("tf32", "high")):
        torch.set_float32_matmul_precision(precision)
        emit("matmul", side=side, kind=kind, tflops=rate(clock, side, torch.float32))
    torch.set_float32_matmul_precision("highest")
    emit("copy", gb_per_s=copy_rate(clock))


def bf16_rate(clock: Clock) -> float:
    """Tell and return the TFLOP/s of matrix products in bfloat16."""
    import torch

    found = rate(clock, SIDE[clock.device], torch.bfloat16)
    emit("matmul", side=SIDE[clock.device], kind="bf16", tflops=found)
    return found


def environment(device: str) -> dict[str, Any]:
    """Return what the figures depend on."""
    import torch

    packages = {name: _version(name) for name in LOOKED_FOR if importlib.util.find_spec(name) is not None}
    found: dict[str, Any] = {
        "card": _cpu_name(),
        "memory_gb": 0.0,
        "driver": "none",
        "torch": torch.__version__,
        "cuda": torch.version.cuda or "none",
        "transformers": _version("transformers"),
        "cores": len(os.sched_getaffinity(0)),
        "compiler": next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), "none"),
        "packages": packages,
        "missing": [name for name in LOOKED_FOR if name not in packages],
    }
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        found |= {"card": properties.name, "memory_gb": properties.total_memory / 1e9, "driver": _driver()}
    return found


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "unknown"


def _cpu_name() -> str:
    from benchmarks.measure import machine

    return f"{machine()['cpu']} (CPU)"


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip().splitlines()[0] if done.stdout.strip() else "unknown"


def rate(clock: Clock, side: int, dtype: Any, repeats: int = 10) -> float:
    """Return the TFLOP/s of a square matrix product on random data: the median of a few at a time."""
    import torch

    a, b = (torch.randn(side, side, device=clock.device).to(dtype) for _ in range(2))
    for _ in range(3):
        a @ b
    times = []
    for _ in range(repeats):
        started = clock.now()
        for _ in range(AT_ONCE):
            a @ b
        times.append((clock.now() - started) / AT_ONCE)
    return 2 * side**3 / median(times) / 1e12


def copy_rate(clock: Clock) -> float:
    """Return the GB/s of a copy within the device's memory, bytes read and written."""
    import torch

    n = 2**30 if clock.device == "cuda" else 2**22
    source = torch.randn(n // 4, device=clock.device)
    target = torch.empty_like(source)
    times = []
    for _ in range(8):
        started = clock.now()
        target.copy_(source)
        times.append(clock.now() - started)
    return 2 * n / median(times[3:]) / 1e9
