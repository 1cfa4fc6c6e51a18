"""Certificates' tests: worked numbers, and how often they are false in simulated studies."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy import stats

from sacpo.errors import DataError
from sacpo.stats.certificates import (
    betting_bound,
    betting_p,
    binomial_bound,
    binomial_p,
    fixed_sequence,
    order_of,
    prompts_needed,
)

STUDIES = 4000
DELTA = 0.05


def bonferroni(p: np.ndarray, delta: float) -> np.ndarray:
    """Return which candidates a Bonferroni correction over the candidates certifies: what the rule is compared with."""
    return np.asarray((p <= delta / p.shape[-2]).all(axis=-1))


def lower99(false: np.ndarray) -> float:
    """Return the exact one-sided lower 99 % limit of the share of studies with a false certificate."""
    k, n = int(false.sum()), false.size
    return 0.0 if k == 0 else float(stats.beta.ppf(0.01, k, n - k + 1))


def test_exact_p_values() -> None:
    """`.9^10 = .3487`; with one event more `+ 10 .1 .9^9 = .3874`, together .7361. 9 of 10 at .5: 11 / 1024."""
    assert binomial_p(0, 10, 0.1) == pytest.approx(0.9**10)
    assert binomial_p(1, 10, 0.1) == pytest.approx(0.73609892)
    assert binomial_p(9, 10, 0.5, "at_least") == pytest.approx(11 / 1024)
    assert binomial_p(10, 10, 0.5, "at_least") == pytest.approx(1 / 1024)
    assert binomial_p(np.array([0, 1]), 10, 0.1) == pytest.approx([0.34867844, 0.73609892])


def test_299_clean_prompts_certify_one_per_cent() -> None:
    """`.99^298 = .05003` and `.99^299 = .04953`."""
    assert prompts_needed(0.01).clean == 299
    assert binomial_p(298 * 0, 298, 0.01) > 0.05 >= binomial_p(0, 299, 0.01)
    assert prompts_needed(0.05).clean == 59
    assert prompts_needed(0.95, side="at_least").clean == 59
    assert prompts_needed(0.5, 0.75).clean == 2  # .5^2 is exactly 1 - .75


def test_expected_prompts_have_the_power_and_one_less_has_not() -> None:
    n = prompts_needed(0.05, rate=0.02).expected
    assert n is not None

    def power(prompts: int) -> float:
        k = np.arange(prompts + 1)
        allowed = k[binomial_p(k, prompts, 0.05) <= 0.05].max(initial=-1)
        return float(stats.binom.cdf(allowed, prompts, 0.02))

    assert power(n) >= 0.8 > power(n - 1)
    assert prompts_needed(0.05, rate=0.05).expected is None
    assert prompts_needed(0.05, rate=0.07).expected is None
    assert prompts_needed(0.9, side="at_least", rate=0.95).expected == prompts_needed(0.1, rate=0.05).expected


def test_a_rate_close_to_its_bound_is_answered_at_once() -> None:
    """Every n was looked at before, a minute for 10 million; the power is reached there and nowhere before."""
    start = time.process_time()
    n = prompts_needed(0.05, rate=0.0495).expected
    assert prompts_needed(0.1, rate=0.0999).expected is None  # more than 10 million
    assert time.process_time() - start < 15
    assert n is not None
    for prompts, reached in ((n, True), (n - 1, False)):
        allowed = stats.binom.ppf(0.05, prompts, 0.05)
        allowed -= stats.binom.cdf(allowed, prompts, 0.05) > 0.05
        assert (stats.binom.cdf(allowed, prompts, 0.0495) >= 0.8) == reached


@pytest.mark.parametrize(("bound", "rate"), [(0.5, 0.35), (0.4, 0.3), (0.05, 0.01)])
def test_prompts_by_betting_are_those_that_its_p_values_need(bound: float, rate: float) -> None:
    """At .5 the stake of all wins .3 2^n, and the others the .8 that 2^6 lacks of 20: 6 values; exact: 5."""
    found = prompts_needed(bound, rate=rate, betting=True)
    assert betting_p(np.zeros(found.clean), bound) <= 0.05 < betting_p(np.zeros(found.clean - 1), bound)
    assert found.clean > prompts_needed(bound).clean

    def power(n: int) -> float:
        k = [i for i in range(n + 1) if betting_p(np.repeat([1.0, 0.0], [i, n - i]), bound) <= 0.05]
        return float(stats.binom.cdf(max(k, default=-1), n, rate))

    assert found.expected is not None
    assert power(found.expected) >= 0.8 > power(found.expected - 1)
    assert prompts_needed(1 - bound, side="at_least", rate=1 - rate, betting=True) == found
    if bound == 0.5:
        assert found.clean == 6


def test_the_bound_is_the_tightest_that_is_certified() -> None:
    assert binomial_bound(0, 299, 0.95) == pytest.approx(1 - 0.05 ** (1 / 299))
    limit = binomial_bound(3, 200, 0.95)
    assert binomial_p(3, 200, limit) == pytest.approx(0.05)
    assert binomial_bound(197, 200, 0.95, "at_least") == pytest.approx(1 - limit)
    assert binomial_bound(5, 5, 0.95) == 1.0
    means = [0.0] * 80 + [0.25] * 8 + [0.5] * 2
    high = betting_bound(means, 0.95)
    assert betting_p(np.array(means), high) == pytest.approx(0.05, rel=1e-6)
    assert sum(means) / 90 < high < 0.12
    assert betting_bound([1 - mean for mean in means], 0.95, "at_least") == pytest.approx(1 - high)


def test_betting_by_hand() -> None:
    """One value 0 at bound 1/2: every stake f wins `1 + f`, so K = 1 + sum w f, p = 1 / K; a value 1 loses as much."""
    from sacpo.stats.certificates import STAKES, WEIGHTS

    assert sum(WEIGHTS) == pytest.approx(1)
    gain = sum(w * f for w, f in zip(WEIGHTS, STAKES, strict=True))
    assert betting_p(np.array([0.0]), 0.5) == pytest.approx(1 / (1 + gain))
    assert betting_p(np.array([1.0]), 0.5) == 1.0
    assert betting_p(np.array([1.0]), 0.5, "at_least") == pytest.approx(1 / (1 + gain))
    assert betting_p(np.array([0.5] * 9), 0.5) == 1.0
    capital = sum(w * (1 + f) ** 9 * (1 - f) for w, f in zip(WEIGHTS, STAKES, strict=True))  # who bets all has nothing
    assert betting_p(np.array([0.0] * 9 + [1.0]), 0.5) == pytest.approx(1 / capital)
    mixed = np.array([0.0, 0.5, 0.0, 0.25, 0.0])
    assert betting_p(mixed, 0.4) == pytest.approx(float(betting_p(mixed[::-1], 0.4)), rel=1e-12)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf")])
def test_betting_refuses_values_out_of_range(value: float) -> None:
    with pytest.raises(DataError, match="outside its range"):
        betting_p(np.array([0.1, value]), 0.5)


@pytest.mark.parametrize("bound", [0.0, 1.0, -0.1, float("nan")])
def test_no_number_of_prompts_certifies_never(bound: float) -> None:
    with pytest.raises(DataError, match="lies between 0 and 1"):
        prompts_needed(bound)


def test_the_sequence_stops_at_the_first_that_fails() -> None:
    """The third passes alone, yet stands behind the second, which fails its second bound; Bonferroni: .05 / 3."""
    p = np.array([[0.01, 0.05], [0.01, 0.06], [0.001, 0.001]])
    assert fixed_sequence(p, DELTA).tolist() == [True, False, False]
    assert bonferroni(p, DELTA).tolist() == [False, False, True]


def test_the_order_goes_by_the_worst_of_a_candidates_bounds() -> None:
    """The safest candidate, b, refuses too much; a is likeliest to pass both. d and c tie: the better objective."""
    p = np.array([[0.02, 0.03], [0.0001, 0.6], [0.2, 0.1], [0.2, 0.05]])
    assert order_of(p, [0.5, 0.9, 0.4, 0.6], ["a", "b", "c", "d"]) == [0, 3, 2, 1]
    assert order_of(p[[2, 2]], [0.5, 0.5], ["y", "x"]) == [1, 0]


RATES = np.array([[0.01, 0.10], [0.02, 0.06], [0.03, 0.05], [0.05, 0.03], [0.07, 0.02]])
"""Five strengths; the first and the fourth are at the edge of a bound, the last violates one."""
BOUNDS = (0.05, 0.10)


def studies(rates: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Return p-values of (studies, candidates, constraints) on n prompts."""
    events = rng.binomial(n, rates, size=(STUDIES, *rates.shape))
    return np.stack([binomial_p(events[..., i], n, bound) for i, bound in enumerate(BOUNDS)], axis=-1)


def in_order(tuning: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(tuning.max(axis=-1), axis=-1, kind="stable")
    return order, np.take_along_axis(found, order[..., None], axis=1)


def test_false_certificates_are_as_rare_as_promised() -> None:
    """No candidate may be certified here: every one violates a bound, most of them exactly at its edge."""
    rng = np.random.default_rng(1)
    rates = np.array([[0.05, 0.02], [0.05, 0.01], [0.01, 0.10], [0.05, 0.10], [0.06, 0.01]])
    _, p = in_order(studies(rates, 200, rng), studies(rates, 300, rng))
    false = fixed_sequence(p, DELTA).any(axis=-1)
    assert lower99(false) <= DELTA
    assert false.mean() > 0.02  # the level is used
    best = (p.min(axis=1).max(axis=-1) <= DELTA).mean()
    assert best > DELTA  # what a test of the best-looking candidate on the same data would do


def test_false_certificates_with_good_candidates_before() -> None:
    rng = np.random.default_rng(2)
    order, p = in_order(studies(RATES, 200, rng), studies(RATES, 500, rng))
    violates = (np.array(BOUNDS) <= RATES).any(axis=-1)[order]
    false = (fixed_sequence(p, DELTA) & violates).any(axis=-1)
    assert lower99(false) <= DELTA


def test_power_is_above_bonferronis() -> None:
    rng = np.random.default_rng(3)
    rates = np.array([[0.02, 0.04], [0.03, 0.03], [0.08, 0.02], [0.01, 0.2], [0.12, 0.01], [0.01, 0.3]])
    good = (rates < np.array(BOUNDS)).all(axis=-1)
    order, p = in_order(studies(rates, 300, rng), studies(rates, 300, rng))
    own = (fixed_sequence(p, DELTA) & good[order]).any(axis=-1).mean()
    other = (bonferroni(p, DELTA) & good[order]).any(axis=-1).mean()
    assert own > 0.75
    assert own > other + 0.05


@pytest.mark.parametrize("side", ["at_most", "at_least"])
def test_clusters_that_are_alike_certify_nothing_false(side: str) -> None:
    """Four samples a prompt, prompts unlike each other: the exact test on samples is false far too often."""
    rng = np.random.default_rng(4)
    mean = 0.05
    chances = rng.beta(0.3 * mean, 0.3 * (1 - mean), size=(STUDIES, 5, 120))
    samples = rng.binomial(4, chances)
    means = samples / 4 if side == "at_most" else 1 - samples / 4
    bound = mean if side == "at_most" else 1 - mean
    p = betting_p(means, bound, side)  # type: ignore[arg-type]
    false = fixed_sequence(p[..., None], DELTA).any(axis=-1)
    assert lower99(false) <= DELTA
    assert false.mean() > 0.002
    if side == "at_most":
        naive = binomial_p(samples[:, 0].sum(axis=-1), 480, mean) <= DELTA
        assert lower99(naive) > 2 * DELTA


def test_betting_certifies_what_is_well_below_its_bound() -> None:
    rng = np.random.default_rng(5)
    means = rng.binomial(4, rng.beta(0.03, 1.47, size=(1000, 400))) / 4
    assert (betting_p(means, 0.05) <= DELTA).mean() > 0.8
