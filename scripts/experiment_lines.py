"""What tables of experiments share: lists of models, figures seed by seed, and what a line of models gives."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from write_experiments import Figure, Run, metric


def names(text: str) -> list[str]:
    """Return the names in a list."""
    return [name.strip() for name in text.split(",")]


def figures(runs: Sequence[Run], model: str, name: str) -> list[Figure]:
    """Return a metric of a model on report prompts, of each seed."""
    return [metric(name)(run, model) for run in runs]


def minus(ours: Sequence[Figure], theirs: Sequence[Figure]) -> list[Figure]:
    """Return the differences, seed by seed."""
    return [None if a is None or b is None else a - b for a, b in zip(ours, theirs, strict=True)]


def hypervolume(points: Sequence[tuple[float, float]], reference: tuple[float, float]) -> float:
    """Return the area that points dominate above a reference point; both coordinates are to be large."""
    area, top = 0.0, reference[1]
    for x, y in sorted(points, reverse=True):
        if x > reference[0] and y > top:
            area += (x - reference[0]) * (y - top)
            top = y
    return area


def crossing(points: Sequence[tuple[float, float]], bound: float) -> Figure:
    """Return y where x, falling along a line of points, first comes down to a bound, between two points linearly."""
    for (x, y), (next_x, next_y) in pairwise(points):
        if x > bound >= next_x:
            return y + (next_y - y) * (x - bound) / (x - next_x)
    return None
