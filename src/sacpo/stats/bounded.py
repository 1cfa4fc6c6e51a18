"""Bounds of bounded scores: their mean, the mean of their worst tail, and the worst of several groups.

Source: Waudby-Smith and Ramdas, arXiv 2010.09686 (betting); Dvoretzky, Kiefer and Wolfowitz with Massart's constant,
1990; Thomas and Learned-Miller, Concentration inequalities for conditional value at risk, 2019.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sacpo.errors import DataError
from sacpo.stats.certificates import Side, betting_bound, betting_p

Floats = NDArray[np.float64]
Range = tuple[float, float]


def in_range(scores: Sequence[float] | Floats, declared: Range) -> Floats:
    """Return scores as shares of their declared range, 0 at its low end.

    Raises:
        DataError: The range is none, there is no score, or a score is no number or lies outside.
    """
    low, high = declared
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise DataError("not a range", where="range", value=list(declared), allowed="two numbers, the lower first")
    values = np.asarray(scores, dtype=float)
    if not values.size:
        raise DataError("there are no scores to certify", where="range", do="judge some answers")
    wrong = values[~((values >= low) & (values <= high))]  # NaN is neither
    if wrong.size:
        nan = bool(np.isnan(wrong).any())
        raise DataError(
            f"{wrong.size} of {values.size} scores {'are no numbers' if nan else 'lie outside the declared range'}",
            where="range",
            value="NaN" if nan else float(wrong[0]),
            allowed=f"{low:g} to {high:g}",
            do="find why they could not be scored" if nan else "declare the range that the judge's scores can have",
        )
    return np.asarray((values - low) / (high - low))


def mean_p(scores: Sequence[float] | Floats, bound: float, declared: Range, side: Side = "at_most") -> float:
    """Return the p-value of "the mean violates its bound", by betting; errors as of `in_range`.

    Raises:
        DataError: The bound lies outside the range: no data are needed for it, or none suffice.
    """
    low, high = declared
    values = in_range(scores, declared)
    if not low < bound < high:
        raise DataError("the bound lies outside the declared range", where="range", value=bound, allowed=list(declared))
    return float(betting_p(values, (bound - low) / (high - low), side))


def mean_bound(scores: Sequence[float] | Floats, confidence: float, declared: Range, side: Side = "at_most") -> float:
    """Return the one-sided bound of a mean, by betting; errors as of `in_range`."""
    low, high = declared
    return low + (high - low) * betting_bound(in_range(scores, declared), confidence, side)


def cvar_bound(losses: Sequence[float] | Floats, tail: float, confidence: float, declared: Range) -> float:
    """Return an upper bound of CVaR: the mean of the worst share `tail` of independent losses, larger is worse.

    The distribution function lies at most `eps = sqrt(ln(1 / delta) / (2 n))` below the empirical one with probability
    1 - delta, so the worst case moves a mass of eps from the smallest losses to the range's high end.

    Raises:
        DataError: As of `in_range`; or the tail or the confidence is out of range.
    """
    if not 0 < tail <= 1:
        raise DataError("a tail is a share", where="tail", value=tail, allowed="above 0, at most 1")
    if not 0.5 <= confidence < 1:
        raise DataError(
            "the confidence is out of range", where="confidence", value=confidence, allowed="0.5 to below 1"
        )
    values = np.sort(in_range(losses, declared))
    n = len(values)
    eps = min(1.0, math.sqrt(math.log(1 / (1 - confidence)) / (2 * n)))
    weights = np.full(n, 1 / n)
    spent = np.minimum(np.cumsum(weights), eps)  # the mass that leaves the smallest losses
    weights -= np.diff(spent, prepend=0.0)
    points, mass = np.append(values, 1.0), np.append(weights, eps)
    upper = np.minimum(np.cumsum(mass[::-1]), tail)  # the worst share, from above
    share = np.diff(upper, prepend=0.0)
    low, high = declared
    return low + (high - low) * min(1.0, float((share * points[::-1]).sum() / tail))


def cvar_p(losses: Sequence[float] | Floats, bound: float, tail: float, declared: Range) -> float:
    """Return the p-value of "CVaR is at least the bound": the least delta whose `cvar_bound` meets it; at most 0.5."""
    if cvar_bound(losses, tail, 0.5, declared) > bound:
        return 1.0
    low, high = math.log(1e-15), math.log(0.5)
    for _ in range(50):
        middle = (low + high) / 2
        passes = cvar_bound(losses, tail, 1 - math.exp(middle), declared) <= bound
        low, high = (low, middle) if passes else (middle, high)
    return math.exp(high)


def worst_p(p: Sequence[float] | Floats) -> float:
    """Return the p-value of "some group violates its bound": the largest one (intersection-union, no correction)."""
    return float(np.max(p))


def every_p(p: Sequence[float] | Floats) -> Floats:
    """Return p-values with which each group may be certified by itself beside the others (Bonferroni)."""
    values = np.asarray(p, dtype=float)
    return np.asarray(np.minimum(1.0, values * len(values)))
