"""Tests between two models on the same prompts, what a study can detect, and correction over a table."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy
from numpy.typing import NDArray

from sacpo.errors import DataError
from sacpo.stats.edge import LEVEL, hardly_varies
from sacpo.stats.estimate import Estimate
from sacpo.stats.intervals import cluster_codes, cluster_means, mean_interval

EXACT_UP_TO = 14
FEWEST_CLUSTERS = 2
TOLERANCE = 1e-9
FINEST_STEP = 64
"""Win rates move in steps of 1/2 over orders and repeats; sums in no step of 1/64 or coarser are not enumerated."""
MOST_STEPS = 20_000
RATES = (-1.0, 1.0)
"""Bounds of the difference of two rates."""

Bounds = tuple[float, float] | None
Clusters = Sequence[Hashable] | NDArray[np.int64] | None
Numbers = Sequence[float] | NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PairedTest:
    """A two-sided test of "no difference" between two models' values on the same prompts.

    Attributes:
        difference: Mean of first minus second, with its clustered interval.
        p_value: Two-sided.
        better, worse, equal: Clusters in which the first model's sum is higher, lower, equal.
        method: The test, and whether it was exact.
    """

    difference: Estimate
    p_value: float
    better: int
    worse: int
    equal: int
    method: str


@dataclass(frozen=True, slots=True)
class Pairing:
    """Two models' values on the same prompts, for all tests of the two.

    Attributes:
        data: First minus second, a prompt each.
        codes: Each prompt's cluster as a number.
        sums: Each cluster's sum of the differences.
        difference: The mean difference, with its clustered interval.
        bounds: The least and the most that a difference can be; None: not known.
    """

    data: NDArray[np.float64]
    codes: NDArray[np.int64]
    sums: NDArray[np.float64]
    difference: Estimate
    bounds: Bounds

    @classmethod
    def of(cls, first: Numbers, second: Numbers, clusters: Clusters = None, bounds: Bounds = None) -> Pairing:
        """Return the pairing.

        Raises:
            DataError: The two models' values do not match, or there are none.
        """
        data = _differences(first, second)
        codes = cluster_codes(clusters, data.size)
        difference = mean_interval(data, codes, bounds=bounds)
        order = np.lexsort((data, codes))
        sums = np.bincount(codes[order], weights=data[order]).astype(np.float64)
        return cls(data, codes, sums, difference, bounds)

    def sign_test(self) -> PairedTest:
        """See `sign_test`."""
        better, worse, equal = _signs(self.sums)
        return PairedTest(self.difference, _even_p(better, worse), better, worse, equal, "sign test, exact")

    def sign_flip_test(self, seed: int = 0, draws: int = 9999) -> PairedTest:
        """See `sign_flip_test`."""
        moved = np.sort(self.sums[np.abs(self.sums) > TOLERANCE])
        bound = abs(math.fsum(moved)) - TOLERANCE
        exact = PairedTest(self.difference, 1.0, *_signs(self.sums), "sign-flip permutation, exact")
        steps = _steps(np.abs(moved))
        if steps is not None:
            return replace(exact, p_value=_lattice_p(*steps, bound))
        if moved.size <= EXACT_UP_TO:
            patterns = np.array(list(itertools.product((-1.0, 1.0), repeat=moved.size)))
            return replace(exact, p_value=float(np.mean(np.abs(patterns @ moved) >= bound)))
        rng = np.random.default_rng([seed, moved.size])
        extreme = sum(
            int((np.abs(rng.choice((-1.0, 1.0), size=(block, moved.size)) @ moved) >= bound).sum())
            for block in _blocks(draws, moved.size)
        )
        method = f"sign-flip permutation, {draws} draws"
        return replace(exact, p_value=(1 + extreme) / (1 + draws), method=method)

    def sd(self) -> float:
        """See `difference_sd`."""
        means = cluster_means(self.data, self.codes)
        if means.size < 2:
            raise DataError("a standard deviation needs at least two clusters", value=int(means.size))
        if self.bounds is not None and hardly_varies(means):
            means = np.concatenate([means, self.bounds])
        return float(means.std(ddof=1))

    def detectable(self) -> float | None:
        """See `detectable_difference`."""
        if self.sums.size < FEWEST_CLUSTERS:
            return None
        sd = self.sd()
        most = math.inf if self.bounds is None else self.bounds[1]
        return within(minimum_detectable_difference(self.sums.size, sd=sd), most) if sd > 0 else None


def sign_test(
    first: Sequence[float],
    second: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    *,
    bounds: Bounds = None,
) -> PairedTest:
    """Test by the signs of the clusters' differences: `Binomial(better + worse, 1/2)`, equal ones left out.

    `bounds` are the least and the most that a difference can be: `RATES` for rates, None for scores.

    Raises:
        DataError: The two models' values do not match, or there are none.
    """
    return Pairing.of(first, second, clusters, bounds).sign_test()


def sign_flip_test(
    first: Sequence[float],
    second: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    *,
    bounds: Bounds = None,
    seed: int = 0,
    draws: int = 9999,
) -> PairedTest:
    """Test by flipping the signs of the clusters' summed differences.

    Exact where the sums are multiples of one step, as those of win rates are: the signed sum's distribution is a
    convolution of binomials, one a size of difference. Exact too with at most 14 clusters that differ: all sign
    patterns are enumerated. Beyond, `p = (1 + #{|S*| >= |S|}) / (1 + draws)` over seeded random patterns, which keeps
    the level exactly.

    Raises:
        DataError: The two models' values do not match, or there are none.
    """
    return Pairing.of(first, second, clusters, bounds).sign_flip_test(seed, draws)


def _steps(sizes: NDArray[np.float64]) -> tuple[NDArray[np.int64], int] | None:
    """Return the sizes as whole steps and how many make one, `sizes = steps / n`; None where no coarse step fits."""
    for n in range(1, FINEST_STEP + 1):
        whole = np.rint(sizes * n)
        if np.all(np.abs(sizes * n - whole) <= TOLERANCE):
            return (whole.astype(np.int64), n) if whole.sum() <= MOST_STEPS else None
    return None


def _lattice_p(steps: NDArray[np.int64], n: int, bound: float) -> float:
    """Return P(|sum of +-steps| / n >= bound) under fair signs.

    With T the steps that keep their sign, the sum is 2 T - total, and T adds up `size x Binomial(count, 1/2)`.
    """
    total = np.ones(1)
    for size, count in zip(*np.unique(steps, return_counts=True), strict=True):
        part = np.zeros(int(size * count) + 1)
        part[::size] = _fair(int(count))
        total = np.convolve(total, part)
    sums = np.abs(2 * np.arange(total.size) - (total.size - 1)) / n
    # Far tails underflow; no p value is nothing, as the patterns themselves are among those counted.
    return float(np.clip(total[sums >= bound].sum(), np.finfo(np.float64).tiny, 1.0))


@functools.lru_cache(maxsize=512)
def _fair(n: int) -> NDArray[np.float64]:
    """Return the probabilities of 0, ..., n heads of a fair coin."""
    found: NDArray[np.float64] = scipy.stats.binom.pmf(np.arange(n + 1), n, 0.5)
    return found


@functools.lru_cache(maxsize=8192)
def _even_p(better: int, worse: int) -> float:
    return float(scipy.stats.binomtest(better, better + worse).pvalue) if better + worse else 1.0


def minimum_detectable_difference(
    n: int, *, sd: float = 0.5, power: float = 0.8, level: float = 1 - LEVEL, tests: int = 1
) -> float:
    """Return the smallest true difference that n independent prompts detect with this power.

    `(t_{1 - level/2} + t_power) sd / sqrt(n)`, two-sided, n - 1 degrees of freedom.

    Args:
        n: Prompts, or clusters of them; at least 2.
        sd: Standard deviation of a prompt's value: .5 is the most a win rate against a baseline can have; for two
            models on the same prompts, that of their differences (see `difference_sd`).
        power: Probability of detecting it.
        level: Two-sided significance level.
        tests: Comparisons in the table; the level is divided by it (Bonferroni, Holm's first step).

    Raises:
        DataError: n < 2, or a probability outside (0, 1).
    """
    if n < 2 or tests < 1 or sd < 0 or not (0 < power < 1 and 0 < level < 1):
        raise DataError(
            "no detectable difference for these numbers",
            value={"n": n, "sd": sd, "power": power, "level": level, "tests": tests},
            allowed="n >= 2, tests >= 1, sd >= 0, power and level in (0, 1)",
        )
    return float(_quantiles(1 - level / tests / 2, power, n - 1) * sd / math.sqrt(n))


@functools.lru_cache(maxsize=512)
def _quantiles(first: float, second: float, df: int) -> float:
    return float(scipy.stats.t.ppf(first, df) + scipy.stats.t.ppf(second, df))


def difference_sd(
    first: Sequence[float],
    second: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    *,
    bounds: Bounds = None,
) -> float:
    """Return the standard deviation of the clusters' mean differences, for `minimum_detectable_difference`.

    Where they hardly vary, one more cluster at each of the bounds counts: without any variation nothing is known of it.

    Raises:
        DataError: The two models' values do not match, or there are fewer than two clusters.
    """
    return Pairing.of(first, second, clusters, bounds).sd()


def detectable_difference(
    first: Sequence[float],
    second: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    *,
    bounds: Bounds = None,
) -> float | None:
    """Return what these prompts detect of two models' difference (see `minimum_detectable_difference`).

    None where they cannot tell: fewer than two clusters, scores that do not vary, or a difference beyond the bounds.

    Raises:
        DataError: The two models' values do not match.
    """
    return Pairing.of(first, second, clusters, bounds).detectable()


def within(distance: float, most: float) -> float | None:
    """Return a detectable distance, or None where it is more than any that there can be."""
    return distance if distance <= most else None


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p values in the same order: they hold for the whole table at once.

    Sorted ascending, `max_{j <= i} min(1, (m - j + 1) p_(j))`.

    Raises:
        DataError: A p value lies outside [0, 1].
    """
    if any(not 0 <= p <= 1 for p in p_values):
        raise DataError("a p value lies outside [0, 1]", value=list(p_values))
    m, highest = len(p_values), 0.0
    adjusted = [0.0] * m
    for rank, index in enumerate(sorted(range(m), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (m - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def _differences(first: Numbers, second: Numbers) -> NDArray[np.float64]:
    if len(first) != len(second) or len(first) == 0:
        raise DataError("a paired test needs both models' values of the same prompts", value=(len(first), len(second)))
    return np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)


def _signs(sums: NDArray[np.float64]) -> tuple[int, int, int]:
    better, worse = int((sums > TOLERANCE).sum()), int((sums < -TOLERANCE).sum())
    return better, worse, sums.size - better - worse


def _blocks(draws: int, width: int, cells: int = 4_000_000) -> list[int]:
    size = max(1, cells // width)
    return [min(size, draws - start) for start in range(0, draws, size)]
