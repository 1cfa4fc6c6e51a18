"""Intervals at the edge: one rule for every estimate whose data hardly vary.

A variance that was measured on a handful of differing clusters says little, and none at all where nothing differs.
There an end of the interval is Gaffke's bound: the data with one more imaginary cluster at the far end of the range,
all clusters weighted by a flat Dirichlet draw, and the quantile of the weighted mean. For a plain rate that is Clopper
and Pearson's exact end: 5 of 5 is at least .478. It is conservative.

Source: Gaffke 2005 (three test statistics for a nonparametric one-sided hypothesis on the mean of a nonnegative
variable); Clopper and Pearson 1934.
"""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import NDArray

LEVEL = 0.95
FEW_DIFFERING = 10
"""Fewer clusters that differ from the commonest value than this, and fewer than half, are too few for a variance."""
DRAWS = 9999
SAME = 1e-9

Floats = NDArray[np.float64]


def hardly_varies(values: Floats) -> bool:
    """Tell whether too few of the clusters' values differ from the commonest one to measure a variance."""
    differing = len(values) - int(_counts(values).max(initial=0))
    return differing < FEW_DIFFERING and 2 * differing < len(values)


def gaffke_ends(means: Floats, sizes: Floats, low: float, high: float, level: float = LEVEL) -> tuple[float, float]:
    """Return the ends of the interval of a mean of values in [low, high].

    Args:
        means: Each cluster's mean.
        sizes: Each cluster's items, which weigh its mean.
        low: The least that a value can be.
        high: The most.
        level: Of the two-sided interval.
    """
    tail = (1 - level) / 2
    upper = _upper((means - low) / (high - low), sizes, tail)
    lower = _upper((high - means) / (high - low), sizes, tail)
    return high - (high - low) * lower, low + (high - low) * upper


def _upper(means: Floats, sizes: Floats, tail: float) -> float:
    """Return the upper bound of a mean of values in [0, 1]; the imaginary cluster is of the mean size."""
    groups, counts = np.unique(np.round(np.column_stack([means, sizes]), 12), axis=0, return_counts=True)
    at_end = np.abs(means - 1) < SAME
    below = means[~at_end]
    if below.size == 0:
        return 1.0
    if np.ptp(below) < SAME and np.ptp(sizes) < SAME:  # two values: a beta distribution
        share = float(scipy.stats.beta.ppf(1 - tail, at_end.sum() + 1, below.size))
        return float(below[0]) + (1 - float(below[0])) * share
    rng = np.random.default_rng([len(means), len(groups)])
    weights = rng.gamma(np.append(counts, 1.0), size=(DRAWS, len(groups) + 1))
    weights = weights * np.append(groups[:, 1], sizes.mean())
    drawn = weights @ np.append(groups[:, 0], 1.0) / weights.sum(axis=1)
    return float(np.quantile(drawn, 1 - tail))


def _counts(values: Floats) -> NDArray[np.int64]:
    return np.unique(np.round(values, 9), return_counts=True)[1]
