"""One command for one GPU: what works, how fast it is beside TRL, and how much memory it takes.

Every line is shown as it comes and kept as JSON in a file, the most important first; what is cut off loses no other.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.gpu import lines, wheels
from benchmarks.gpu.plan import SECTIONS, SPARE, budgets, chosen
from benchmarks.gpu.runner import Runner

DEADLINE = 540.0


def main() -> None:
    """Parse the command line and run."""
    until = time.time()  # what is installed first takes of the seconds, too
    options = _options()
    until += options.deadline
    if options.pack:
        found = wheels.pack(options.pack, large=options.large)
        size = sum(path.stat().st_size for path in found) / 2**20
        print(f"{len(found)} wheels, {size:.1f} MiB in {options.pack}")
        return
    if options.table:
        print(lines.table(lines.read(options.table)))
        return
    try:
        sections = chosen(options.names, small=options.toy)
    except ValueError as error:
        sys.exit(str(error))
    with tempfile.TemporaryDirectory() as folder:
        if options.wheels:
            installed, absent = wheels.install(options.wheels, Path(folder) / "site")
            print(f"installed for this run: {', '.join(installed) or 'nothing'}; no wheel: {absent}", flush=True)
        runner = Runner(options.out, until - time.time(), options.device, Path(folder), small=options.toy)
        runner.tell("plan", "", {"part": "plan", "budgets": budgets(sections), "left": until - time.time()})
        runner.run(sections)
    print("\n" + lines.table(lines.read(options.out)), flush=True)


def _options() -> argparse.Namespace:
    names = ", ".join(section.name for section in (*SECTIONS, *SPARE))
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="SECTION", help=f"without names all but the last: {names}")
    out = Path(os.environ.get("OUT", ".")) / "gpu.jsonl"
    parser.add_argument("--out", type=Path, default=out, help="the file of JSON lines ($OUT/gpu.jsonl)")
    parser.add_argument("--deadline", type=float, default=DEADLINE, help="seconds for everything")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--toy", action="store_true", help="models of 64 columns: to see that everything runs")
    parser.add_argument("--wheels", type=Path, help="a folder of wheels, for packages that are missing")
    parser.add_argument("--pack", type=Path, metavar="FOLDER", help="download such wheels, and stop")
    parser.add_argument("--large", action="store_true", help="with --pack: pyarrow, too")
    parser.add_argument("--table", type=Path, metavar="FILE", help="show a run's file as Markdown, and stop")
    return parser.parse_args()


if __name__ == "__main__":
    main()
