"""The environment in which golden work is done, and what is written down about the machine and its libraries.

Floating point depends on the kernels that a CPU is given. `PINNED` asks every library for one kernel set that all
x86-64 CPUs have. Seen so far: the same bits on an AMD CPU with AVX-512, and on emulated
Intel CPUs without AVX and with AVX2.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import sacpo

LIBRARIES = (
    *("torch", "transformers", "accelerate", "peft", "datasets", "tokenizers"),
    *("safetensors", "numpy", "scipy", "matplotlib", "jinja2", "openai"),
)
PINNED = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # torch's own kernels, the drawing of weights too, and its matrix products: without one of these results move
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
    # numpy's and scipy's linear algebra and loops: statistics and theory move without one of these
    "OPENBLAS_CORETYPE": "Nehalem",
    "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
    # the C library's exp and log have other last bits with FMA; no golden result is known to show it, nor oneDNN's
    "DNNL_MAX_CPU_ISA": "SSE41",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4,-AVX512F,-AVX512VL,-AVX512BW,-AVX512DQ",
}
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "CUDA_VISIBLE_DEVICES": "",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "PYTHONWARNINGS": "ignore",
}
LIMIT = 900.0
"""Seconds after which the work is taken for stuck."""
KEPT = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV")


def environment() -> dict[str, str]:
    """Return the whole environment of golden work: nothing else is passed on, and `sacpo` is the one imported here."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    source = str(Path(sacpo.__file__).parents[1])
    return {**kept, **QUIET, **PINNED, "PYTHONPATH": source}


def versions() -> dict[str, str]:
    """Return the versions on which results may depend; the package's own is not among them."""
    return {"python": ".".join(platform.python_version_tuple()[:2]), **{name: version(name) for name in LIBRARIES}}


def machine() -> dict[str, Any]:
    """Return what is known of the CPU and the C library."""
    return {"system": sys.platform, "machine": platform.machine(), "libc": "-".join(platform.libc_ver()), **_cpu()}


def _cpu() -> dict[str, Any]:
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return {"vendor": "", "family": "", "model": "", "flags": []}
    lines = path.read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    found = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    flags = [flag for flag in sorted(found.get("flags", "").split()) if flag.startswith(("avx", "amx", "fma", "sse4"))]
    return {
        "vendor": found.get("vendor_id", ""),
        "family": found.get("cpu family", ""),
        "model": found.get("model", ""),
        "flags": flags,
    }


def do_work(folder: Path) -> None:
    """Do all golden work in a process of its own, which alone can be given this environment."""
    line = [sys.executable, str(Path(__file__).with_name("golden_work.py")), str(folder)]
    done = subprocess.run(line, env=environment(), capture_output=True, text=True, timeout=LIMIT, check=False)
    if done.returncode:
        raise RuntimeError(f"the golden work failed\n{done.stderr[-4000:]}")
