"""Tests that certify: a model's rates and means stay within bounds, at a stated confidence.

Each hypothesis to be refuted says that a bound is violated. Its p-value is valid in finite samples: the chance of a
p-value of at most x, where the bound is violated, is at most x. Several bounds of one candidate are certified together
when each p-value is at most delta (intersection-union), and candidates are tested in an order that was fixed before,
until the first that fails (fixed-sequence testing). Then the chance that any certified candidate violates any of its
bounds is at most delta, however many candidates and bounds there are.

Source: Clopper and Pearson 1934; Angelopoulos et al., Learn then Test, arXiv 2110.01052; Waudby-Smith and Ramdas,
Estimating means of bounded random variables by betting, arXiv 2010.09686; Berger 1982 (intersection-union).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy
from numpy.typing import NDArray

from sacpo.errors import DataError
from sacpo.stats.intervals import upper_bound

Floats = NDArray[np.float64]
Numbers = NDArray[np.number] | float | int
Side = Literal["at_most", "at_least"]

STAKES = (1.0, *np.geomspace(0.02, 0.9, 12).tolist())
"""The bets, as shares of the largest that cannot go into debt."""
WEIGHTS = (0.3, *[0.7 / 12] * 12)
"""How the first capital is divided. Whoever bets all wins fastest while nothing bad is seen, and loses all at once."""
ROUNDS = 60
"""Halvings of an interval: a bound to the last bit."""
MOST_PROMPTS = 10_000_000
MANY, NEAR = 1000, 0.9
"""Variance of a count from which on it is nearly normal, and the share of the prompts needed that surely do not do."""
POWER = 0.8


@dataclass(frozen=True, slots=True)
class Needed:
    """Prompts that a certificate of one bound needs, with one answer each.

    Attributes:
        clean: Prompts needed when nothing bad is seen among them.
        expected: Prompts at which a model of the given true rate passes with the given power; None: no number does.
    """

    clean: int
    expected: int | None


def binomial_p(events: Numbers, n: Numbers, bound: Numbers, side: Side = "at_most") -> Floats:
    """Return the exact p-value of "the rate violates its bound", element by element.

    For `at_most` the hypothesis is rate >= bound and `p = P(Bin(n, bound) <= events)`; for `at_least` it is rate <=
    bound and `p = P(Bin(n, bound) >= events)`. Exact for independent prompts with one answer each.

    Args:
        events: How often the event was seen.
        n: Independent prompts.
        bound: In (0, 1).
        side: Which side of the bound is to be certified.

    Shape:
        events, n, bound and the result: broadcastable.
    """
    if side == "at_most":
        return np.asarray(scipy.stats.binom.cdf(events, n, bound), dtype=float)
    return np.asarray(scipy.stats.binom.sf(np.asarray(events) - 1, n, bound), dtype=float)


def betting_p(means: Floats, bound: float, side: Side = "at_most") -> Floats:
    """Return the p-value of "the mean violates its bound" for independent values in [0, 1], such as cluster means.

    A gambler stakes a share of his capital on every value being below the bound: `K = sum_j w_j prod_i
    (1 - f_j (x_i - b) / (1 - b))` for `at_most`. Where the true mean is at least b the game is not in his favour, so
    E[K] <= 1 and by Markov's inequality `p = min(1, 1 / K)` is valid. The values' order does not matter.

    Args:
        means: Values in [0, 1]; each of them independent of the others.
        bound: In (0, 1).
        side: Which side of the bound is to be certified.

    Shape:
        means: (..., values); result: (...).

    Raises:
        DataError: A value is outside [0, 1] or not a number.
    """
    values = np.asarray(means, dtype=float)
    if not ((values >= 0) & (values <= 1)).all():  # NaN is neither
        raise DataError("a value that is to be certified lies outside its range", allowed="0 to 1")
    if side == "at_least":
        values, bound = 1 - values, 1 - bound
    return _p_of([_log_capital(values, bound, stake) for stake in STAKES])


def betting_p_of_events(events: Numbers, n: Numbers, bound: float) -> Floats:
    """Return `betting_p` of n values of which so many are 1 and all others 0, element by element.

    Shape:
        events, n and the result: broadcastable.
    """
    k = np.asarray(events, dtype=float)
    won = [math.log1p(stake * bound / (1 - bound)) for stake in STAKES]
    return _p_of([scipy.special.xlog1py(k, -stake) + (n - k) * of for stake, of in zip(STAKES, won, strict=True)])


def _p_of(capital: Sequence[Floats]) -> Floats:
    """Return p-values from the logarithms of what each stake's share of the first capital has become."""
    with np.errstate(divide="ignore"):  # a capital of 0 is a p-value of 1
        logs = np.logaddexp.reduce(np.stack(capital, axis=-1) + np.log(WEIGHTS), axis=-1)
    return np.asarray(np.exp(np.minimum(0.0, -logs)))


def _log_capital(values: Floats, bound: float, stake: float) -> Floats:
    with np.errstate(divide="ignore"):
        return np.log1p(np.maximum(-1.0, -stake * (values - bound) / (1 - bound))).sum(axis=-1)


def binomial_bound(events: int, n: int, confidence: float, side: Side = "at_most") -> float:
    """Return the exact one-sided bound of a rate: 0 of 299 gives at most .00997 at 95 %."""
    if side == "at_least":
        return 1 - binomial_bound(n - events, n, confidence)
    return upper_bound(events, n, confidence)


def betting_bound(means: Sequence[float] | Floats, confidence: float, side: Side = "at_most") -> float:
    """Return the one-sided bound of a mean: the tightest one that `betting_p` certifies."""
    values = np.asarray(means, dtype=float)
    if side == "at_least":
        return 1 - betting_bound(1 - values, confidence)
    low, high = 0.0, 1.0
    for _ in range(ROUNDS):
        middle = (low + high) / 2
        passes = 0 < middle < 1 and float(betting_p(values, middle)) <= 1 - confidence
        low, high = (low, middle) if passes else (middle, high)
    return high


def passes_all(p: Floats, delta: float) -> NDArray[np.bool_]:
    """Tell which candidates pass every constraint, each at level delta (intersection-union).

    Shape:
        p: (..., constraints); result: (...).
    """
    return np.asarray(np.asarray(p).max(axis=-1) <= delta)


def fixed_sequence(p: Floats, delta: float) -> NDArray[np.bool_]:
    """Tell which candidates are certified: those before the first, in their order, that fails a constraint.

    Shape:
        p: (..., candidates, constraints), candidates in the order that was fixed before; result: (..., candidates).
    """
    return np.asarray(np.logical_and.accumulate(passes_all(p, delta), axis=-1))


def order_of(p: Floats, values: Sequence[float], names: Sequence[str]) -> list[int]:
    """Return candidates' order by tuning data: largest p-value smallest first, then the better objective, then names.

    Args:
        p: Tuning p-values.
        values: Each candidate's objective.
        names: Each candidate's name.

    Shape:
        p: (candidates, constraints).
    """
    largest = np.asarray(p).max(axis=-1)
    return sorted(range(len(names)), key=lambda i: (float(largest[i]), -values[i], names[i]))


def prompts_needed(
    bound: float,
    confidence: float = 0.95,
    side: Side = "at_most",
    *,
    rate: float | None = None,
    power: float = POWER,
    betting: bool = False,
) -> Needed:
    """Return how many prompts a certificate needs: 299 clean ones for at most 1 % at 95 %.

    Args:
        bound: In (0, 1).
        confidence: 1 - delta.
        side: Which side of the bound is to be certified.
        rate: The model's true rate; None: half the bound (of `at_least`: half way from the bound to 1).
        power: The chance to pass that `expected` is for.
        betting: By `betting_p` on values of 0 and 1, as win rates are tested; else by the exact test.

    Raises:
        DataError: The bound or the confidence is not inside (0, 1).
    """
    _check_open("bound", bound)
    _check_open("confidence", confidence)
    if side == "at_least":
        mirrored = None if rate is None else 1 - rate
        return prompts_needed(1 - bound, confidence, rate=mirrored, power=power, betting=betting)
    clean = math.ceil(round(math.log(1 - confidence) / math.log1p(-bound), 9))
    if betting:
        most = math.ceil(math.log(WEIGHTS[0] * (1 - confidence)) / math.log1p(-bound))  # who bets all needs no others
        clean += int(np.argmax(betting_p_of_events(0, np.arange(clean, most + 1), bound) <= 1 - confidence))
    true = bound / 2 if rate is None else rate
    return Needed(clean, None if true >= bound else _expected(clean, bound, 1 - confidence, true, power, betting))


def _expected(clean: int, bound: float, delta: float, rate: float, power: float, betting: bool) -> int | None:
    """Return the least number of prompts at which the test's power is reached; None: more than `MOST_PROMPTS`.

    Far from the least one it is not looked for: from `MANY` on the normal approximation errs by a few per cent.
    """
    ends = -scipy.stats.norm.ppf(delta) * math.sqrt(bound * (1 - bound)), scipy.stats.norm.ppf(power)
    about = ((ends[0] + ends[1] * math.sqrt(rate * (1 - rate))) / (bound - rate)) ** 2
    low = clean if betting or about * bound * (1 - bound) < MANY else max(clean, int(NEAR * about))
    while low <= MOST_PROMPTS:
        n = np.arange(low, low + max(1000, low // 20))
        allowed = (_allowed_by_betting if betting else _allowed)(n, bound, delta)
        reached = np.flatnonzero(scipy.stats.binom.cdf(allowed, n, rate) >= power)
        if reached.size:
            return int(n[reached[0]])
        low = int(n[-1]) + 1
    return None


def _allowed(n: NDArray[np.int64], bound: float, delta: float) -> Floats:
    """Return the most events with which the exact test still passes; -1: none do."""
    found = np.asarray(scipy.stats.binom.ppf(delta, n, bound))
    return found - (binomial_p(found, n, bound) > delta)


def _allowed_by_betting(n: NDArray[np.int64], bound: float, delta: float) -> Floats:
    """Return the most events among n values of 0 and 1 with which `betting_p` still passes; -1: none do."""
    low, high = np.full(len(n), -1), n.copy()  # low passes, or is -1; high fails
    while (high - low > 1).any():
        middle = (low + high) // 2
        passes = betting_p_of_events(middle, n, bound) <= delta
        low, high = np.where(passes, middle, low), np.where(passes, high, middle)
    return np.asarray(low, dtype=float)


def _check_open(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise DataError(
            f"a {name} that can be certified lies between 0 and 1",
            where=name,
            value=value,
            allowed="above 0 and below 1",
            do="give a fraction: 0.05 for 5 %; no number of prompts shows that something never happens",
        )
