"""95 % intervals of means and rates over independent clusters.

Items of one cluster (repeats, orders or phrasings of a prompt) are not independent; clusters are. Every interval here
takes the clusters' labels and falls back on one cluster an item.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from sacpo.data.records import Outcome
from sacpo.errors import DataError
from sacpo.stats.edge import LEVEL, SAME, gaffke_ends, hardly_varies
from sacpo.stats.estimate import Estimate

OUTCOME_VALUES = {Outcome.WIN: 1.0, Outcome.TIE: 0.5, Outcome.LOSS: 0.0}
FEW_EVENTS_FOR_VARIANCE = 0.5
FEW_EVENTS_FOR_SHAPE = 5.0
FEW_EVENTS_FOR_RATE = 2.0

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Numbers = Floats | float


def mean_interval(
    values: Sequence[float] | Floats,
    clusters: Sequence[Hashable] | Ints | None = None,
    *,
    unparsed: int = 0,
    bounds: tuple[float, float] | None = None,
    zero_is_exact: bool = False,
) -> Estimate:
    """Estimate a mean with a cluster-robust t interval.

    `mean +- t(m - 1) sqrt(m / (m - 1) sum_c (sum_{i in c} (v_i - mean))^2) / n` for m clusters of n items. The
    interval stays within the bounds, and where clusters hardly vary its ends are Gaffke's (`sacpo.stats.edge`).

    Args:
        values: Any finite numbers.
        clusters: Each value's cluster; None when all are independent.
        unparsed: Items left out before, reported beside the estimate.
        bounds: The least and the most that a value can be; None: not known.
        zero_is_exact: Values that are all 0 have a mean of 0 for certain: log-ratios of a model and itself.

    Returns:
        The estimate; without ends when there are fewer than two clusters, or no variation within unknown bounds.

    Raises:
        DataError: A value is not finite or out of bounds, or the clusters do not match the values.
    """
    data = _finite(values)
    if data.size == 0:
        return _nothing(unparsed)
    codes = cluster_codes(clusters, data.size)
    spread = _spread(data, codes)
    if spread.m < 2:
        return Estimate(spread.mean, None, None, data.size, spread.m, unparsed, "none: one cluster")
    least, most = bounds or (-math.inf, math.inf)
    if data.min() < least or data.max() > most:
        raise DataError("a value lies out of its bounds", value=[data.min(), data.max()], allowed=f"{least} to {most}")
    means = cluster_means(data, codes)
    if bounds is not None and hardly_varies(means):
        low, high = gaffke_ends(means, np.bincount(codes).astype(float), least, most)
        return Estimate(spread.mean, low, high, data.size, spread.m, unparsed, "Gaffke: hardly any variation")
    if (spread.variance == 0 or np.ptp(means) == 0) and not (zero_is_exact and np.abs(data).max() < SAME):
        return Estimate(spread.mean, None, None, data.size, spread.m, unparsed, "none: no variation")
    half = _t(spread.m - 1) * math.sqrt(spread.variance)
    low, high = max(least, spread.mean - half), min(most, spread.mean + half)
    return Estimate(spread.mean, low, high, data.size, spread.m, unparsed, "cluster t")


def rate_interval(successes: int, n: int, *, unparsed: int = 0, level: float = LEVEL) -> Estimate:
    """Estimate a rate of n independent items with the exact (Clopper-Pearson) interval.

    Raises:
        DataError: Not 0 <= successes <= n.
    """
    if not 0 <= successes <= n:
        raise DataError("a count of successes lies outside 0..n", value=successes, allowed=f"0 to {n}")
    if n == 0:
        return _nothing(unparsed)
    low, high = exact_ends(successes, n, level)
    return Estimate(successes / n, low, high, n, n, unparsed, "Clopper-Pearson")


def clustered_rate(
    flags: Sequence[bool] | Sequence[int] | Floats,
    clusters: Sequence[Hashable] | None = None,
    *,
    unparsed: int = 0,
    level: float = LEVEL,
) -> Estimate:
    """Estimate a rate: exact if every cluster has one item, else with the clusters' effective sample size.

    With clusters the Clopper-Pearson ends are computed for the effective sample size (Korn and Graubard 1998). Where
    too few events were seen to measure how alike a cluster's items are, they count as wholly alike: no event in n
    items of m clusters bounds the rate as m items would.

    Args:
        flags: True where the event occurred.
        clusters: Each flag's cluster; None when all are independent.
        unparsed: Items left out before.
        level: Of the two-sided interval; at .9 the upper end is the one-sided 95 % bound.

    Raises:
        DataError: A flag is neither 0 nor 1, or the clusters do not match the flags.
    """
    data = _finite(flags)
    if not np.isin(data, (0.0, 1.0)).all():
        raise DataError("a flag is neither true nor false", value=data[~np.isin(data, (0.0, 1.0))][0], allowed="0, 1")
    codes = cluster_codes(clusters, data.size)
    if data.size == 0 or codes.max() + 1 == data.size:
        return rate_interval(int(data.sum()), data.size, unparsed=unparsed, level=level)
    spread = _spread(data, codes)
    if spread.m < 2:
        return Estimate(spread.mean, 0.0, 1.0, data.size, 1, unparsed, "none: one cluster")
    effective = _effective_n(spread, data.size)
    low, high = exact_ends(spread.mean * effective, effective, level)
    method = f"Korn-Graubard, effective n {effective:.1f}"
    return Estimate(spread.mean, low, high, data.size, spread.m, unparsed, method)


def win_rate(
    outcomes: Iterable[float | Outcome], clusters: Sequence[Hashable] | None = None, *, unparsed: int = 0
) -> Estimate:
    """Estimate a win rate: wins 1, ties .5, losses 0, or a prompt's mean of these.

    A Wilson interval whose variance is the clusters' own: with `r = V / (p (1 - p))`, V the cluster-robust variance of
    the mean, the ends solve `(p - x)^2 = t^2 r x (1 - x)`. Near 0 and 1 too few events are seen to estimate V; there
    `r` shrinks towards that of wholly alike clusters, and the interval widens (see `win_ends`).

    Simulated coverage: 93 to 97 % from 83 prompts on at rates .1 to .9, at least 93 % from 30 prompts at .03 to .97.

    Args:
        outcomes: Outcomes or values in [0, 1]; unparsed outcomes are left out and counted.
        clusters: Each outcome's cluster; None when all are independent.
        unparsed: Items left out before.

    Raises:
        DataError: A value lies outside [0, 1], or the clusters do not match the outcomes.
    """
    kept, labels, unread = _values(list(outcomes), clusters)
    unparsed += unread
    if kept.size == 0:
        return _nothing(unparsed)
    spread = _spread(kept, cluster_codes(labels, kept.size))
    if spread.m < 2:
        return Estimate(spread.mean, 0.0, 1.0, kept.size, 1, unparsed, "none: one cluster")
    low, high = win_ends(spread.mean, spread.variance, spread.kish, spread.m)
    return Estimate(spread.mean, float(low), float(high), kept.size, spread.m, unparsed, "cluster Wilson t")


def exact_ends(successes: float, n: float, level: float = LEVEL) -> tuple[float, float]:
    """Return the Clopper-Pearson ends; both counts may be fractional (effective sizes)."""
    tail = (1 - level) / 2
    low = 0.0 if successes <= 0 else float(scipy.stats.beta.ppf(tail, successes, n - successes + 1))
    high = 1.0 if successes >= n else float(scipy.stats.beta.ppf(1 - tail, successes + 1, n - successes))
    return low, high


def upper_bound(successes: int, n: int, level: float = LEVEL) -> float:
    """Return the exact one-sided upper bound of a rate: 0 of 83 gives .035.

    Raises:
        DataError: Not 0 <= successes <= n, or n is 0.
    """
    if n < 1 or not 0 <= successes <= n:
        raise DataError("a count of successes lies outside 0..n", value=successes, allowed=f"0 to {n}, n >= 1")
    return exact_ends(successes, n, 1 - 2 * (1 - level))[1]


def win_ends(p: Numbers, variance: Numbers, kish: Numbers, m: int) -> tuple[Floats, Floats]:
    """Return the ends of `win_rate`'s interval, element by element.

    With `h = t^2 r` the centre is `c = (p + h/2) / (1 + h)` and the half width Wilson's,
    `sqrt(h p (1 - p) + h^2/4) / (1 + h)`, blended near 0 and 1 with Agresti and Coull's wider
    `sqrt(h c (1 - c) / (1 + h))`, which keeps the coverage where Wilson's dips.

    Args:
        p: Win rates.
        variance: Cluster-robust variances of p.
        kish: Sum of squared cluster shares: 1/m for clusters of equal size.
        m: Clusters, at least 2.

    Shape:
        p, variance, kish and both results: broadcastable.
    """
    h = _t(m - 1) ** 2 * _unit_variance(p, variance, kish, m)
    centre = (p + h / 2) / (1 + h)
    wilson = np.sqrt(h * p * (1 - p) + h * h / 4) / (1 + h)
    wide = np.sqrt(h * centre * (1 - centre) / (1 + h))
    known = _evidence(p, kish, FEW_EVENTS_FOR_SHAPE)
    half = known * wilson + (1 - known) * wide
    low = np.where(p <= 0, 0.0, np.maximum(0.0, centre - half))
    high = np.where(p >= 1, 1.0, np.minimum(1.0, centre + half))
    return low, high


def cluster_codes(clusters: Sequence[Hashable] | Ints | None, n: int) -> Ints:
    """Return each item's cluster as a number 0, 1, ... in order of first appearance.

    Raises:
        DataError: There are not exactly n labels.
    """
    if clusters is None:
        return np.arange(n)
    if len(clusters) != n:
        raise DataError("as many cluster labels as values are needed", value=len(clusters), allowed=n)
    if isinstance(clusters, np.ndarray):
        _, first, places = np.unique(clusters, return_index=True, return_inverse=True)
        return np.argsort(np.argsort(first))[places]
    seen: dict[Hashable, int] = {}
    return np.array([seen.setdefault(label, len(seen)) for label in clusters], dtype=np.int64)


def cluster_means(data: Floats, codes: Ints) -> Floats:
    """Return each cluster's mean, by its number; the items' order does not matter."""
    order = np.lexsort((data, codes))
    return np.bincount(codes[order], weights=data[order]) / np.bincount(codes)


@dataclass(frozen=True, slots=True)
class _Spread:
    """The mean, its cluster-robust variance, the number of clusters, and sum of squared cluster shares."""

    mean: float
    variance: float
    m: int
    kish: float


def _spread(data: Floats, codes: Ints) -> _Spread:
    mean = math.fsum(data) / data.size
    sizes = np.bincount(codes)
    order = np.lexsort((data, codes))  # sums that do not depend on the items' order, to the last bit
    deviations = np.bincount(codes[order], weights=data[order] - mean)
    m = sizes.size
    squares = math.fsum(deviations**2)
    variance = squares * m / (m - 1) / data.size**2 if m > 1 else math.inf
    return _Spread(mean, variance, m, float((sizes.astype(float) ** 2).sum()) / data.size**2)


def _evidence(p: Numbers, kish: Numbers, few: float) -> Floats:
    """Return how far the data speak: 0 without wins or without losses, near 1 from `few` (squared) events on."""
    events = np.minimum(p, 1 - p) / kish
    return np.asarray(events**2 / (events**2 + few))


def _unit_variance(p: Numbers, variance: Numbers, kish: Numbers, m: int) -> Floats:
    """Return the mean's variance over p (1 - p), one over the effective sample size; never below kish / m."""
    bernoulli = p * (1 - p)
    measured = np.where(bernoulli > 0, variance / np.where(bernoulli > 0, bernoulli, 1.0), kish)
    known = _evidence(p, kish, FEW_EVENTS_FOR_VARIANCE)
    return np.maximum(known * measured + (1 - known) * kish, kish / m)


def _effective_n(spread: _Spread, n: int) -> float:
    """Return the effective sample size of n flags, less the price of having estimated it from m clusters."""
    known = float(_evidence(spread.mean, spread.kish, FEW_EVENTS_FOR_RATE))
    bernoulli = spread.mean * (1 - spread.mean)
    measured = known * spread.variance / bernoulli + (1 - known) * spread.kish if bernoulli > 0 else spread.kish
    penalty = (_t(n - 1) / _t(spread.m - 1)) ** 2
    return min(1 / measured, n) * (known * penalty + 1 - known)


def _values(
    outcomes: list[float | Outcome], clusters: Sequence[Hashable] | None
) -> tuple[Floats, list[Hashable] | None, int]:
    labels = None if clusters is None else list(clusters)
    if labels is not None and len(labels) != len(outcomes):
        raise DataError("as many cluster labels as outcomes are needed", value=len(labels), allowed=len(outcomes))
    read = [i for i, outcome in enumerate(outcomes) if outcome is not Outcome.UNPARSED]
    data = _finite([_value(outcomes[i]) for i in read])
    if ((data < 0) | (data > 1)).any():
        raise DataError("a win value lies outside [0, 1]", value=float(data[(data < 0) | (data > 1)][0]))
    kept = None if labels is None else [labels[i] for i in read]
    return data, kept, len(outcomes) - len(read)


def _value(outcome: float | Outcome) -> float:
    return OUTCOME_VALUES[outcome] if isinstance(outcome, Outcome) else float(outcome)


def _finite(values: Iterable[float]) -> Floats:
    data = np.asarray(values if isinstance(values, np.ndarray) else list(values), dtype=np.float64)
    if not np.isfinite(data).all():
        raise DataError("a value is not a finite number", value=float(data[~np.isfinite(data)][0]))
    return data


@functools.cache
def _t(df: int) -> float:
    return float(scipy.stats.t.ppf((1 + LEVEL) / 2, df))


def _nothing(unparsed: int) -> Estimate:
    return Estimate(None, None, None, 0, 0, unparsed, "none: nothing counted")
