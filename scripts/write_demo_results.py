"""Write a run's results into README.md (five rows), docs/demo.md (every model) and docs/frontier.png.

Call it as `write_demo_results.py runs/demo "2 CPU cores"`.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from sacpo.report.headline import headline
from sacpo.report.results import Measured, ModelInfo, Results, parse_results

ROOT = Path(__file__).parents[1]
README, DEMO, FIGURE = ROOT / "README.md", ROOT / "docs" / "demo.md", ROOT / "docs" / "frontier.png"
COLUMNS = {
    "win_rate/helpfulness": "helpful win rate",
    "win_rate/harmlessness": "harmless win rate",
    "unsafe_rate": "unsafe",
    "over_refusal_rate": "over-refusal",
    "kl": "KL from SFT",
}
SHORT = tuple(COLUMNS)[:4]


def cell(figure: Measured | None, metric: str) -> str:
    """Return a figure with its interval, rates in percent."""
    if figure is None or figure.value is None:
        return "–"
    scale, form = (1.0, ".2f") if metric == "kl" else (100.0, ".0f")
    value = f"{figure.value * scale:{form}}"
    if figure.low is None or figure.high is None:
        return value
    return f"{value} ({figure.low * scale:{form}} to {figure.high * scale:{form}})"


def row(results: Results, name: str, metrics: Iterable[str], words: str | None = None) -> str:
    """Return a model's row of a table, its name bold where it is the chosen one."""
    chosen = results.selection.chosen if results.selection else None
    figures = results.measures[name]["report"].metrics
    cells = [f"**{name}**" if name == chosen else name, *([] if words is None else [words])]
    return "| " + " | ".join([*cells, *(cell(figures.get(metric), metric) for metric in metrics)]) + " |"


def head(*titles: str) -> str:
    """Return the first two lines of a table."""
    return "| " + " | ".join(titles) + " |\n|" + "---|" * len(titles)


def about(results: Results, seconds: float, machine: str) -> str:
    """Return how the numbers came about, in two lines."""
    return (
        f"`{results.command}`, seed {results.seed}; its stages took {seconds / 60:.0f} minutes on {machine}.\n"
        f"{results.prompts['report'].n} report prompts: tasks that training saw, in phrasings that neither training "
        "nor selection saw."
    )


def section(results: Results, seconds: float, machine: str) -> str:
    """Return the demo page's section: how the numbers came about, the answer in words, and one row a model."""
    key = "Rates in percent, KL in nats, 95 % intervals in brackets; the chosen model is bold."
    rows = [row(results, name, COLUMNS) for name in results.measures]
    table = "\n".join([head("model", *COLUMNS.values()), *rows])
    return "\n\n".join([f"{about(results, seconds, machine)}\n{key}", f"> {headline(results).text}", table])


def five(results: Results) -> dict[str, str]:
    """Return five models with plain words: the start, each criterion alone, the best chain of steps, the best merge.

    "Best" is the objective on tuning prompts among the models that meet the constraints there, where there are any.
    """
    selection, start = results.selection, results.baseline
    if selection is None:
        sys.exit("the run has chosen nothing")

    def best(where: Callable[[ModelInfo], bool], bounded: bool = True) -> str:
        names = [name for name, info in results.models.items() if name in selection.models and where(info)]
        kept = [name for name in names if selection.models[name].feasible or not bounded] or names
        return max(kept, key=lambda name: _value(selection.models[name].objective))

    def alone(info: ModelInfo, helpful: bool) -> bool:
        return info.parents == (start,) and (info.criterion == selection.objective.criterion) == helpful

    def chain(info: ModelInfo) -> bool:
        return info.kind == "step" and info.parents != (start,)

    return {
        start: "the start: supervised fine-tuning",
        best(lambda info: alone(info, True) and info.algorithm == "dpo", bounded=False): "helpfulness alone",
        best(lambda info: alone(info, False)): "safety alone",
        best(chain): "both, one step after the other",
        best(lambda info: info.kind == "merge"): "a merge of two models",
    }


def _value(figure: Measured | None) -> float:
    return float("-inf") if figure is None or figure.value is None else figure.value


def short(results: Results, seconds: float, machine: str) -> str:
    """Return README's five rows and what they are of."""
    rows = [row(results, name, SHORT, words) for name, words in five(results).items()]
    table = "\n".join([head("model", "what it is", *(COLUMNS[metric] for metric in SHORT)), *rows])
    key = "Rates in percent, 95 % intervals in brackets; the chosen model is bold."
    return f"{about(results, seconds, machine)}\n{key}\n\n{table}"


def replace(page: Path, name: str, text: str) -> None:
    """Replace what stands between a page's marks of this name."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    old = page.read_text(encoding="utf-8")
    new, n = re.subn(f"{begin}.*?{end}", lambda _: f"{begin}\n{text}\n{end}", old, flags=re.S)
    if n != 1:
        sys.exit(f"{page} has {n} sections '{name}', not one")
    page.write_text(new, encoding="utf-8")


def main(run: Path, machine: str) -> None:
    """Replace both sections and the figure."""
    stages = run / "stages"
    results = parse_results(json.loads((stages / "report" / "results.json").read_text(encoding="utf-8")))
    seconds = sum(json.loads(path.read_text())["seconds"] for path in sorted(stages.rglob("manifest.json")))
    replace(README, "five rows", short(results, seconds, machine))
    replace(DEMO, "demo results", section(results, seconds, machine))
    shutil.copyfile(stages / "report" / "figures" / "frontier.png", FIGURE)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
