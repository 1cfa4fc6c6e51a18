"""Several runs of one recipe as a Markdown table: `python -m benchmarks.seeds RUN_FOLDER ...`, one value a run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from sacpo.report.results import Results, parse_results

COLUMNS = {
    "helpful win": ("win_rate/helpfulness", 2),
    "harmless win": ("win_rate/harmlessness", 2),
    "unsafe": ("unsafe_rate", 2),
    "over-refusal": ("over_refusal_rate", 2),
    "r*": ("mean_score/helpfulness", 2),
    "g*": ("mean_score/harmlessness", 2),
    "KL to SFT": ("kl", 2),
}


def main() -> None:
    """Print the table of report figures, the distances to the optimum, and each run's selection."""
    runs = [_results(Path(folder)) for folder in sys.argv[1:]]
    if not runs:
        sys.exit("give folders of finished runs")
    print("| model | " + " | ".join([*COLUMNS, "KL to the target"]) + " |")
    print("|---" * (len(COLUMNS) + 2) + "|")
    for name in runs[0].models:
        cells = [" / ".join(_figure(run, name, key, digits) for run in runs) for key, digits in COLUMNS.values()]
        cells.append(" / ".join(_distance(run, name) for run in runs))
        print(f"| {name} | " + " | ".join(cells) + " |")
    print()
    for run in runs:
        selection = run.selection
        assert selection is not None
        chosen = selection.chosen or f"none (nearest {selection.nearest})"
        shown = selection.chosen or selection.nearest or ""
        figures = ", ".join(f"{word} {_interval(run, shown, key)}" for word, (key, _) in COLUMNS.items())
        print(f"- seed {run.seed}: chosen {chosen}: {figures}")


def _results(folder: Path) -> Results:
    path = folder / "stages" / "report" / "results.json"
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return parse_results(data)


def _figure(run: Results, model: str, key: str, digits: int) -> str:
    found = run.measures[model]["report"].metrics.get(key) if model in run.measures else None
    return "–" if found is None or found.value is None else f"{found.value:.{digits}f}".replace("0.", ".", 1)


def _interval(run: Results, model: str, key: str) -> str:
    found = run.measures[model]["report"].metrics.get(key)
    if found is None or found.value is None or found.low is None or found.high is None:
        return "–"
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _distance(run: Results, model: str) -> str:
    found = run.theory.kl_to_optimum.get(model) if run.theory else None
    return "–" if found is None or found.target is None or found.target.value is None else f"{found.target.value:.2f}"


if __name__ == "__main__":
    main()
