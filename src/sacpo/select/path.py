"""The search for a merge weight: the smallest q that meets, with confidence, every constraint that q makes better.

A constraint's excess is how far the pessimistic end of its estimate lies beyond the bound, 0 or less where it is met.
Constraints that get better from q = 0 to q = 1 are what the search is for. Those that get worse only say where the
feasible part of the path ends. Between two measured q nothing is known: a path need not be monotone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

DIGITS = 4
"""Decimals of a q that is tried."""


@dataclass(frozen=True, slots=True)
class Point:
    """A measured q, every constraint's excess there, and how far its estimate is from its pessimistic end."""

    q: float
    excess: tuple[float, ...]
    margin: tuple[float, ...] = ()


def better_with_q(points: Sequence[Point]) -> list[bool]:
    """Tell of each constraint whether it is nearer to its bound, or as near, at q = 1 than at q = 0."""
    first, last = min(points, key=_q), max(points, key=_q)
    return [after <= before for before, after in zip(first.excess, last.excess, strict=True)]


def bracket(points: Sequence[Point]) -> tuple[float | None, float | None]:
    """Return the ends of the interval that bisection has come to: the last q that fails, the first that meets.

    Only constraints that get better with q count. The first is None where q = 0 meets them, the second None where
    q = 1 does not.
    """
    met = {point.q: _met(point, better_with_q(points)) for point in points}
    if not met[1.0]:
        return 1.0, None
    if met[0.0]:
        return None, 0.0
    low, high = 0.0, 1.0
    while (middle := _middle(low, high)) in met:
        low, high = (low, middle) if met[middle] else (middle, high)
    return low, high


def next_q(points: Sequence[Point], evaluations: int, tolerance: float) -> float | None:
    """Return the q to measure next; None: the search is over.

    Args:
        points: What was measured, q = 0 and q = 1 among it.
        evaluations: How many q between them may be measured.
        tolerance: The width of the interval that is narrow enough.
    """
    low, high = bracket(points)
    if low is None or high is None or high - low <= tolerance or len(points) - 2 >= evaluations:
        return None
    middle = _middle(low, high)
    return middle if low < middle < high else None


def feasible_end(points: Sequence[Point], start: float) -> tuple[float | None, float | None]:
    """Return where the feasible part that begins at `start` ends: the last q that meets all, the first beyond it.

    Both are measured q. The first is None where `start` itself misses a constraint that gets worse with q; the second
    None where q = 1 is feasible.
    """
    last: float | None = None
    for point in sorted(points, key=_q):
        if point.q < start:
            continue
        if any(excess > 0 for excess in point.excess):
            return last, point.q
        last = point.q
    return last, None


def steady(points: Sequence[Point]) -> bool:
    """Tell whether every constraint's excess moves in one direction over the measured q, but for its margin."""
    ordered = sorted(points, key=_q)
    for i, better in enumerate(better_with_q(points)):
        for before, after in pairwise(ordered):
            rise = after.excess[i] - before.excess[i]
            if (rise if better else -rise) > max(
                (point.margin[i] for point in (before, after) if point.margin), default=0
            ):
                return False
    return True


def _met(point: Point, counts: Sequence[bool]) -> bool:
    return all(excess <= 0 for excess, counted in zip(point.excess, counts, strict=True) if counted)


def _middle(low: float, high: float) -> float:
    return round((low + high) / 2, DIGITS)


def _q(point: Point) -> float:
    return point.q
