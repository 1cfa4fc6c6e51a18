"""What a distance from the optimum consists of.

    <!-- parts: RECIPE | wide: RECIPE -->   the parts of D of its model votes-H-S, with a figure, docs/distance.png
    <!-- tilts: RECIPE | models: MODEL, ... -->   the exact tilt of each model, and both parts of its distance

Parts follow from changes one by one, each with all else equal, so they add up. `wide` is the same recipe on a model of
twice the width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from experiment_lines import names, save
from experiment_refusals import beside
from write_experiments import Run, cell, distance, head, minutes, support_of

from sacpo.report.theory import TiltPoint
from sacpo.stats.intervals import mean_interval

FIGURE = "distance.png"
Asked = Mapping[str, str]
PARTS = {
    "noise of the votes": "H-S from votes, less H-S from exact probabilities",
    "strength of two steps": "by its mean scores: H-S, less the closed form with learned scores, both from exact "
    "probabilities",
    "shape of two steps": "what they spend on anything but these scores: likewise",
    "learned scores": "the closed form with learned scores, less that with the true ones",
    "few samples": "what the true scores' weights of a prompt's samples leave, before anything is learnt of them",
    "learning": "the model of twice the width learnt from these weights, less they themselves",
    "capacity": "the same at this width, less at twice the width",
}


def tilt_of(run: Run, model: str) -> TiltPoint | None:
    """Return the exact tilt that has a model's mean scores."""
    found = run.results.theory.kl_to_optimum.get(model) if run.results.theory else None
    return None if found is None else found.tilt


def parts_of(run: Run, wide: Run) -> list[float]:
    """Return the parts of one seed's distance, in the order of `PARTS`; they add up to D of votes-H-S."""
    ends = [*(distance(run, model) for model in ("votes-H-S", "H-S", "D", "D-true")), distance(wide, "D-true")]
    points = [support_of(each, "D-true") for each in (run, wide)]
    steps, closed = tilt_of(run, "H-S"), tilt_of(run, "D")
    if None in ends or None in points or steps is None or closed is None:
        raise LookupError("votes-H-S, H-S, D or D-true, or 'theory' of one of them, of which the parts of D are made")
    noisy, dpo, learned, true, wider = (end for end in ends if end is not None)
    few, wider_few = (point.distance for point in points if point is not None)
    tilts = [steps.strength - closed.strength, steps.shape - closed.shape]
    return [noisy - dpo, *tilts, learned - true, few, wider - wider_few, true - few - (wider - wider_few)]


def parts(runs: Sequence[Run], asked: Asked) -> str | None:
    """Return the table of parts and draw its figure; None where no seed has both runs."""
    both = [(run, beside(run, asked["wide"])) for run in runs]
    found = [(run, wide) for run, wide in both if wide is not None]
    rows = [parts_of(run, wide) for run, wide in found]
    if not rows:
        return None
    seeds = ", ".join(str(run.results.seed) for run, _ in found)
    took = minutes([wide for _, wide in found])
    lines = [f"Both widths: seeds {seeds}; {took} a seed at twice the width. Means over seeds, 95 % t intervals.", ""]
    lines.append(head("part of D", "nats", "share", "what it is"))
    total = mean_interval([sum(row) for row in rows])
    assert total.value is not None
    for place, (name, what) in enumerate(PARTS.items()):
        values = [row[place] for row in rows]
        lines.append(f"| {name} | {cell(values, '.2f')} | {np.mean(values) / total.value:.0%} | {what} |")
    lines.append(f"| **D of H-S from votes** | {cell([sum(row) for row in rows], '.2f')} | 100% | |")
    draw(np.mean(rows, axis=0).tolist())
    return "\n".join([*lines, "", f"![The parts of D]({FIGURE})"])


def tilts(runs: Sequence[Run], asked: Asked) -> str:
    """Return the exact tilt that has each model's mean scores, as shares of the optimum's, and both parts of D."""
    shown = [head("model", "tilt on r", "tilt on g", "D", "of it strength", "of it shape")]
    for model in names(asked["models"]):
        points = [tilt_of(run, model) for run in runs]
        parts = ("reward", "safety", "strength", "shape")
        values = [[None if point is None else getattr(point, part) for point in points] for part in parts]
        cells = [cell(one, ".2f") for one in values]
        whole = cell([distance(run, model) for run in runs], ".2f")
        shown.append(f"| {model} | " + " | ".join([*cells[:2], whole, *cells[2:]]) + " |")
    return "\n".join(shown)


def draw(means: Sequence[float]) -> None:
    """Draw the parts side by side, in nats."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 1.8))
    left = 0.0
    for name, value in zip(PARTS, means, strict=True):
        axes.barh([0], [value], left=[left], label=f"{name} {value:.2f}")
        left += value
    axes.set_yticks([])
    axes.set_xlabel("KL(H-S from votes || optimum), nats an answer")
    axes.legend(ncols=4, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    save(figure, FIGURE)
