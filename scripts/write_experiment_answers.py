"""Write the tables of docs/experiments.md that compare models in other ways than `write_experiments.py` does.

    write_experiment_answers.py RUNS "2 CPU cores"

RUNS is as for `write_experiments.py`. Each table stands between two comments, of which the first says what it shows:

    <!-- orders: RECIPE | merges: MERGE, ... -->   a merge of the two orders names them: its second minus its first
    <!-- fronts: RECIPE | at: SHARE, ... | figure: FILE | NAME: MODEL, MODEL, ... | ... -->   see `experiment_fronts.py`
    <!-- parts: RECIPE | wide: RECIPE -->, <!-- tilts: RECIPE | models: MODEL, ... -->   see `experiment_parts.py`
    <!-- merges: RECIPE | models: MERGE, ... -->   merges, and what the report's diagnosis found of them
    <!-- reach: RECIPE | win: RATE | share: SHARE, ... | NAME: MODEL, ... | ... -->   by updates
    <!-- z0: RECIPE | models: MODEL, ... -->   KTO's z0 in training
    <!-- lengths: RECIPE | ... -->, <!-- cures: RECIPE | ... -->   see `experiment_refusals.py`
    <!-- end -->

Figures are means over seeds with 95 % t intervals over seeds, in which the prompts of each seed's own world are too.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from experiment_fronts import WINS, Asked, fronts
from experiment_lines import figures, names, with_tables
from experiment_parts import parts, tilts
from experiment_refusals import cures, lengths
from write_experiments import PAGE, Figure, Run, cell, distance, head, metric

from sacpo.stats.intervals import mean_interval
from sacpo.stats.significance import sign_flip_test

BLOCK = re.compile(
    r"(<!-- ((?:orders|fronts|parts|tilts|merges|reach|z0|lengths|cures): .+?) -->\n).*?(<!-- end -->)", re.DOTALL
)
PAIRS = 32
"""Pairs an update of the experiment on convergence; KTO has both answers of each."""
TESTED = ("failed merge", "unfaithful merge", "collapse or over-optimisation")
PerPrompt = dict[str, tuple[float, str]]
"""A value and a cluster for each prompt that counts."""


# The order of the steps


def per_prompt(run: Run, model: str, what: str) -> PerPrompt:
    """Return one of r*, g*, unsafe and over-refusal of every report prompt that counts for it."""
    path = run.folder / "stages" / "judge" / model / "report" / "verdicts.jsonl"
    found: PerPrompt = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        value: float | None = None
        if what == {"helpfulness": "r*", "harmlessness": "g*"}.get(row["criterion"]):
            value = row["score"]
        elif what == "unsafe" and (row["criterion"], row["kind"]) == ("harmlessness", "restricted"):
            value = float(row["label"] == "unsafe")
        elif what == "over-refusal" and (row["criterion"], row["kind"]) == ("refusal", "borderline"):
            value = float(row["label"] != "compliance")
        if value is not None:
            found[row["prompt_id"]] = value, row["cluster"]
    return found


def paired(runs: Sequence[Run], ours: str, theirs: str, what: str, form: str) -> str:
    """Return the mean difference with its interval over seeds, and the p of flipping signs of all seeds' tasks."""
    means: list[float] = []
    values: tuple[list[float], list[float]] = ([], [])
    clusters: list[tuple[int, str]] = []
    for run in runs:
        first, second = per_prompt(run, ours, what), per_prompt(run, theirs, what)
        shared = sorted(first.keys() & second.keys())
        values[0].extend(first[prompt][0] for prompt in shared)
        values[1].extend(second[prompt][0] for prompt in shared)
        clusters += [(run.results.seed, first[prompt][1]) for prompt in shared]
        means.append(float(np.mean([first[prompt][0] - second[prompt][0] for prompt in shared])))
    test = sign_flip_test(*values, clusters)
    return f"{cell(means, f'+{form}')}, p {test.p_value:.3f}"


def apart(run: Run, merge: str) -> tuple[float, float]:
    """Return KL(first || second) and KL(second || first) of two merged models, from their samples under each other."""
    ends = run.results.models[merge].parents
    found = []
    for place, end in enumerate(ends):
        path = run.folder / "stages" / "kl" / "merged" / merge / end / "report" / "samples.jsonl"
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        found.append(float(np.mean([row[f"merged/{1 - place}"] for row in rows])))
    return found[0], found[1]


def orders(runs: Sequence[Run], asked: Asked) -> str:
    """Return the differences between two orders of steps, tested over seeds and prompts, and how far apart they are."""
    forms = {"r*": ".2f", "g*": ".2f", "unsafe": ".3f", "over-refusal": ".3f"}
    lines = [head("orders", *forms, "D", "KL first to second", "KL second to first")]
    for merge in names(asked["merges"]):
        first, second = runs[0].results.models[merge].parents
        cells = [paired(runs, second, first, what, form) for what, form in forms.items()]
        cells.append(cell([_difference(distance(run, second), distance(run, first)) for run in runs], "+.2f"))
        both = [apart(run, merge) for run in runs]
        cells += [cell([pair[place] for pair in both], ".2f") for place in (0, 1)]
        lines.append(f"| {second} minus {first} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _difference(ours: Figure, theirs: Figure) -> Figure:
    return None if ours is None or theirs is None else ours - theirs


def merges(runs: Sequence[Run], asked: Asked) -> str:
    """Return what merges are worth, how far from the mixture they stand for, and in how many seeds they are found."""
    shown = [head("model", "helpful win", "harmless win", "broken answers", "D", "KL from the mixture", *TESTED)]
    for model in names(asked["models"]):
        cells = [cell(figures(runs, model, key), ".2f") for key in WINS]
        cells.append(cell([_broken(run, model) for run in runs], ".3f"))
        cells += [cell([distance(run, model) for run in runs], ".2f"), _fidelity(runs, model)]
        for test in TESTED:
            hits = [model in one.models for run in runs for one in run.results.diagnosis if one.name == test]
            cells.append(f"{sum(hits)} of {len(runs)}")
        shown.append(f"| {model} | " + " | ".join(cells) + " |")
    return "\n".join(shown)


def _broken(run: Run, model: str) -> float:
    """Return the share of degenerate or of truncated answers, whichever is larger."""
    return max(metric(key)(run, model) or 0.0 for key in ("degenerate_rate", "truncated_rate"))


def _fidelity(runs: Sequence[Run], model: str) -> str:
    found = [run.results.fidelity.get(model, {}).get("report") for run in runs]
    known = [one for one in found if one is not None]
    if not known or len(known) < len(runs):
        return "–"
    return cell([one.kl.value for one in known], ".2f")


# Convergence


def reach(runs: Sequence[Run], asked: Asked) -> str:
    """Return what each number of updates gives, and when a win rate and shares of the way are first reached."""
    win, shares = float(asked["win"]), [float(share) for share in names(asked["share"])]
    lines = {name: names(models) for name, models in asked.items() if name not in ("reach", "win", "share")}
    shown = [head("model", "updates", "pairs", "seconds", "helpful win", "KL to SFT", "D to its own optimum")]
    for model in [model for models in lines.values() for model in models]:
        updates = _updates(runs[0], model)
        seconds = cell([_training_seconds(run, model) for run in runs], ".0f", ends=False)
        cells = [str(updates), str(PAIRS * updates), seconds, cell(figures(runs, model, WINS[0]), ".3f")]
        cells += [cell(figures(runs, model, "kl"), ".2f"), cell([own_distance(run, model) for run in runs], ".2f")]
        shown.append(f"| {model} | " + " | ".join(cells) + " |")
    gone = [f"{share:.0%} of SFT's way to the optimum gone" for share in shares]
    shown += ["", head("first at updates, pairs and seconds, by seed", f"win rate {win:g}", *gone)]
    for name, models in lines.items():
        cells = [_firsts(runs, models, lambda run, model: (metric(WINS[0])(run, model) or 0.0) >= win)]
        for share in shares:
            cells.append(_firsts(runs, models, lambda run, model, share=share: way(run, model) >= share))
        shown.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(shown)


def _updates(run: Run, model: str) -> int:
    return int((run.results.models[model].training or {})["steps"])


def own_distance(run: Run, model: str) -> Figure:
    """Return KL(model || the optimum of its own strengths)."""
    found = run.results.theory.kl_to_optimum.get(model) if run.results.theory else None
    return None if found is None or found.own is None else found.own.value


def way(run: Run, model: str) -> float:
    """Return how much of SFT's distance from the model's own optimum is gone."""
    assert run.results.theory is not None
    start, left = run.results.theory.kl_to_optimum[model].own_alarm, own_distance(run, model)
    assert start is not None and left is not None
    return 1 - left / start


def _training_seconds(run: Run, model: str) -> Figure:
    return next((one["seconds"] for one in run.manifests.values() if one["stage"] == f"align/{model}"), None)


def _firsts(runs: Sequence[Run], models: Sequence[str], reached: Callable[[Run, str], bool]) -> str:
    """Return the first model of a line that gets there in each seed: its updates, pairs and seconds."""
    cells = []
    for run in runs:
        model = next((model for model in models if reached(run, model)), None)
        updates = 0 if model is None else _updates(run, model)
        seconds = None if model is None else _training_seconds(run, model)
        cells.append("–" if seconds is None else f"{updates}, {PAIRS * updates}, {seconds:.0f} s")
    return "; ".join(cells)


def z0(runs: Sequence[Run], asked: Asked) -> str:
    """Return the mean of KTO's z0 in training, and in how many of its logged windows it is clamped to 0."""
    shown = [head("model", "mean z0 / beta, nats", "windows with z0 = 0")]
    for model in names(asked["models"]):
        curves = [[row["kl"] for row in run.results.models[model].curve if "kl" in row] for run in runs]
        means = cell([float(np.mean(curve)) for curve in curves], ".2f")
        clamped = mean_interval([float(np.mean(np.array(curve) == 0)) for curve in curves]).value or 0.0
        shown.append(f"| {model} | {means} | {clamped:.0%} |")
    return "\n".join(shown)


KINDS: dict[str, Callable[[Sequence[Run], Asked], str | None]] = {
    "orders": orders,
    "fronts": fronts,
    "parts": parts,
    "tilts": tilts,
    "merges": merges,
    "reach": reach,
    "z0": z0,
    "lengths": lengths,
    "cures": cures,
}


def written(page: str, folder: Path, machine: str) -> str:
    """Return the page with the tables whose runs are there."""
    return with_tables(page, folder, machine, BLOCK, lambda runs, asked: KINDS[next(iter(asked))](runs, asked))


def main() -> None:
    """Write the page."""
    if len(sys.argv) != 3:
        sys.exit('say write_experiment_answers.py RUNS "WHAT MACHINE"')
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), Path(sys.argv[1]), sys.argv[2]), encoding="utf-8")


if __name__ == "__main__":
    main()
