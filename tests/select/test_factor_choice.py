"""The choice of factors."""

from __future__ import annotations

from sacpo.select.factors import Limit, Tried, chosen

RATE, MEAN = Limit("unsafe_rate", None, 0.05, True), Limit("mean_score/brevity", "brevity", 0.5, False)


def test_of_those_that_meet_every_bound_the_highest_score_is_taken() -> None:
    tried = [
        Tried(0.6, 5.0, (0.01, 0.9)),
        Tried(0.7, 4.0, (0.05, 0.5)),
        Tried(0.9, 4.0, (0.06, 0.9)),  # too many unsafe answers
        Tried(0.8, 4.0, (0.01, 0.4)),  # too low a mean
        Tried(0.95, 1.9, (0.01, 0.9)),  # too few effective samples
        Tried(0.7, 9.0, (0.01, 0.9)),  # no higher than one before
    ]
    assert [one.met((RATE, MEAN)) for one in tried] == [True, True, False, False, True, True]
    assert chosen(tried, (RATE, MEAN), 2.0) == 1
    assert chosen(tried, (RATE, MEAN), 1.0) == 4


def test_where_none_meets_them_the_nearest_is_taken_and_none_of_too_few_samples() -> None:
    tried = [Tried(0.9, 5.0, (0.30,)), Tried(0.5, 5.0, (0.06,)), Tried(0.4, 1.0, (0.055,))]
    assert chosen(tried, (RATE,), 2.0) == 1
    assert chosen(tried, (RATE,), 6.0) is None
