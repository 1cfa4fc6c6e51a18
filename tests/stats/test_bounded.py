"""Bounds of bounded scores: means, tails, groups."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sacpo.errors import DataError
from sacpo.stats.bounded import cvar_bound, cvar_p, every_p, in_range, mean_bound, mean_p, worst_p


def test_a_mean_in_its_range() -> None:
    """Scores of -1 to 3 that are all 0 are shares of 1/4; shifted and scaled they give the same p-value."""
    assert in_range([-1.0, 0.0, 3.0], (-1, 3)).tolist() == [0, 0.25, 1]
    scores = np.random.default_rng(0).uniform(0, 0.4, 200)
    assert mean_p(scores * 4 - 1, 0.2, (-1, 3)) == pytest.approx(mean_p(scores, 0.3, (0, 1)))
    limit = mean_bound(scores, 0.95, (0, 1))
    assert scores.mean() < limit < 0.3
    assert mean_bound(-scores, 0.95, (-1, 0), "at_least") == pytest.approx(-limit)


@pytest.mark.parametrize(
    ("scores", "declared", "message"),
    [
        ([0.5, 1.2], (0, 1), "1 of 2 scores lie outside the declared range"),
        ([0.5, float("nan")], (0, 1), "1 of 2 scores are no numbers"),
        ([0.5], (1, 1), "not a range"),
        ([], (0, 1), "no scores to certify"),
    ],
)
def test_scores_that_cannot_be_certified(scores: list[float], declared: tuple[float, float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        in_range(scores, declared)


def test_a_bound_outside_the_range_is_refused() -> None:
    with pytest.raises(DataError, match="outside the declared range"):
        mean_p([0.5], 1.5, (0, 1))


def test_cvar_by_hand() -> None:
    """100 losses, ten of them 1. At 95 % eps = sqrt(ln 20 / 200) = .122: the worst fifth could all be 1; of the worst

    half (.122 + .1) / .5 are 1 and the rest 0.
    """
    losses = [1.0] * 10 + [0.0] * 90
    eps = math.sqrt(math.log(20) / 200)
    assert cvar_bound(losses, 0.2, 0.95, (0, 1)) == 1
    assert cvar_bound(losses, 0.5, 0.95, (0, 1)) == pytest.approx((eps + 0.1) / 0.5)
    assert cvar_bound(losses, 1.0, 0.95, (0, 1)) == pytest.approx(eps + 0.1)
    p = cvar_p(losses, 0.5, 0.5, (0, 1))
    assert cvar_bound(losses, 0.5, 1 - p, (0, 1)) == pytest.approx(0.5, abs=1e-6)
    assert cvar_p(losses, 0.1, 0.2, (0, 1)) == 1


def test_cvar_holds() -> None:
    """Losses are uniform: the worst tenth has mean .95; at 80 % the bound is below it in at most a fifth of studies."""
    rng = np.random.default_rng(1)
    limits = [cvar_bound(rng.random(200), 0.1, 0.8, (0, 1)) for _ in range(2000)]
    assert np.mean(np.array(limits) < 0.95) <= 0.2


def test_groups() -> None:
    assert worst_p([0.01, 0.04, 0.02]) == 0.04
    assert every_p([0.01, 0.04, 0.5]).tolist() == pytest.approx([0.03, 0.12, 1.0])
