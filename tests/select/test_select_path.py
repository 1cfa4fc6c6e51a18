"""The search for q against constraints whose excess over q is a formula."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sacpo.select.path import Point, better_with_q, bracket, feasible_end, next_q, steady

Excess = Callable[[float], tuple[float, ...]]


def search(excess: Excess, evaluations: int = 6, tolerance: float = 0.02) -> list[Point]:
    points = [Point(q, excess(q)) for q in (0.0, 1.0)]
    while (q := next_q(points, evaluations, tolerance)) is not None:
        assert q not in [point.q for point in points]
        points.append(Point(q, excess(q)))
    return points


def test_bisection_by_hand() -> None:
    """Met from q = .6 on: .5 fails, .75 meets, .625 meets, .5625 fails, .5938 fails, .6094 meets (rounded to .0001)."""
    points = search(lambda q: (0.6 - q,))
    assert [point.q for point in points] == [0.0, 1.0, 0.5, 0.75, 0.625, 0.5625, 0.5938, 0.6094]
    assert bracket(points) == (0.5938, 0.6094)


@given(st.floats(0.001, 0.999), st.integers(1, 10))
def test_a_monotone_constraint_is_found_to_the_last_half(start: float, evaluations: int) -> None:
    """k evaluations leave an interval of 2^-k that holds the truth, or stop within the tolerance."""
    points = search(lambda q: (start - q, 0.1 * (start - q) - 0.01), evaluations, 0.002)
    low, high = bracket(points)
    assert low is not None and high is not None
    assert low < start <= high
    assert high - low <= max(2.0**-evaluations, 0.002) + 2e-4
    assert len(points) - 2 <= evaluations


def test_without_a_need_nothing_is_measured_between_the_ends() -> None:
    failing, met = search(lambda q: (1 - q + 0.1,)), search(lambda q: (-0.1 - q,))
    assert [len(failing), len(met)] == [2, 2]
    assert bracket(failing) == (1.0, None)
    assert bracket(met) == (None, 0.0)


def test_a_constraint_that_gets_worse_ends_the_feasible_part() -> None:
    """Better from .3 on, worse beyond .8: feasible from about .3 to what was measured at most at .75; 1 is not."""
    points = search(lambda q: (0.3 - q, q - 0.8))
    assert better_with_q(points) == [True, False]
    low, high = bracket(points)
    assert low is not None and high is not None and low < 0.3 <= high
    last, beyond = feasible_end(points, high)
    assert (last, beyond) == (0.5, 1.0)
    assert steady(points)


def test_opposed_constraints_leave_nothing() -> None:
    """Better from .7 on, worse beyond .4."""
    points = search(lambda q: (0.7 - q, q - 0.4))
    _, high = bracket(points)
    assert high is not None and high >= 0.7
    assert feasible_end(points, high)[0] is None


def test_a_path_that_is_not_monotone_is_told_and_what_is_found_meets() -> None:
    """Excess .5, -.2 at q = .25 ... .4, then above 0 again, and met from .9 on: bisection finds the later part."""

    def excess(q: float) -> tuple[float, ...]:
        return (-0.2 if 0.2 <= q <= 0.4 or q >= 0.9 else 0.5 - 0.4 * q,)

    points = search(excess)
    low, high = bracket(points)
    assert low is not None and high is not None
    assert excess(low)[0] > 0 >= excess(high)[0]
    assert 0.9 <= high <= 0.92
    wiggling = [Point(0.0, (0.5,)), Point(0.5, (0.7,)), Point(1.0, (-0.1,))]
    assert not steady(wiggling)
    assert bracket([*wiggling]) == (0.5, 1.0)
    noisy = [Point(point.q, point.excess, (0.3,)) for point in wiggling]
    assert steady(noisy), "a rise within the margin of an estimate is no rise"


@pytest.mark.parametrize("same", [0.1, -0.1, 0.0])
def test_a_constraint_that_q_does_not_move_counts_as_one_to_be_met(same: float) -> None:
    points = search(lambda q: (same,))
    assert bracket(points) == ((1.0, None) if same > 0 else (None, 0.0))
