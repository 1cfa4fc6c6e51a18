"""The Pareto front against its definition."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sacpo.errors import DataError
from sacpo.select import pareto_front

POINTS = st.integers(1, 3).flatmap(
    lambda d: st.lists(st.lists(st.integers(-3, 3).map(float), min_size=d, max_size=d), max_size=12)
)


def dominates(a: list[float], b: list[float]) -> bool:
    return all(x >= y for x, y in zip(a, b, strict=True)) and any(x > y for x, y in zip(a, b, strict=True))


def test_by_hand() -> None:
    """(2, 2) beats (1, 2) and (0, 0); (3, 0) and (0, 3) are beaten by none; the double stays with its twin."""
    points = [(1, 2), (2, 2), (3, 0), (0, 0), (0, 3), (2, 2)]
    assert pareto_front(points) == [1, 2, 4, 5]
    assert pareto_front([]) == []
    assert pareto_front([(1,), (3,), (3,)]) == [1, 2]


@given(POINTS)
def test_no_member_is_dominated_and_every_other_point_is_by_a_member(points: list[list[float]]) -> None:
    front = pareto_front(points)
    for i, point in enumerate(points):
        beaten = any(dominates(points[j], point) for j in front)
        assert beaten is (i not in front)


@given(POINTS.filter(bool), st.randoms(use_true_random=False))
def test_the_order_of_points_does_not_matter(points: list[list[float]], rng: object) -> None:
    mixed = list(points)
    rng.shuffle(mixed)  # type: ignore[attr-defined]
    assert sorted(points[i] for i in pareto_front(points)) == sorted(mixed[i] for i in pareto_front(mixed))


def test_what_is_no_point_is_refused() -> None:
    with pytest.raises(DataError, match="not finite"):
        pareto_front([(1.0, 2.0), (1.0, math.nan)])
    with pytest.raises(DataError, match="equally many"):
        pareto_front([(1.0,), (1.0, 2.0)])
