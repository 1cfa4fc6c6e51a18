"""Write a run's results into README.md, and its figure beside: `write_demo_results.py runs/demo "2 CPU cores"`."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

from sacpo.report.headline import headline
from sacpo.report.results import Measured, Results, parse_results

ROOT = Path(__file__).parents[1]
README, FIGURE = ROOT / "README.md", ROOT / "docs" / "frontier.png"
COLUMNS = {
    "win_rate/helpfulness": "helpful win rate",
    "win_rate/harmlessness": "harmless win rate",
    "unsafe_rate": "unsafe",
    "over_refusal_rate": "over-refusal",
    "kl": "KL from SFT",
}


def cell(figure: Measured | None, metric: str) -> str:
    """Return a figure with its interval, rates in percent."""
    if figure is None or figure.value is None:
        return "–"
    scale, form = (1.0, ".2f") if metric == "kl" else (100.0, ".0f")
    value = f"{figure.value * scale:{form}}"
    if figure.low is None or figure.high is None:
        return value
    return f"{value} ({figure.low * scale:{form}} to {figure.high * scale:{form}})"


def section(results: Results, seconds: float, machine: str, prompts: str = "report") -> str:
    """Return the section's text: how the numbers came about, the answer in words, and one row a model."""
    chosen = results.selection.chosen if results.selection else None
    rows = []
    for name, sets in results.measures.items():
        cells = [cell(sets[prompts].metrics.get(metric), metric) for metric in COLUMNS]
        rows.append("| " + " | ".join([f"**{name}**" if name == chosen else name, *cells]) + " |")
    about = (
        f"`{results.command}`, seed {results.seed}; its stages took {seconds / 60:.0f} minutes on {machine}.\n"
        f"{results.prompts[prompts].n} report prompts: tasks that training saw, in phrasings that neither training nor "
        "selection saw.\nRates in percent, KL in nats, 95 % intervals in brackets; the chosen model is bold."
    )
    head = "| model | " + " | ".join(COLUMNS.values()) + " |\n|" + "---|" * (len(COLUMNS) + 1)
    return "\n\n".join([about, f"> {headline(results).text}", "\n".join([head, *rows])])


def main(run: Path, machine: str) -> None:
    """Replace the section between the marks and the figure."""
    stages = run / "stages"
    results = parse_results(json.loads((stages / "report" / "results.json").read_text(encoding="utf-8")))
    seconds = sum(json.loads(path.read_text())["seconds"] for path in sorted(stages.rglob("manifest.json")))
    text = README.read_text(encoding="utf-8")
    marked = f"<!-- demo-results -->\n{section(results, seconds, machine)}\n<!-- /demo-results -->"
    new, n = re.subn(r"<!-- demo-results -->.*?<!-- /demo-results -->", lambda _: marked, text, flags=re.S)
    if n != 1:
        sys.exit(f"{README} has {n} sections of demo results, not one")
    README.write_text(new, encoding="utf-8")
    shutil.copyfile(stages / "report" / "figures" / "frontier.png", FIGURE)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
