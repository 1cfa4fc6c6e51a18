"""Write the tables of docs/experiments.md on real text: `write_experiment_text.py RUNS "2 CPU cores"`.

RUNS is as for `write_experiments.py`. Each table stands between two comments, of which the first says what it shows:

    <!-- text: RECIPE | held-out: MODEL, ... -->   accuracies of the implied reward on held-out pairs
    <!-- text: RECIPE | answers: MODEL, ... -->    refusals, and KL from SFT
    <!-- text: RECIPE | pairs: MODEL - MODEL, ... -->   differences of two models on the same pairs and prompts
    <!-- text: RECIPE | scores: MODEL, ... -->     what the scores are worth that a model was learnt from
    <!-- end -->

All seeds' pairs and prompts stand together, clustered by prompt: the same prompt in two seeds is one cluster. So an
interval says what other prompts would change, given the trained models; what other trainings change is seen in the
seeds' own figures beside it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from experiment_lines import with_tables
from write_experiments import PAGE, Run, head

from sacpo.stats.estimate import Estimate
from sacpo.stats.intervals import clustered_rate, mean_interval, win_rate

BLOCK = re.compile(r"(<!-- (text: .+?) -->\n).*?(<!-- end -->)", re.DOTALL)
SFT = "sft"


@dataclass(frozen=True)
class Item:
    """A value of a held-out pair or of a prompt, and its cluster."""

    value: float
    cluster: str


Items = Mapping[str, Item]
"""By what two models share: a pair's place or a prompt's id."""
Figure = Callable[[Run, str], Items]


def lines_of(path: Path) -> list[dict[str, object]]:
    """Return the rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def margins(run: Run, model: str, source: str) -> dict[str, Item]:
    """Return each held-out pair's margin of log pi/pi_sft: the preferred answer's less the other's."""
    found = []
    for name in (model, SFT):
        path = run.folder / "stages" / "heldout" / name / "scores.json"
        found.append(json.loads(path.read_text(encoding="utf-8"))[source])
    own, sft = (np.array(one["logps"]).reshape(-1, 2) for one in found)
    ratios = own - sft
    clusters = found[0]["clusters"]
    return {str(i): Item(float(a - b), clusters[i]) for i, (a, b) in enumerate(ratios)}


def accuracy(source: str) -> Figure:
    """Return what tells of each held-out pair whether the preferred answer has the higher implied reward."""

    def figure(run: Run, model: str) -> Items:
        found = margins(run, model, source)
        return {key: Item(0.5 + 0.5 * float(np.sign(item.value)), item.cluster) for key, item in found.items()}

    return figure


def refused(kind: str) -> Figure:
    """Return what tells of each prompt of a kind whether the answer is a refusal, wholly or in part."""

    def figure(run: Run, model: str) -> Items:
        rows = [
            row
            for path in sorted((run.folder / "stages" / "judge" / model).glob("*/verdicts.jsonl"))
            for row in lines_of(path)
        ]
        wanted = [row for row in rows if (row["criterion"], row["kind"]) == ("refusal", kind)]
        return {str(row["prompt_id"]): Item(float(row["label"] != "compliance"), str(row["cluster"])) for row in wanted}

    return figure


def kl(kind: str) -> Figure:
    """Return log pi - log pi_sft of an own sample to each prompt of a kind; all of XSTest is one kind."""

    def figure(run: Run, model: str) -> Items:
        found: dict[str, Item] = {}
        for path in sorted((run.folder / "stages" / "kl" / model).glob("*/samples.jsonl")):
            for row in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
                prompt = row["answer"]["prompt"]
                if (prompt["kind"] == "ordinary") == (kind == "ordinary"):
                    found[prompt["id"]] = Item(row["sft"], prompt["cluster"])
        return found

    return figure


RATE, SHARE, NATS = "rate", "share", "nats"
HELD: dict[str, tuple[Figure, str]] = {
    "people's votes": (accuracy("votes"), SHARE),
    "safety pairs": (accuracy("safety-test"), SHARE),
}
ANSWERED: dict[str, tuple[Figure, str]] = {
    "over-refusal (XSTest, harmless)": (refused("borderline"), RATE),
    "refused, XSTest, unsafe": (refused("restricted"), RATE),
    "refused, ordinary": (refused("ordinary"), RATE),
    "KL, XSTest": (kl("xstest"), NATS),
    "KL, ordinary": (kl("ordinary"), NATS),
}


def together(runs: Sequence[Run], items: Sequence[Items]) -> tuple[list[float], list[str]]:
    """Return all seeds' values and clusters."""
    found = [item for one in items for item in one.values()]
    return [item.value for item in found], [item.cluster for item in found]


def shown(values: Sequence[float], clusters: Sequence[str], what: str) -> Estimate:
    """Return an estimate of the kind that the figure is."""
    if what == RATE:
        return clustered_rate(values, clusters)
    if what == SHARE:
        return win_rate(values, clusters)
    return mean_interval(values, clusters)


def cell(runs: Sequence[Run], items: Sequence[Items], what: str, sign: str = "") -> str:
    """Return all seeds' estimate with its interval, and each seed's own figure."""
    if not all(items):
        return "–"
    found = shown(*together(runs, items), what)
    form = f"{sign}.1f" if what == NATS else f"{sign}.2f"
    ends = "" if found.low is None or found.high is None else f" ({found.low:{form}} to {found.high:{form}})"
    own = ", ".join(f"{np.mean([item.value for item in one.values()]):{form}}" for one in items)
    return f"{found.value:{form}}{ends}" + (f"; {own}" if len(items) > 1 else "")


def columns(runs: Sequence[Run], models: Sequence[str], figures: Mapping[str, tuple[Figure, str]]) -> str:
    """Return a table of some figures, one row a model."""
    sizes = [sum(len(figure(run, models[0])) for run in runs) for figure, _ in figures.values()]
    rows = [head("model", *(f"{name} (n {size})" for name, size in zip(figures, sizes, strict=True)))]
    for model in models:
        cells = [cell(runs, [figure(run, model) for run in runs], what) for figure, what in figures.values()]
        rows.append(f"| {model} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def difference(ours: Items, theirs: Items) -> Items:
    """Return the differences of what two models share."""
    both = [key for key in ours if key in theirs]
    return {key: Item(ours[key].value - theirs[key].value, ours[key].cluster) for key in both}


def pairs(runs: Sequence[Run], asked: Sequence[str]) -> str:
    """Return differences of two models, paired by pair and prompt, and how alike they rank held-out pairs."""
    figures = {**HELD, **ANSWERED}
    rows = [head("difference", *figures, "alike on held-out pairs")]
    for one in asked:
        ours, theirs = (name.strip() for name in one.split(" - "))
        cells = []
        for figure, what in figures.values():
            items = [difference(figure(run, ours), figure(run, theirs)) for run in runs]
            cells.append(cell(runs, items, NATS if what == NATS else "difference", "+"))
        alike = ", ".join(f"{correlation(run, ours, theirs):.2f}" for run in runs)
        rows.append(f"| {ours} minus {theirs} | " + " | ".join([*cells, alike]) + " |")
    return "\n".join(rows)


def correlation(run: Run, ours: str, theirs: str) -> float:
    """Return the correlation of two models' margins of the implied reward on all held-out pairs."""
    both = [
        [item.value for source in ("votes", "safety-test") for item in margins(run, name, source).values()]
        for name in (ours, theirs)
    ]
    return float(np.corrcoef(both)[0, 1])


def scores(runs: Sequence[Run], models: Sequence[str]) -> str:
    """Return what is known of each learned score, and how far the weights rest on few samples; one value a seed."""
    rows = [
        head("model", "score of", "pairs", "held-out accuracy", "held-out loss (a coin: .69)", "effective sample size")
    ]
    for model in models:
        reports = [
            json.loads((run.folder / "stages" / "resampled" / model / "report.json").read_text(encoding="utf-8"))
            for run in runs
        ]
        for criterion in reports[0]["learned"]:
            fits = [report["learned"][criterion] for report in reports]
            own = [", ".join(str(fit["pairs"]) for fit in fits)]
            own += [", ".join(f"{fit[key]:.2f}" for fit in fits) for key in ("accuracy", "loss")]
            size = ", ".join(f"{report['weights']['ess']:.1f} of {report['weights']['samples']}" for report in reports)
            rows.append(f"| {model} | {criterion} | " + " | ".join([*own, size]) + " |")
    return "\n".join(rows)


def table(runs: Sequence[Run], kind: str, names: Sequence[str]) -> str:
    """Return one of the tables."""
    if kind == "pairs":
        return pairs(runs, names)
    if kind == "scores":
        return scores(runs, names)
    return columns(runs, names, {"held-out": HELD, "answers": ANSWERED}[kind])


def written(page: str, folder: Path, machine: str) -> str:
    """Return the page with the tables whose runs are there."""

    def shown(runs: list[Run], asked: dict[str, str]) -> str:
        _, (kind, names) = asked.items()
        return table(runs, kind, [name.strip() for name in names.split(",")])

    return with_tables(page, folder, machine, BLOCK, shown)


def main() -> None:
    """Write the page."""
    if len(sys.argv) != 3:
        sys.exit('say write_experiment_text.py RUNS "WHAT MACHINE"')
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), Path(sys.argv[1]), sys.argv[2]), encoding="utf-8")


if __name__ == "__main__":
    main()
