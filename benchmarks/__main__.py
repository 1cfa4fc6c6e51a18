"""Run benchmarks: `python -m benchmarks [NAME ...]`; without names, all of them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks import merging, preference
from benchmarks.cases import CASES, DATA
from benchmarks.measure import Results, machine

NAMES = (*CASES, "merge")


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--pairs", type=int, default=3, help="how often both sides run, one after the other")
    parser.add_argument("--out", type=Path, help="a file of JSON lines: what it holds is not measured again")
    parser.add_argument("--toy", action="store_true", help="a tiny model and 8 pairs: to see that everything runs")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in NAMES]
    if unknown:
        sys.exit(f"no such benchmark: {unknown[0]}; allowed: {', '.join(NAMES)}")
    names = options.names or NAMES
    if DATA is None and {*names} != {"merge"}:
        sys.exit("set SACPO_DATA to the folder of real data (hh_rlhf/, pku_saferlhf/)")
    print(f"machine: {', '.join(f'{name} {value}' for name, value in machine().items())}")
    results = Results(options.out)
    for name in names:
        print(f"\n{name}", flush=True)
        if name == "merge":
            merging.compare(options.pairs, results)
        else:
            preference.compare(name, options.pairs, results, toy=options.toy)


if __name__ == "__main__":
    main()
