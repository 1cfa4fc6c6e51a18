"""How far the refusal detector agrees with people, beside plain string matching; `--fit` makes its weights.

    SACPO_DATA=FOLDER python -m benchmarks.refusals [--fit] [--alarms]

People labelled 450 answers of each of two models as full refusal, partial refusal or compliance (XSTest). A row of the
tables is one way to label them:

- strings: the published string matching.
- as shipped: the weights of the package. They were fitted to these very answers, so this row flatters.
- other prompts: weights fitted to both models' answers to nine tenths of the prompts, used on the last tenth.
- other model: weights fitted to the other model's answers to all prompts.
- other model and prompts: to the other model's answers to other prompts.

The signs themselves were written by somebody who had read answers of both models: only new models show what that is
worth. Every interval is clustered by prompt.

`--fit` writes the weights: two logistic regressions with a Gaussian prior, in which a sign's weight can only have the
direction that the lists below give it. `--alarms` counts refusals among answers to ordinary instructions, where people
did not look and hardly any is to be expected.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray
from scipy.optimize import minimize

from sacpo.judging.refusal import COMPLIANCE, FULL, PARTIAL, WEIGHTS, Detector, Weights, fitted, refusal_label
from sacpo.judging.refusal_signs import read, signs
from sacpo.stats.agreement import agreement_rate, cohen_kappa
from sacpo.stats.estimate import Estimate

MODELS = ("llama2orig", "mistralinstruct")
PEOPLE = {"1": COMPLIANCE, "2": FULL, "3": PARTIAL}
PRIOR = 1.0
"""Precision of the weights' Gaussian prior."""
MOST_START = -1.75
"""Upper bound of the log-odds that a refusal is partial where no sign speaks: one more sentence gives no part yet."""
FOLDS, SEED = 10, 0
REFUSES = (
    *(f"{act} early" for act in ("will not", "norm", "reproach", "reminder", "objection", "no access", "no opinion")),
    *(f"{act} early" for act in ("warning", "grief", "no sense", "about the question")),
    *(f"{act} later" for act in ("values", "referral", "instead", "suggests", "concern")),
    *("apology first", "lecture", "objection and values", "objection about people", "denial and lecture"),
    "reminder and lecture",
)
ANSWERS = (
    *("assent early", "definition first", "instruction first", "offer early", "you can early", "list", "code"),
    *("nature", "objection about nature"),
)
GIVES_A_PART = (
    *("fiction", "no access early", "no sense early", "warning early", "sympathy early", "assent early"),
    *("but offers early", "offers", "useful list", "you can later", "content", "much content"),
)
GIVES_NOTHING = (
    *(
        "will not early",
        "norm early",
        "norm later",
        "reproach later",
        "reminder early",
        "values later",
        "concern later",
    ),
    *(
        "referral later",
        "grief early",
        "grief later",
        "objection and values",
        "no opinion early",
    ),
)
COLUMNS: dict[str, Callable[[str], object]] = {
    "three labels": lambda label: label,
    "refused or not": lambda label: label != COMPLIANCE,
    "full refusal or not": lambda label: label == FULL,
}


@dataclass(frozen=True)
class Item:
    """One answer with its labels, and what the detector sees of it."""

    model: str
    prompt: int
    text: str
    human: str
    strings: str
    found: dict[str, float]
    declines: bool


def load(folder: Path) -> list[Item]:
    """Read XSTest's answers and labels."""
    with (folder / "labels.csv").open(encoding="utf-8") as file:
        strings = {(row["model"], row["id"]): PEOPLE[row["strmatch_label"][0]] for row in csv.DictReader(file)}
    items = []
    for model in MODELS:
        with (folder / f"completions_{model}.csv").open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                reading = read(row["completion"])
                labels = PEOPLE[row["final_label"][0]], strings[model, row["id"]]
                number = int(row["id"].split("-")[1])
                items.append(Item(model, number, row["completion"], *labels, signs(reading), reading.declines))
    return items


def fit(items: Sequence[Item]) -> Detector:
    """Fit both sums: refused or not on answers that do not decline outright, partial or full on refusals."""
    open_ones = [item for item in items if not item.declines]
    refusals = [item for item in items if item.human != COMPLIANCE]
    return Detector(
        _logistic(open_ones, [item.human != COMPLIANCE for item in open_ones], REFUSES, ANSWERS),
        _logistic(refusals, [item.human == PARTIAL for item in refusals], GIVES_A_PART, GIVES_NOTHING, MOST_START),
    )


def _logistic(
    items: Sequence[Item], said: Sequence[bool], up: Sequence[str], down: Sequence[str], most: float | None = None
) -> Weights:
    names, direction = (*up, *down), np.repeat([1.0, -1.0], [len(up), len(down)])
    x = np.array([[item.found[name] for name in names] for item in items]) * direction
    x, y = np.column_stack([x, np.ones(len(items))]), np.array(said, dtype=float)
    prior = np.append(np.full(len(names), PRIOR), 0.0)

    def loss(w: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        z = x @ w
        gap = 1 / (1 + np.exp(-z)) - y
        return float((np.logaddexp(0, z) - y * z).sum() + prior @ w**2 / 2), x.T @ gap + prior * w

    bounds = [(0.0, None)] * len(names) + [(None, most)]
    options = {"maxiter": 10_000, "ftol": 1e-14, "gtol": 1e-8}
    found = minimize(loss, np.zeros(len(names) + 1), jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
    weights = {name: round(float(w), 2) for name, w in zip(names, found[:-1] * direction, strict=True)}
    return Weights(round(float(found[-1]), 2), {name: weight for name, weight in weights.items() if weight})


def held_out(items: Sequence[Item], *, prompts: bool, models: bool) -> list[str]:
    """Label each answer by weights fitted to others: to other prompts, to the other model, or to both."""
    folds = np.random.default_rng(SEED).integers(0, FOLDS, 1 + max(item.prompt for item in items))
    apart = {(folds[item.prompt] if prompts else 0, item.model if models else "") for item in items}
    detectors = {
        (fold, model): fit(
            [
                item
                for item in items
                if not (prompts and folds[item.prompt] == fold) and not (models and item.model == model)
            ]
        )
        for fold, model in sorted(apart)
    }
    keys = [(folds[item.prompt] if prompts else 0, item.model if models else "") for item in items]
    return [detectors[key].label(item.text) for key, item in zip(keys, items, strict=True)]


def tables(items: Sequence[Item]) -> str:
    """Return one table for each model and one for both."""
    ways = {
        "strings": [item.strings for item in items],
        "as shipped": [refusal_label(item.text) for item in items],
        "other prompts": held_out(items, prompts=True, models=False),
        "other model": held_out(items, prompts=False, models=True),
        "other model and prompts": held_out(items, prompts=True, models=True),
    }
    parts = []
    for models in (*((model,) for model in MODELS), MODELS):
        kept = [number for number, item in enumerate(items) if item.model in models]
        human, clusters = [items[i].human for i in kept], [items[i].prompt for i in kept]
        shares = ", ".join(f"{human.count(label)} {label}" for label in (FULL, PARTIAL, COMPLIANCE))
        rows = [_row(name, human, [labels[i] for i in kept], clusters) for name, labels in ways.items()]
        head = f"| labelled by | {' | '.join(COLUMNS)} | kappa of three labels |\n|---|{'---|' * (len(COLUMNS) + 1)}"
        parts.append("\n".join([f"{' and '.join(models)}: {len(kept)} answers ({shares} by people)", "", head, *rows]))
    return "\n\n".join(parts)


def _row(name: str, human: Sequence[str], labels: Sequence[str], clusters: Sequence[int]) -> str:
    found = [
        agreement_rate([one(label) for label in human], [one(label) for label in labels], clusters)
        for one in COLUMNS.values()
    ]
    return f"| {name} | {' | '.join(_cell(cell) for cell in (*found, cohen_kappa(human, labels, clusters)))} |"


def _cell(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def alarms(folder: Path) -> str:
    """Return how many answers to ordinary instructions count as refusals."""
    rows = json.loads((folder / "alpaca_eval/annotations_gpt4_alpaca-7b.json").read_text(encoding="utf-8"))
    texts = {f"AlpacaEval, {which}": [row[which] for row in rows] for which in ("output_1", "output_2")}
    demo = json.loads((folder / "llama_factory/alpaca_en_demo.json").read_text(encoding="utf-8"))
    texts["instruction data"] = [row["output"] for row in demo]
    lines = ["| answers | number | full refusals | partial refusals |", "|---|---|---|---|"]
    for name, answers in texts.items():
        labels = [refusal_label(text) for text in answers]
        lines.append(f"| {name} | {len(labels)} | {labels.count(FULL)} | {labels.count(PARTIAL)} |")
    return "\n".join(lines)


def write(detector: Detector, file: Path) -> None:
    """Write the weights, the heaviest first."""
    written = {
        name: {
            "start": weights.start,
            "signs": dict(sorted(weights.signs.items(), key=lambda pair: (-abs(pair[1]), pair[0]))),
        }
        for name, weights in (("refused", detector.refused), ("partial", detector.partial))
    }
    head = "# Log-odds of the refusal detector; written by `python -m benchmarks.refusals --fit`.\n"
    file.write_text(head + yaml.safe_dump(written, sort_keys=False), encoding="utf-8")


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.refusals", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--fit", action="store_true", help=f"write {WEIGHTS.name} before")
    parser.add_argument("--alarms", action="store_true", help="count refusals among answers to ordinary instructions")
    options = parser.parse_args()
    if "SACPO_DATA" not in os.environ:
        sys.exit("set SACPO_DATA to the folder of real data (xstest/)")
    folder = Path(os.environ["SACPO_DATA"])
    items = load(folder / "xstest")
    if options.fit:
        write(fit(items), WEIGHTS)
        fitted.cache_clear()
    print(tables(items))
    if options.alarms:
        print("\n" + alarms(folder))


if __name__ == "__main__":
    main()
