"""Results as a Markdown table for the docs: `python -m benchmarks.table FILE`."""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.cases import CASES
from benchmarks.measure import Results
from benchmarks.preference import NOT_COMPARABLE, error, gap

HEAD = "| measure | peer | sacpo | peer's | ratio (pairs) | losses apart |\n|---|---|---|---|---|---|"


def render(results: Results) -> str:
    """Return the table of all cases in a file, in the order of `benchmarks.cases`."""
    place = {name: number for number, name in enumerate((*CASES, "merge"))}
    measured = sorted((line for line in results.lines if "ours" in line), key=lambda line: place[line["name"]])
    cases = dict.fromkeys(line["key"] for line in measured)
    rows = [_row(results.of(key), results) for key in cases]
    machines = {tuple(line["machine"].values()) for line in results.lines if "machine" in line}
    said = "; ".join(f"{cpu}, {cores} cores, torch {torch}" for cpu, cores, torch in sorted(machines))
    return "\n".join([f"Measured on {said}.", "", HEAD, *rows])


def _row(lines: list[dict[str, Any]], results: Results) -> str:
    first, ours = lines[0], [line["ours"] for line in lines]
    if first["measure"] == "share":
        shares = [run["share"] for run in ours]
        rate = median(run["matmul_flops"] for run in ours) / 1e9
        cells = [first["title"], "physical limit", f"{rate * median(shares):.0f} GFLOP/s", f"{rate:.0f} GFLOP/s"]
        return _joined([*cells, _spread(shares), ""])
    theirs = [line["theirs"] for line in lines]
    if first["measure"] == "merge":
        return "\n".join(_merge(first, ours, theirs))
    value, unit = ("peak_mb", "MB") if first["measure"] == "memory" else ("pairs_per_second", "pairs/s")
    digits = 0 if unit == "MB" else 2
    sides = [f"{median(run[value] for run in runs):.{digits}f} {unit}" for runs in (ours, theirs)]
    spread = _spread([a[value] / b[value] for a, b in zip(ours, theirs, strict=True)])
    return _joined([first["title"], f"TRL, {first['peer']}", *sides, spread, _losses(first, results)])


def _merge(first: dict[str, Any], ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> list[str]:
    pairs = [(own, other) for own, other in zip(ours, theirs, strict=True) if other]
    if not pairs:
        return [_joined([first["title"], "none", f"{median(run['seconds'] for run in ours):.1f} s", "", "", ""])]
    seconds = [f"{median(run['seconds'] for run in side):.1f} s" for side in zip(*pairs, strict=True)]
    peaks = [f"{median(run['peak_mb'] for run in side):.0f} MB" for side in zip(*pairs, strict=True)]
    faster = _spread([other["seconds"] / own["seconds"] for own, other in pairs])
    smaller = _spread([own["peak_mb"] / other["peak_mb"] for own, other in pairs])
    return [
        _joined([first["title"], first["peer"], *seconds, faster, ""]),
        _joined(["the same, peak memory", first["peer"], *peaks, smaller, ""]),
    ]


def _losses(line: dict[str, Any], results: Results) -> str:
    ours, theirs = line["ours"]["losses"], line["theirs"]["losses"]
    exact = next((other["losses"] for other in results.lines if other.get("for") == line["key"]), None)
    if exact is None:
        note = f" ({NOT_COMPARABLE})" if line["name"] == "kto" else ""
        return f"{gap(ours, theirs):.1e}{note}"
    return f"from fp32: {error(ours, exact):.1e}, TRL's {error(theirs, exact):.1e}"


def _spread(found: list[float]) -> str:
    return f"{median(found):.2f} ({min(found):.2f} to {max(found):.2f}; {len(found)})"


def _joined(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    print(render(Results(Path(sys.argv[1]))))
