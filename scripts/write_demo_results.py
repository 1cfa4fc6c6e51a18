"""Write two runs' results into README.md (five rows), docs/demo.md (every model) and docs/frontier.png.

Call it as `write_demo_results.py runs/demo runs/variants "2 CPU cores"`: runs of recipes/demo.yaml and
recipes/variants.yaml with one seed, whose report prompts are the same.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sacpo.report.headline import headline
from sacpo.report.results import Measured, Results, parse_results

ROOT = Path(__file__).parents[1]
README, DEMO, FIGURE = ROOT / "README.md", ROOT / "docs" / "demo.md", ROOT / "docs" / "frontier.png"
COLUMNS = {
    "win_rate/helpfulness": "helpful win rate",
    "win_rate/harmlessness": "harmless win rate",
    "unsafe_rate": "unsafe",
    "over_refusal_rate": "over-refusal",
    "kl": "KL from SFT",
}
SHORT = ("unsafe_rate", "over_refusal_rate", "win_rate/helpfulness")
DISTANCE = "distance to the optimum"


def cell(figure: Measured | None, metric: str) -> str:
    """Return a figure with its interval, rates in percent."""
    if figure is None or figure.value is None:
        return "–"
    scale, form = (1.0, ".2f") if metric == "kl" else (100.0, ".0f")
    value = f"{figure.value * scale:{form}}"
    if figure.low is None or figure.high is None:
        return value
    return f"{value} ({figure.low * scale:{form}} to {figure.high * scale:{form}})"


def row(results: Results, name: str, metrics: Iterable[str], words: str | None = None, *, of: Results) -> str:
    """Return a model's row of a table, its name bold where it is the model that the run `of` has chosen."""
    chosen = of.selection.chosen if of.selection and of is results else None
    figures = results.measures[name]["report"].metrics
    cells = [f"**{name}**" if name == chosen else name, *([] if words is None else [words])]
    return "| " + " | ".join([*cells, *(cell(figures.get(metric), metric) for metric in metrics)]) + " |"


def head(*titles: str) -> str:
    """Return the first two lines of a table."""
    return "| " + " | ".join(titles) + " |\n|" + "---|" * len(titles)


@dataclass(frozen=True)
class Run:
    """A finished run: its results and the seconds that its stages took."""

    results: Results
    seconds: float

    @classmethod
    def at(cls, folder: Path) -> Run:
        """Read a run's folder."""
        stages = folder / "stages"
        found = json.loads((stages / "report" / "results.json").read_text(encoding="utf-8"))
        times = [json.loads(path.read_text())["seconds"] for path in sorted(stages.rglob("manifest.json"))]
        return cls(parse_results(found), sum(times))


def about(run: Run, machine: str) -> str:
    """Return how the numbers came about, in two lines."""
    results = run.results
    return (
        f"`{results.command}`, seed {results.seed}; its stages took {run.seconds / 60:.1f} minutes on {machine}.\n"
        f"{results.prompts['report'].n} report prompts: tasks that training saw, in phrasings that neither training "
        "nor selection saw."
    )


def section(run: Run, machine: str) -> str:
    """Return a section of the demo's page: how the numbers came about, the answer in words, and one row a model."""
    key = "Rates in percent, KL in nats, 95 % intervals in brackets; the chosen model is bold."
    rows = [row(run.results, name, COLUMNS, of=run.results) for name in run.results.measures]
    table = "\n".join([head("model", *COLUMNS.values()), *rows])
    return "\n\n".join([f"{about(run, machine)}\n{key}", f"> {headline(run.results).text}", table])


def five(demo: Results, variants: Results) -> list[tuple[Results, str, str]]:
    """Return five models with plain words: the start, helpfulness alone, two ways without steps, and the demo's choice.

    Of the naive merges it is the most helpful on tuning prompts of those that meet the bound there.
    """
    chosen, others = demo.selection, variants.selection
    if chosen is None or chosen.chosen is None or others is None:
        sys.exit("the runs have chosen nothing")
    naive = [name for name, info in variants.models.items() if info.line == "naive"]
    met = [name for name in naive if others.models[name].feasible] or naive
    best = max(met, key=lambda name: _value(others.models[name].objective))
    return [
        (demo, demo.baseline, "the start: supervised fine-tuning"),
        (demo, "H", "helpfulness alone"),
        (variants, best, "two models trained apart, merged"),
        (variants, "M", "DPO on mixed labels, r + 2 g"),
        (demo, chosen.chosen, "sacpo: found and certified"),
    ]


def _value(figure: Measured | None) -> float:
    return float("-inf") if figure is None or figure.value is None else figure.value


def distance(results: Results, name: str) -> str:
    """Return a model's KL to the optimum at the common target, in nats."""
    found = results.theory.kl_to_optimum.get(name) if results.theory is not None else None
    return cell(None if found is None else found.target, "kl")


def short(demo: Run, variants: Run, machine: str) -> str:
    """Return README's five rows and what they are of."""
    rows = [
        f"{row(results, name, SHORT, words, of=demo.results)} {distance(results, name)} |"
        for results, name, words in five(demo.results, variants.results)
    ]
    table = "\n".join([head("model", "what it is", *(COLUMNS[metric] for metric in SHORT), DISTANCE), *rows])
    key = (
        "Rates in percent, the distance KL(model || optimum) in nats, 95 % intervals in brackets; the chosen model is "
        "bold.\n"
        "Rows 3 and 4 are of `sacpo run recipes/variants.yaml`, on the same prompts."
    )
    return f"{about(demo, machine)}\n{key}\n\n{table}"


def replace(page: Path, name: str, text: str) -> None:
    """Replace what stands between a page's marks of this name."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    old = page.read_text(encoding="utf-8")
    new, n = re.subn(f"{begin}.*?{end}", lambda _: f"{begin}\n{text}\n{end}", old, flags=re.S)
    if n != 1:
        sys.exit(f"{page} has {n} sections '{name}', not one")
    page.write_text(new, encoding="utf-8")


def main(demo: Path, variants: Path, machine: str) -> None:
    """Replace the sections and the figure."""
    ours, others = Run.at(demo), Run.at(variants)
    replace(README, "five rows", short(ours, others, machine))
    replace(DEMO, "demo results", section(ours, machine))
    replace(DEMO, "variants results", section(others, machine))
    shutil.copyfile(variants / "stages" / "report" / "figures" / "frontier.png", FIGURE)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
