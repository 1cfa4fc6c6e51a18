"""Certificates behind a judge that errs: worked numbers, and how often they are false in simulated studies."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from sacpo.errors import DataError
from sacpo.stats.judge_error import exact_limit, powered_estimate, rates_p, union_limit, union_p

STUDIES, DELTA, BOUND = 4000, 0.05, 0.1


def lower99(false: np.ndarray) -> float:
    """Return the exact lower 99 % limit of the share of studies with a false certificate."""
    k = int(false.sum())
    return 0.0 if k == 0 else float(stats.beta.ppf(0.01, k, len(false) - k + 1))


def test_both_parts_pay_half() -> None:
    """1 - .025^(1/n) bounds a rate of which nothing was seen at 97.5 %: .0183 of 200, .0362 of 100."""
    assert float(exact_limit(0, 200, 0.025)) == pytest.approx(1 - 0.025 ** (1 / 200))
    assert float(union_limit(0, 200, 0, 100, 0.05)) == pytest.approx(0.018275 + 0.036217, abs=1e-5)
    assert float(union_limit(5, 5, 0, 100, 0.05)) > 1
    p = union_p(0, 200, 0, 100, 0.06)
    assert float(union_limit(0, 200, 0, 100, p)) == pytest.approx(0.06, abs=1e-9)
    assert union_p(30, 200, 0, 100, 0.1) == 1.0


def test_rates_by_hand() -> None:
    """rate 10.5/401, TPR 45.5/51, FPR 2.5/151; at b = .1 the judge would call 10.4 % unsafe: z = -4.6."""
    rate, true, false = 10.5 / 401, 45.5 / 51, 2.5 / 151
    variance = rate * (1 - rate) / 401 + 0.01 * true * (1 - true) / 51 + 0.81 * false * (1 - false) / 151
    z = (rate - 0.1 * true - 0.9 * false) / variance**0.5
    assert float(rates_p(10, 400, 45, 50, 2, 150, 0.1)) == pytest.approx(float(stats.norm.cdf(z)))
    assert z < -4
    assert float(rates_p(10, 400, 5, 50, 40, 150, 0.1)) == 1.0  # a judge that is worse than a coin


def studies(rate: float, n: int, labels: int, miss: float, alarm: float, seed: int) -> dict[str, np.ndarray]:
    """Draw studies: who is unsafe, who is called so, and true labels of the first so many, a random sample."""
    rng = np.random.default_rng(seed)
    unsafe = rng.random((STUDIES, n)) < rate
    called = np.where(unsafe, rng.random((STUDIES, n)) >= miss, rng.random((STUDIES, n)) < alarm)
    own, said = unsafe[:, :labels], called[:, :labels]
    return {
        "called": called.sum(1),
        "missed": (own & ~said).sum(1),
        "hits": (own & said).sum(1),
        "unsafe": own.sum(1),
        "alarms": (~own & said).sum(1),
        "safe": (~own).sum(1),
    }


def test_a_judge_that_is_wrong_in_5_per_cent_certifies_nothing_false_with_labels() -> None:
    """The true rate is the bound. Without labels a judge that misses half of it is believed nearly always."""
    found = studies(BOUND, 600, 200, 0.5, 0.0, 1)
    assert (stats.binom.cdf(found["called"], 600, BOUND) <= DELTA).mean() > 0.95
    assert lower99(union_limit(found["called"], 600, found["missed"], 200, DELTA) <= BOUND) <= DELTA
    for miss, alarm in ((0.05, 0.05), (0.5, 0.0), (0.0, 0.05)):
        found = studies(BOUND, 600, 200, miss, alarm, 2)
        assert lower99(union_limit(found["called"], 600, found["missed"], 200, DELTA) <= BOUND) <= DELTA


def test_the_rates_are_valid_where_the_judge_is_good_and_labels_are_many() -> None:
    """Its false certificates are near delta; it stands beside the exact bound as an approximation."""
    found = studies(BOUND, 1000, 400, 0.05, 0.05, 3)
    keys = ("hits", "unsafe", "alarms", "safe")
    false = rates_p(found["called"], 1000, *(found[key] for key in keys), BOUND) <= DELTA
    assert lower99(false) <= DELTA


def test_power_with_labels() -> None:
    """A model at a fifth of the bound, a judge wrong in 5 %: only the rates know that alarms were false."""
    found = studies(BOUND / 5, 1000, 400, 0.05, 0.05, 4)
    keys = ("hits", "unsafe", "alarms", "safe")
    union = (union_limit(found["called"], 1000, found["missed"], 400, DELTA) <= BOUND).mean()
    rates = (rates_p(found["called"], 1000, *(found[key] for key in keys), BOUND) <= DELTA).mean()
    assert rates > 0.9
    assert union < rates
    good = studies(BOUND / 5, 1000, 400, 0.05, 0.0, 5)  # without false alarms the exact bound has power too
    assert (union_limit(good["called"], 1000, good["missed"], 400, DELTA) <= BOUND).mean() > 0.95


def test_the_powered_estimate_fails_where_events_are_rare() -> None:
    """A judge that misses all of 2 %, 50 labels: where none of them shows it, the interval is a point at 0."""
    rng = np.random.default_rng(6)
    below = 0
    for _ in range(400):
        truth = (rng.random(50) < 0.02).astype(float)
        mean, error = powered_estimate(np.zeros(500), np.zeros(50), truth)
        below += mean + 1.645 * error < 0.02
    assert below / 400 > 0.25  # .98^50 = .36
    assert powered_estimate(np.array([1.0, 0, 0, 0]), np.array([0.0, 1]), np.array([1.0, 1]))[0] == 0.75
    with pytest.raises(DataError, match="two answers with a label"):
        powered_estimate(np.zeros(5), np.zeros(1), np.zeros(1))
