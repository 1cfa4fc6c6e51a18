"""Run benchmarks: `python -m benchmarks [NAME ...]`; without names, all of them."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable

import torch

from benchmarks import merging, preference

BENCHMARKS: dict[str, Callable[[int], None]] = {
    "dpo-hh": lambda pairs: preference.compare("hh", "defaults", pairs),
    "dpo-hh-tuned": lambda pairs: preference.compare("hh", "tuned", pairs),
    "dpo-pku": lambda pairs: preference.compare("pku", "defaults", pairs),
    "dpo-pku-tuned": lambda pairs: preference.compare("pku", "tuned", pairs),
    "dpo-hh-bf16": lambda pairs: preference.compare("hh", "defaults", pairs, bf16=True),
    "dpo-hh-tuned-bf16": lambda pairs: preference.compare("hh", "tuned", pairs, bf16=True),
    "merge": merging.compare,
}


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--pairs", type=int, default=3, help="how often both sides run, one after the other")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        sys.exit(f"no such benchmark: {unknown[0]}; allowed: {', '.join(BENCHMARKS)}")
    if preference.DATA is None:
        sys.exit("set SACPO_DATA to the folder of real data (hh_rlhf/, pku_saferlhf/)")
    cores = len(os.sched_getaffinity(0))
    print(
        f"machine: {platform.machine()}, {cores} cores, torch {torch.__version__}, python {platform.python_version()}"
    )
    for name in options.names or BENCHMARKS:
        print(f"\n{name}", flush=True)
        BENCHMARKS[name](options.pairs)


main()
