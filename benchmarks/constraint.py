"""How well a run kept its constraint: what was predicted of each training, what it reached, how far from the bound.

    python -m benchmarks.constraint runs/seed-0 runs/seed-1 ... [--json]

It reads results.json of finished runs with a step of `beta: auto`. Predictions of the first training are raw and
corrected by the step before; those of a later one are corrected by the training before (the closed loop). The tracking
error is (rate - bound) / bound; CAID (arXiv 2505.19387, the best published) has +15 % and +27 % for its two bounds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

CAID = (0.15, 0.27)
GRID = 4
"""Trainings of the grid that a search is compared with."""
HEAD = ("run", "model", "figure", "raw", "corrected", "trained")


def predictions(run: str, results: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Give a row for each training and figure: what was predicted of it and what it reached on tuning prompts."""
    for search in results["plan"].values():
        forecast = search["forecast"]
        raised = results["models"][forecast["model"]]["criterion"]
        names = {"E_g": f"mean_score/{forecast['score']}", "E_r": f"mean_score/{raised}"}
        for place, training in enumerate(search["trainings"]):
            (measured,) = list(training["measured"].values())[:1]
            predicted = training["predicted"]
            for figure in ("E_g", "E_r", "unsafe_rate", "over_refusal_rate"):
                trained = measured.get(names.get(figure, figure))
                if trained is None or figure not in predicted["raw"]:
                    continue
                yield {
                    "run": run,
                    "model": training["model"],
                    "figure": figure,
                    "raw": predicted["raw"][figure],
                    "corrected": (predicted["corrected"] or {}).get(figure),
                    "closed_loop": place > 0,
                    "trained": trained * (forecast["scale"] if figure == "E_g" else 1),
                }


def kept(run: str, results: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Give a row for each constraint of each search: the kept model on tuning and on report prompts."""
    for step, search in results["plan"].items():
        (training,) = [one for one in search["trainings"] if one["model"] == search["model"]]
        for check in training["checks"]:
            key = f"{check['metric']}/{check['criterion']}" if check["criterion"] else check["metric"]
            bound = check["at_most"] if check["at_most"] is not None else check["at_least"]
            fresh = _reported(results, search["model"], key)
            yield {
                "run": run,
                "step": step,
                "model": search["model"],
                "constraint": key,
                "bound": bound,
                "tuning": check["value"],
                "end": check["end"],
                "report": fresh,
                "error_tuning": (check["value"] - bound) / bound,
                "error_end": (check["end"] - bound) / bound,
                "error_report": None if fresh is None else (fresh - bound) / bound,
                "met": search["met"],
                "trainings": len(search["trainings"]),
                "regret": search["regret"],
                "kl_to_optimum": _distance(results, search["model"]),
            }


def _reported(results: Mapping[str, Any], model: str, key: str) -> float | None:
    """Return a figure on the first report set that has it."""
    sets = [name for name, of in results["prompts"].items() if of["role"] == "report"]
    found = [results["measures"].get(model, {}).get(name, {}).get("metrics", {}).get(key) for name in sets]
    return next((one["value"] for one in found if one is not None), None)


def _distance(results: Mapping[str, Any], model: str) -> float | None:
    """Return KL(pi || its own pi*)."""
    own = ((results.get("theory") or {}).get("kl_to_optimum") or {}).get(model, {}).get("own")
    return None if own is None else own["value"]


def text(rows: Sequence[Mapping[str, Any]], ends: Sequence[Mapping[str, Any]]) -> str:
    """Return both tables as text, with the comparisons below."""
    lines = ["  ".join(HEAD)]
    for row in rows:
        how = " (closed loop)" if row["closed_loop"] else ""
        cells = [_number(row[name]) for name in ("raw", "corrected", "trained")]
        lines.append(f"{row['run']}  {row['model']}  {row['figure']}  {cells[0]}  {cells[1]}{how}  {cells[2]}")
    for row in ends:
        errors = ", ".join(
            f"{name} {_number(row[name])} ({_percent(row[error])})"
            for name, error in (("tuning", "error_tuning"), ("end", "error_end"), ("report", "error_report"))
        )
        lines.append(
            f"{row['run']}: {row['model']} kept {'and meets' if row['met'] else 'but misses'} {row['constraint']} "
            f"{row['bound']:g} after {row['trainings']} of a grid's {GRID} trainings; {errors}; regret "
            f"{_number((row['regret'] or {}).get('reward'))}, KL to its optimum {_number(row['kl_to_optimum'])}"
        )
    lines.append("CAID's tracking errors: " + ", ".join(f"{error:+.0%}" for error in CAID))
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:+.0%}"


def main() -> None:
    """Print the tables of the runs that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = {
        f"{path.parent.name}/{path.name}": json.loads((path / "stages/report/results.json").read_text())
        for path in given.runs
    }
    rows = [row for name, results in found.items() for row in predictions(name, results)]
    ends = [row for name, results in found.items() for row in kept(name, results)]
    print(json.dumps({"predictions": rows, "kept": ends, "caid": CAID}) if given.json else text(rows, ends))


if __name__ == "__main__":
    main()
