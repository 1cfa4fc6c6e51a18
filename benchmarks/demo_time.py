"""Where a recipe's time goes: CPU seconds and wall time of each kind of stage, beside the machine's fp32 matmul rate.

    python -m benchmarks.demo_time OUT.jsonl [--recipe recipes/demo.yaml] [--jobs] [--runs RUNS]
    python -m benchmarks.demo_time --table BEFORE.jsonl AFTER.jsonl
    python -m benchmarks.demo_time --of RUN [RUN ...]

The first form does every stage of the recipe in this process, with one thread (so that waiting threads cost nothing),
and writes a line for each stage and one for the whole. `--jobs` does trainings that do not wait for each other as two
processes at once, and counts them. The second form prints a Markdown table. Since machines differ, a kind's CPU seconds
are also told as work: seconds times the GFLOP/s of matrix products of 256 by 256 that one core of this machine does in
the same run, before and after. The third form prints the wall time of finished runs by what their stages noted.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.measure import machine

SIZE, SECONDS = 256, 1.0
KINDS = {
    "sft": "SFT",
    "pairs": "pairs: answers and labels",
    "align": "training of the steps",
    "generate": "answers",
    "judge": "judging",
    "kl": "KL: samples and scores",
    "measure": "measuring",
    "plan": "forecasts for beta and q",
    "certify": "the certificate's plan and bounds",
    "theory": "theory: exact optimum beside the models",
    "report": "report",
}
OTHER = "data, prompts, search, selection, the chosen model"
OUTSIDE = "between stages: planning, hashing, jobs"


def rate() -> float:
    """Return the GFLOP a CPU second of fp32 matrix products on one thread."""
    import torch

    a, b = torch.randn(SIZE, SIZE), torch.randn(SIZE, SIZE)
    n, started = 0, time.process_time()
    while time.process_time() - started < SECONDS:
        a @ b
        n += 1
    return 2 * SIZE**3 * n / (time.process_time() - started) / 1e9


def used() -> tuple[float, float]:
    """Return the CPU seconds of this process and its finished children so far, and the time of day."""
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    found = [resource.getrusage(who) for who in whose]
    return sum(usage.ru_utime + usage.ru_stime for usage in found), time.perf_counter()


def measure(recipe: Path, runs: Path, jobs: bool) -> list[dict[str, Any]]:
    """Do a recipe; return a line for each stage, one for what lies between, and the machine's."""
    import torch

    from sacpo.pipeline.jobs import Jobs
    from sacpo.pipeline.run import run
    from sacpo.recipe.load import load_recipe
    from sacpo.system.progress import Progress

    torch.set_num_threads(1)
    first = rate()
    lines: list[dict[str, Any]] = []
    begun: list[tuple[float, float]] = []

    class Watch(Progress):
        def stage(self, name: str, state: str) -> None:
            if state in ("start", "resume"):
                begun[:] = [used()]
            elif state == "done" and begun:
                now, (cpu, wall) = used(), begun.pop()
                lines.append({"stage": name, "cpu": now[0] - cpu, "wall": now[1] - wall})

    start = used()
    run(load_recipe(recipe), runs=runs, jobs=Jobs("local", at_once=2) if jobs else None, progress=Watch())
    cpu, wall = (now - then for now, then in zip(used(), start, strict=True))
    rates = [first, rate()]
    whole = {"stage": None, "cpu": cpu, "wall": wall, "gflops": sum(rates) / 2, "rates": rates, "jobs": jobs}
    return [*lines, {**whole, "machine": machine()}]


def kinds(lines: Iterable[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """Return the CPU seconds and wall time of each kind of stage, and of what lies between."""
    found = dict.fromkeys([*KINDS.values(), OTHER], (0.0, 0.0))
    whole = (0.0, 0.0)
    for line in lines:
        if line["stage"] is None:
            whole = (line["cpu"], line["wall"])
            continue
        kind = KINDS.get(line["stage"].split("/")[0], OTHER)
        found[kind] = (found[kind][0] + line["cpu"], found[kind][1] + line["wall"])
    known = [sum(place) for place in zip(*found.values(), strict=True)]
    return {**found, OUTSIDE: (whole[0] - known[0], whole[1] - known[1]), "all": whole}


def noted(runs: list[Path]) -> str:
    """Return the wall time of finished runs, kind by kind, by their stages' manifests."""
    sides = []
    for run in runs:
        notes = [json.loads(file.read_text(encoding="utf-8")) for file in (run / "stages").rglob("manifest.json")]
        lines = [{"stage": note["stage"], "cpu": 0.0, "wall": note["seconds"]} for note in notes if "seconds" in note]
        whole = {"stage": None, "cpu": 0.0, "wall": sum(line["wall"] for line in lines)}
        sides.append(kinds([*lines, whole]))
    rows = ["| stages |" + " seconds |" * len(runs), "|---|" + "---|" * len(runs)]
    told = [kind for kind in sides[0] if kind != OUTSIDE]
    return "\n".join([*rows, *(f"| {kind} |" + "".join(f" {side[kind][1]:.1f} |" for side in sides) for kind in told)])


def table(files: list[Path]) -> str:
    """Return the kinds of one or several runs side by side."""
    runs = [[json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] for file in files]
    rates = [lines[-1]["gflops"] for lines in runs]
    sides = [kinds(lines) for lines in runs]
    head = "".join(f" {file.stem}: CPU s | work, TFLOP |" for file in files)
    rows = [f"| stages |{head}", "|---|" + "---|---|" * len(files)]
    for kind in sides[0]:
        cells = "".join(
            f" {side[kind][0]:.1f} | {side[kind][0] * speed / 1e3:.2f} |"
            for side, speed in zip(sides, rates, strict=True)
        )
        rows.append(f"| {kind} |{cells}")
    told = [
        f"{file.stem}: {lines[-1]['wall']:.0f} s of wall time, {lines[-1]['gflops']:.0f} GFLOP/s a core"
        f" ({min(lines[-1]['rates']):.0f} to {max(lines[-1]['rates']):.0f}), {lines[-1]['machine']['cpu']}"
        for file, lines in zip(files, runs, strict=True)
    ]
    return "\n".join([*rows, "", *told])


def main() -> None:
    """Measure, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--of", action="store_true", help="the files are folders of finished runs")
    parser.add_argument("--recipe", type=Path, default=Path("recipes/demo.yaml"))
    parser.add_argument("--runs", type=Path, help="where the run is left; else it is removed")
    parser.add_argument("--jobs", action="store_true")
    options = parser.parse_args()
    if options.of:
        print(noted(options.files))
        return
    if not options.table:
        with tempfile.TemporaryDirectory() as folder:
            lines = measure(options.recipe, options.runs or Path(folder), options.jobs)
        options.files[0].write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    print(table(options.files))


if __name__ == "__main__":
    main()
