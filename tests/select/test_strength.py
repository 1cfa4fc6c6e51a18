"""The search for a strength: what is kept, and what is trained next."""

from __future__ import annotations

import math

import pytest

from sacpo.select.strength import AIM, Tried, first_strength, kept, log_odds, next_strength


def test_the_weakest_pressure_that_meets_the_bound_is_kept() -> None:
    tried = [Tried(0.2, -0.5), Tried(0.4, 0.2), Tried(0.3, -0.1)]
    assert kept(tried) == Tried(0.3, -0.1)
    assert kept([Tried(0.2, 0.4), Tried(0.1, 0.3)]) == Tried(0.1, 0.3)


def test_a_search_ends_when_the_bound_is_met_and_not_needlessly_strict() -> None:
    assert next_strength([Tried(0.2, -0.2)], 2) is None
    assert next_strength([Tried(0.2, -0.31)], 2) is not None
    assert next_strength([Tried(0.2, 0.5)], 0) is None


def test_the_first_step_uses_the_slope_and_later_ones_the_line() -> None:
    """Slope 1.5: from excess .6 to -.15 is half a unit of log strength; then the line of two tries."""
    assert next_strength([Tried(0.4, 0.6)], 2) == pytest.approx(0.4 * math.exp(-0.5), abs=5e-4)
    pair = [Tried(0.4, 1.0), Tried(0.4 / math.e, 0.4)]
    step = (AIM - 0.4) / 0.6
    assert next_strength(pair, 2) == pytest.approx(0.4 / math.e * math.exp(step), rel=5e-3)


def test_the_last_training_is_careful_where_nothing_met_the_bound() -> None:
    tried = [Tried(0.4, 0.6)]
    assert (next_strength(tried, 1) or 1) < (next_strength(tried, 2) or 0)


def test_between_a_met_and_an_unmet_strength_it_stays_between() -> None:
    found = next_strength([Tried(0.1, -2.0), Tried(0.4, 0.01)], 1)
    assert found is not None
    assert 0.1 < found < 0.4


def test_steps_are_at_most_a_factor_of_four_and_names_never_meet() -> None:
    assert next_strength([Tried(1.0, 9.0)], 2) == 0.25
    assert next_strength([Tried(1.0, -9.0)], 2) == 4.0
    assert next_strength([Tried(0.1, -0.5), Tried(0.1001, 0.001)], 1) is None


@pytest.mark.parametrize(("slope", "cross"), [(0.7, 0.05), (1.5, 0.3), (3.0, 0.9)])
def test_three_trainings_find_a_strength_near_the_bound(slope: float, cross: float) -> None:
    """A law linear in log strength, started a factor of three off on either side, is met and not by much."""
    for start in (cross * 3, cross / 3):
        tried = [Tried(start, slope * math.log(start / cross))]
        while (strength := next_strength(tried, 3 - len(tried))) is not None:
            tried.append(Tried(strength, slope * math.log(strength / cross)))
        assert len(tried) <= 3
        assert -0.65 <= kept(tried).excess <= 0


def test_log_odds() -> None:
    assert log_odds(0.5) == 0.0
    assert log_odds(0.0) == pytest.approx(math.log(1e-4 / (1 - 1e-4)))


def test_a_search_whose_bound_is_met_already_presses_no_harder_than_the_step_before() -> None:
    """Forecast .0127, step before .3: begin with .3; elsewhere the forecast holds."""
    met, wanted = {"state": "already met", "start": 0.0127}, {"state": "found", "start": 0.0127}
    assert first_strength(met, 0.3) == 0.3
    assert first_strength({**met, "start": 4.0}, 0.3) == 4.0
    assert first_strength(met, None) == first_strength(wanted, 0.3) == 0.0127
