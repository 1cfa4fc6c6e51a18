"""The figures: helpfulness against harmlessness (the paper's figure 2), unsafe rate, optimum, training curves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from sacpo.report.curves import training
from sacpo.report.labels import Mark, place_labels
from sacpo.report.legend import breaking_a_bound, filled, signs
from sacpo.report.lookup import axes as criteria
from sacpo.report.lookup import is_rate, known, label, lines, measure_of, number, shown_model, with_interval
from sacpo.report.results import Results
from sacpo.report.style import INK, MUTED, PAPER, PARAMETERS, Drawing, colours, new_figure
from sacpo.system.visible import visible

WIDE, NARROW = (7.6, 5.6), (3.9, 5.2)
TRUSTED_ESS = 5.0


@dataclass(frozen=True)
class Point:
    """A model in the plane: its figures (value, low, high) on both axes."""

    model: str
    x: tuple[float, float, float]
    y: tuple[float, float, float]


def all_drawings(results: Results, *, narrow: bool = False) -> dict[str, Drawing]:
    """Return every figure that these results have, by name; `narrow` ones fit a phone."""
    makers: dict[str, Callable[[Results, bool], Drawing | None]] = {
        "frontier": frontier,
        "safety": safety,
        "optimum": optimum,
        "training": training,
    }
    with mpl.rc_context(PARAMETERS):
        drawn = {name: make(results, narrow) for name, make in makers.items()}
    return {name: drawing for name, drawing in drawn.items() if drawing is not None}


def frontier(results: Results, narrow: bool = False) -> Drawing | None:
    """Draw the paper's figure 2: win rates against the baseline in two criteria, on report prompts.

    Source: figure 2 of the paper; intervals, the constraint and the theoretical curve are added.
    """
    x, y = (f"win_rate/{criterion}" for criterion in criteria(results))
    theory = results.theory.curve if results.theory else ()
    curve = [
        (point.win_rate[x.partition("/")[2]], point.win_rate[y.partition("/")[2]], point.ess)
        for point in theory
        if x.partition("/")[2] in point.win_rate and y.partition("/")[2] in point.win_rate
    ]
    return _plane(results, x, y, curve, narrow)


def safety(results: Results, narrow: bool = False) -> Drawing | None:
    """Draw the unsafe rate against the helpfulness win rate, with the bound where it is constrained."""
    criterion = criteria(results)[0]
    theory = results.theory.curve if results.theory else ()
    curve = [
        (point.win_rate[criterion], point.unsafe_rate, point.ess)
        for point in theory
        if criterion in point.win_rate and point.unsafe_rate is not None
    ]
    return _plane(results, f"win_rate/{criterion}", "unsafe_rate", curve, narrow)


def optimum(results: Results, narrow: bool = False) -> Drawing | None:
    """Draw mean reward against mean safety, trained models beside the optimum; None where it is not known.

    Source: eq. 11 of the paper.
    """
    if results.theory is None or not results.theory.curve:
        return None
    spec = results.recipe.get("theory") or {}
    x, y = f"mean_score/{spec.get('reward', 'helpfulness')}", f"mean_score/{spec.get('safety', 'harmlessness')}"
    curve = [(point.E_r, point.E_g, point.ess) for point in results.theory.curve]
    return _plane(results, x, y, curve, narrow)


def _plane(
    results: Results, x: str, y: str, curve: Sequence[tuple[float, float, float | None]], narrow: bool
) -> Drawing | None:
    points = _points(results, x, y)
    if not points:
        return None
    figure, (axis,) = new_figure(*(NARROW if narrow else WIDE))
    notes = _draw_points(axis, results, points, x, y)
    _draw_curve(axis, curve)
    _draw_baseline(axis, results, points)
    _finish_axes(axis, x, y)
    strokes = [*_strokes(results, points, curve), *_draw_bounds(axis, results, x, y)]
    handles, _ = axis.get_legend_handles_labels()
    handles = [*map(filled, handles), *signs(results, points)]
    figure.legend(handles=handles, loc="outside lower center", ncols=3 if narrow else 6)
    figure.canvas.draw()  # settles the layout, which labels need
    place_labels(axis, _marks(results, points), 7.0 if narrow else 7.5, strokes)
    figure.set_layout_engine(None)
    return Drawing(figure, _alt(results, points, x, y), notes)


def _points(results: Results, x: str, y: str) -> dict[str, Point]:
    found = {}
    for name in results.models:
        across, along = known(measure_of(results, name, x)), known(measure_of(results, name, y))
        if across is not None and along is not None:
            found[name] = Point(name, across, along)
    return found


def _draw_points(axis: Axes, results: Results, points: dict[str, Point], x: str, y: str) -> dict[str, str]:
    groups = {line: [name for name in names if name in points] for line, names in lines(results).items()}
    style = colours([line for line, names in groups.items() if names])
    broken = breaking_a_bound(results)
    notes: dict[str, str] = {}
    for line, names in groups.items():
        if not names:
            continue
        colour, marker = style[line]
        path = [points[name] for name in sorted(names, key=lambda name: _strength(results, name))]
        axis.plot([p.x[0] for p in path], [p.y[0] for p in path], color=colour, linewidth=1.4, alpha=0.75, zorder=2)
        _draw_way(axis, results, points, names, colour)
        for point in path:
            gid = f"point-{len(notes)}"
            breaks = point.model in broken
            _draw_point(axis, point, colour, marker, gid, visible(line) if point is path[0] else None, hollow=breaks)
            notes[gid] = _note(results, point.model, x, y)
    for base in _stars(results, points):
        gid = f"point-{len(notes)}"
        _draw_point(axis, points[base], INK, "*", gid, visible(base), hollow=base in broken)
        notes[gid] = _note(results, base, x, y)
    chosen = shown_model(results)
    if chosen in points:
        point = points[chosen]
        axis.plot(
            [point.x[0]],
            [point.y[0]],
            "o",
            markersize=15,
            markerfacecolor="none",
            markeredgecolor=INK,
            markeredgewidth=1.6,
            zorder=6,
        )
    return notes


def _stars(results: Results, points: Mapping[str, Point]) -> list[str]:
    """Return the models that are stars: the baseline, and the base, which is on no line whatever is compared with."""
    return [name for name in points if name == results.baseline or results.models[name].kind == "base"]


def _draw_point(
    axis: Axes, point: Point, colour: str, marker: str, gid: str, name: str | None, *, hollow: bool = False
) -> None:
    for values, other, draw in ((point.x, point.y, axis.hlines), (point.y, point.x, axis.vlines)):
        draw(other[0], values[1], values[2], color=colour, linewidth=0.9, alpha=0.4, zorder=1)
    axis.plot(
        [point.x[0]],
        [point.y[0]],
        marker,
        color=colour,
        markersize=9 if marker == "*" else 6,
        markeredgewidth=1.1 if hollow else 0,
        markeredgecolor=colour,
        markerfacecolor=PAPER if hollow else colour,
        linestyle="none",
        zorder=4,
        gid=gid,
        label=name,
    )


def _draw_way(axis: Axes, results: Results, points: dict[str, Point], names: Sequence[str], colour: str) -> None:
    """Join a merge sweep with the models it starts and ends at, dotted: q = 0 and q = 1 are those models."""
    first, last = (
        results.models[name]
        for name in (min(names, key=lambda n: _strength(results, n)), max(names, key=lambda n: _strength(results, n)))
    )
    if first.kind != "merge" or len(first.parents) != 2:
        return
    ends = [(first.parents[0], names[0])] + ([(first.parents[1], names[-1])] if last.method != "task-vectors" else [])
    by_q = sorted(names, key=lambda name: _strength(results, name))
    for parent, end in zip([parent for parent, _ in ends], [by_q[0], by_q[-1]], strict=False):
        if parent in points:
            a, b = points[parent], points[end]
            axis.plot([a.x[0], b.x[0]], [a.y[0], b.y[0]], color=colour, linewidth=1, alpha=0.6, linestyle=":", zorder=1)


def _draw_curve(axis: Axes, curve: Sequence[tuple[float, float, float | None]]) -> None:
    if not curve:
        return
    axis.plot(
        [c[0] for c in curve],
        [c[1] for c in curve],
        color=INK,
        linewidth=1.3,
        linestyle=(0, (5, 3)),
        zorder=3,
        label="optimum π*",
    )
    trusted = [c for c in curve if c[2] is None or c[2] >= TRUSTED_ESS]
    axis.plot([c[0] for c in trusted], [c[1] for c in trusted], ".", color=INK, markersize=4, zorder=3)


def _draw_baseline(axis: Axes, results: Results, points: dict[str, Point]) -> None:
    if results.baseline in points:
        point = points[results.baseline]
        axis.axvline(point.x[0], color=MUTED, linewidth=0.8, linestyle=(0, (1, 3)), zorder=0)
        axis.axhline(point.y[0], color=MUTED, linewidth=0.8, linestyle=(0, (1, 3)), zorder=0)


def _draw_bounds(axis: Axes, results: Results, x: str, y: str) -> list[list[tuple[float, float]]]:
    """Shade what a constraint forbids, without moving the limits; return the bounds as lines."""
    drawn: list[list[tuple[float, float]]] = []
    constraints = results.selection.constraints if results.selection else ()
    limits = axis.get_xlim(), axis.get_ylim()
    for constraint in constraints:
        if constraint.key not in (x, y):
            continue
        low, high = limits[constraint.key == y]
        ends = (constraint.bound, high) if constraint.at_most is not None else (low, constraint.bound)
        if ends[0] >= ends[1]:
            continue
        span, line = (axis.axhspan, axis.axhline) if constraint.key == y else (axis.axvspan, axis.axvline)
        span(*ends, color=MUTED, alpha=0.09, linewidth=0, zorder=0)
        line(constraint.bound, color=INK, linewidth=1, zorder=1)
        if constraint.key == y:
            drawn.append([(end, constraint.bound) for end in limits[0]])
        else:
            drawn.append([(constraint.bound, end) for end in limits[1]])
    axis.set_xlim(*limits[0])
    axis.set_ylim(*limits[1])
    return drawn


def _finish_axes(axis: Axes, x: str, y: str) -> None:
    axis.margins(0.07)
    for key, place in ((x, axis.xaxis), (y, axis.yaxis)):
        place.set_label_text(label(key) + (", %" if is_rate(key) else ""))
        if is_rate(key):
            place.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f}"))


def _marks(results: Results, points: dict[str, Point]) -> list[Mark]:
    groups = lines(results)
    style = colours([line for line, names in groups.items() if any(name in points for name in names)])
    chosen = shown_model(results)
    marks = []
    for name, point in points.items():
        line = results.models[name].line or name
        colour = INK if name == chosen or name in _stars(results, points) else style[line][0]
        text = name if name == chosen else short_name(name, line)
        marks.append(Mark(point.x[0], point.y[0], visible(text), colour, name == chosen))
    return marks


def _strokes(
    results: Results, points: dict[str, Point], curve: Sequence[tuple[float, float, float | None]]
) -> list[list[tuple[float, float]]]:
    """Return what labels should keep off: the lines between models, their intervals and the curve."""
    paths = [
        [(points[name].x[0], points[name].y[0]) for name in sorted(names, key=lambda n: _strength(results, n))]
        for names in ([name for name in members if name in points] for members in lines(results).values())
    ]
    across = [[(point.x[1], point.y[0]), (point.x[2], point.y[0])] for point in points.values()]
    along = [[(point.x[0], point.y[1]), (point.x[0], point.y[2])] for point in points.values()]
    return [*paths, *across, *along, [(x, y) for x, y, _ in curve]]


def short_name(name: str, line: str) -> str:
    """Return what tells a model from the others of its line: `H-S@0.1` of `H-S` is `0.1`."""
    return (name.removeprefix(f"{line}@").removesuffix(f"+{line}")) or name


def _strength(results: Results, name: str) -> tuple[float, ...]:
    info = results.models[name]
    if info.kind == "merge":
        return info.weights[1:] or (info.q or 0.0,)
    return tuple(-strength for _, strength in info.strengths)


def _note(results: Results, model: str, x: str, y: str) -> str:
    figures = [f"{label(key)}: {with_interval(measure_of(results, model, key), key)}" for key in (x, y)]
    return "\n".join([model, *figures])


def _alt(results: Results, points: dict[str, Point], x: str, y: str) -> str:
    chosen = shown_model(results)
    text = f"{label(y)} against {label(x)} of {len(points)} models on report prompts."
    if chosen in points:
        point = points[chosen]
        text += f" {chosen} is at {number(point.x[0], x)} and {number(point.y[0], y)}."
    return text
