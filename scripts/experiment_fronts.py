"""Lines of models, from the least safe to the safest: what each gives at a share of unsafe answers, and a figure.

    <!-- fronts: RECIPE | at: SHARE, ... | figure: FILE | NAME: MODEL, MODEL, ... | ... -->

Lines are compared with the first one, at 20 % unsafe answers where `at` is left out. The figure, a file in docs/, has
each model's mean r* over its mean share of unsafe answers, and the optimum's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from experiment_lines import crossing, hypervolume, minus, names, save
from write_experiments import Figure, Run, cell, head, metric

WINS = ("win_rate/helpfulness", "win_rate/harmlessness")
HELPFUL, UNSAFE, OVER = "mean_score/helpfulness", "unsafe_rate", "over_refusal_rate"
BOUND = "0.2"
OPTIONS = ("fronts", "at", "figure")
Asked = Mapping[str, str]


def fronts(runs: Sequence[Run], asked: Asked) -> str:
    """Return the hypervolume of each line of models above the SFT model, and what it gives at each bound."""
    lines = {name: names(models) for name, models in asked.items() if name not in OPTIONS}
    bounds = [float(bound) for bound in names(asked.get("at", BOUND))]
    areas = {name: [_area(run, models) for run in runs] for name, models in lines.items()}
    first = next(iter(lines))
    shown = [
        head("line", "hypervolume", f"minus {first}", *(title for bound in bounds for title in _titles(first, bound)))
    ]
    for name, models in lines.items():
        cells = [cell(areas[name], ".4f"), _against(areas[name], areas[first], "+.4f", name == first)]
        for bound in bounds:
            r, other = ([reached(run, line, HELPFUL, bound) for run in runs] for line in (models, lines[first]))
            over = [reached(run, models, OVER, bound) for run in runs]
            cells += [cell(r, ".2f"), _against(r, other, "+.2f", name == first), cell(over, ".3f")]
        shown.append(f"| {name} | " + " | ".join(cells) + " |")
    if "figure" in asked:
        draw(runs, lines, asked["figure"])
        shown += ["", f"![Helpfulness over unsafe answers]({asked['figure']})"]
    return "\n".join(shown)


def reached(run: Run, models: Sequence[str], name: str, bound: float) -> Figure:
    """Return a metric where a line of models first comes down to a share of unsafe answers, linearly between two."""
    return crossing([(_value(run, model, UNSAFE), _value(run, model, name)) for model in models], bound)


def draw(runs: Sequence[Run], lines: Mapping[str, Sequence[str]], file: str) -> None:
    """Draw each line's means over the seeds, and the optimum's over its strengths."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4))
    for (name, models), marker in zip(lines.items(), "os^Dv*", strict=False):
        points = [
            [float(np.mean([_value(run, model, key) for run in runs])) for key in (UNSAFE, HELPFUL)] for model in models
        ]
        axes.plot([100 * x for x, _ in points], [y for _, y in points], marker=marker, label=name)
    axes.plot(*_optimum(runs), color="black", linestyle="--", label="the optimum")
    axes.axvline(5, color="grey", linewidth=0.8)
    axes.set_xlabel("unsafe answers to restricted prompts, %")
    axes.set_ylabel("mean helpfulness r*")
    axes.legend(frameon=False)
    save(figure, file)


def _optimum(runs: Sequence[Run]) -> tuple[list[float], list[float]]:
    """Return the optimum's unsafe answers in percent, and its r*, of each strength that all seeds have."""
    curves = [run.results.theory.curve for run in runs if run.results.theory]
    rows = [[(point.unsafe_rate, point.E_r) for point in points] for points in zip(*curves, strict=True)]
    known = [[(x, y) for x, y in row if x is not None] for row in rows]
    means = [np.mean(row, axis=0) for row in known if row]
    return [100 * float(x) for x, _ in means], [float(y) for _, y in means]


def _titles(first: str, bound: float) -> tuple[str, str, str]:
    at = f"at {bound:.0%} unsafe"
    return f"r* {at}", f"minus {first}", f"over-refusal {at}"


def _area(run: Run, models: Sequence[str]) -> float:
    return hypervolume([(_value(run, model, WINS[0]), _value(run, model, WINS[1])) for model in models], (0.5, 0.5))


def _value(run: Run, model: str, name: str) -> float:
    return metric(name)(run, model) or 0.0


def _against(ours: Sequence[Figure], theirs: Sequence[Figure], form: str, same: bool) -> str:
    return "" if same else cell(minus(ours, theirs), form)
