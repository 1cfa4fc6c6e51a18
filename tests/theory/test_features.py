"""Bounds on real features, with features whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from sacpo.errors import DataError
from sacpo.theory.features import Scored, bounds_on, fit_head, unit_ball, votes


def test_votes_follow_bradley_terry() -> None:
    """A margin of ln 3 wins three times in four: 4,000 votes are within .03 of it."""
    scores = np.tile([np.log(3), 0.0], (4000, 1))
    assert votes(scores, np.random.default_rng(0)).mean() == pytest.approx(0.75, abs=0.03)


def test_the_longest_feature_has_length_1_and_ratios_stay() -> None:
    first, second = unit_ball(np.array([[3.0, 4.0]]), np.array([[[10.0, 0.0]]]))
    assert first.tolist() == [[0.3, 0.4]]
    assert second.tolist() == [[[1.0, 0.0]]]
    with pytest.raises(DataError, match="all zero"):
        unit_ball(np.zeros((2, 2)))


def test_a_head_is_measured_on_pairs_that_it_has_not_seen() -> None:
    """The last fifth has the opposite preference: the fit is right on none of them; a tie does not count."""
    rows = np.ones((100, 1))
    preferred = np.array([1.0] * 80 + [0.0] * 19 + [0.5])
    head = fit_head(rows, preferred)
    assert head.weights[0] > 1
    assert head.accuracy == 0
    assert head.pairs == 80
    assert head.sigma == pytest.approx(np.array([[81.0]]))


def test_bounds_say_nothing_with_few_pairs_and_something_with_very_many() -> None:
    """Linear truth in two dimensions; the covering alpha covers, and vacuous bounds are called so."""
    random = np.random.default_rng(1)
    features = random.uniform(-0.7, 0.7, (20, 6, 2))
    reward, safety = features @ [1.0, 0.5], features @ [-0.5, 1.0]

    def found(n: int) -> dict[str, dict[str, float]]:
        first, second = random.uniform(-0.7, 0.7, (2, n, 2))
        rows = first - second
        heads = [
            fit_head(rows, votes(np.stack([first @ w, second @ w], 1), random), heldout=0.0)
            for w in (np.array([1.0, 0.5]), np.array([-0.5, 1.0]))
        ]
        return bounds_on(Scored(features, reward, safety), *heads, beta=1.0)

    few, many = found(20), found(200_000)
    assert few["alpha_paper"]["violation_bound_vacuous"]
    assert few["alpha_paper"]["times_smaller_to_say_something"] > 10
    assert many["reward"]["error_largest"] < 0.05
    assert not many["alpha_covering"]["violation_bound_vacuous"]
    assert many["alpha_covering"]["violation"] <= many["alpha_covering"]["repaired"] < 0.1
    assert many["alpha_covering"]["times_smaller_to_say_something"] == pytest.approx(1.0)
    assert many["reward"]["alpha_paper"] > many["reward"]["alpha_covering"]
