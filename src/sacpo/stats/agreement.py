"""Agreement of raters beyond chance: Cohen's and Fleiss' kappa with intervals clustered by item."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence

import numpy as np
import scipy
from numpy.typing import NDArray

from sacpo.errors import DataError
from sacpo.stats.edge import LEVEL, SAME, gaffke_ends, hardly_varies
from sacpo.stats.estimate import Estimate
from sacpo.stats.intervals import cluster_codes, clustered_rate

Label = Hashable | None
Floats = NDArray[np.float64]


def agreement_rate(
    first: Sequence[Label], second: Sequence[Label], clusters: Sequence[Hashable] | None = None
) -> Estimate:
    """Estimate how often two raters give the same label; items that either did not label (None) are left out."""
    kept, clusters, unread = _both_read(first, second, clusters)
    return clustered_rate([a == b for a, b in kept], clusters, unparsed=unread)


def cohen_kappa(
    first: Sequence[Label], second: Sequence[Label], clusters: Sequence[Hashable] | None = None
) -> Estimate:
    """Estimate Cohen's kappa of two raters, `(p_o - p_e) / (1 - p_e)`, p_e from each rater's own label shares.

    The interval is a jackknife over clusters with t quantiles. Where the clusters hardly vary, all or nearly all of
    them in agreement or none, its ends are the kappas at Gaffke's ends of the observed agreement (`sacpo.stats.edge`;
    Clopper and Pearson's for single items), with chance as measured.

    Args:
        first: One rater's labels; None where there is none (an unparsed reply): such items are left out and counted.
        second: The other's, item by item.
        clusters: Each item's cluster; None when items are independent.

    Raises:
        DataError: The raters did not label the same items.
    """
    kept, clusters, unread = _both_read(first, second, clusters)
    names = {label: i for i, label in enumerate(sorted({label for pair in kept for label in pair}, key=repr))}
    k = max(len(names), 1)
    tables = np.zeros((len(kept), k, k))
    for i, (a, b) in enumerate(kept):
        tables[i, names[a], names[b]] = 1
    return _jackknifed(tables.reshape(len(kept), k * k), clusters, unread, lambda t: _cohen(t.reshape(-1, k, k)))


def fleiss_kappa(ratings: Sequence[Sequence[Label]], clusters: Sequence[Hashable] | None = None) -> Estimate:
    """Estimate Fleiss' kappa of several raters, who may differ from item to item.

    `P_i = sum_j n_ij (n_ij - 1) / (n_i (n_i - 1))`, `kappa = (mean P - P_e) / (1 - P_e)` with `P_e` from the pooled
    label shares. Labels that are None are left out; an item with fewer than two labels is left out and counted.

    Args:
        ratings: One sequence of labels an item.
        clusters: Each item's cluster; None when items are independent.

    Raises:
        DataError: The clusters do not match the items.
    """
    if clusters is not None and len(clusters) != len(ratings):
        raise DataError("as many cluster labels as items are needed", value=len(clusters), allowed=len(ratings))
    read = [[label for label in item if label is not None] for item in ratings]
    kept = [i for i, item in enumerate(read) if len(item) >= 2]
    names = {label: j for j, label in enumerate(sorted({label for i in kept for label in read[i]}, key=repr))}
    counts = np.zeros((len(kept), max(len(names), 1)))
    for row, i in enumerate(kept):
        for label in read[i]:
            counts[row, names[label]] += 1
    n = counts.sum(axis=1)
    agreed = (counts * (counts - 1)).sum(axis=1) / np.where(n > 1, n * (n - 1), 1)
    rows = np.column_stack([np.ones(len(kept)), agreed, counts])
    labels = None if clusters is None else [clusters[i] for i in kept]
    return _jackknifed(rows, labels, len(ratings) - len(kept), _fleiss)


def _cohen(tables: Floats) -> tuple[Floats, Floats]:
    """Return observed and chance agreement of contingency tables; Shape: tables (draws, k, k)."""
    n = tables.sum(axis=(1, 2))
    observed = np.trace(tables, axis1=1, axis2=2) / n
    return observed, (tables.sum(axis=1) * tables.sum(axis=2)).sum(axis=1) / n**2


def _fleiss(rows: Floats) -> tuple[Floats, Floats]:
    """Return observed and chance agreement of sums of (1, P_i, n_i1, ..., n_ik); Shape: rows (draws, 2 + k)."""
    shares = rows[:, 2:] / rows[:, 2:].sum(axis=1, keepdims=True)
    return rows[:, 1] / rows[:, 0], (shares**2).sum(axis=1)


def _beyond_chance(observed: Floats, expected: Floats) -> Floats:
    """Return kappas; NaN where only one label was given, so that chance alone agrees always."""
    room = 1 - expected
    return np.where(room > 1e-12, (observed - expected) / np.where(room > 1e-12, room, 1.0), np.nan)


def _jackknifed(
    rows: Floats,
    clusters: Sequence[Hashable] | None,
    unread: int,
    agreement: Callable[[Floats], tuple[Floats, Floats]],
) -> Estimate:
    """Estimate the kappa of summed rows with a leave-one-cluster-out interval; the rows' order does not matter."""
    codes = cluster_codes(clusters, len(rows))
    n, m = len(rows), int(codes.max()) + 1 if len(rows) else 0
    if m == 0:
        return Estimate(None, None, None, 0, 0, unread, "none: nothing counted")
    order = np.lexsort(rows.T)
    rows, codes = rows[order], codes[order]
    total = rows.sum(axis=0, keepdims=True)
    observed, expected = agreement(total)
    value = float(_beyond_chance(observed, expected)[0])
    if math.isnan(value):
        return Estimate(None, None, None, n, m, unread, "none: only one label was ever given")
    if m < 2:
        return Estimate(value, None, None, n, m, unread, "none: one cluster")
    sums = np.zeros((m, rows.shape[1]))
    np.add.at(sums, codes, rows)
    left_out = _beyond_chance(*agreement(total - sums))
    left_out = np.sort(np.where(np.isnan(left_out), value, left_out))
    means = agreement(sums)[0]
    half = float(scipy.stats.t.ppf((1 + LEVEL) / 2, m - 1)) * math.sqrt((m - 1) * float(left_out.var()))
    low, high, method = value - half, value + half, "cluster jackknife t"
    if hardly_varies(means) or np.ptp(left_out) < SAME:
        ends = gaffke_ends(means, np.bincount(codes).astype(float), 0.0, 1.0)
        least, most = ((end - float(expected[0])) / (1 - float(expected[0])) for end in ends)
        low, high, method = min(low, least), max(high, most), "Gaffke: hardly any variation"
    return Estimate(value, max(-1.0, low), min(1.0, high), n, m, unread, method)


def _both_read(
    first: Sequence[Label], second: Sequence[Label], clusters: Sequence[Hashable] | None
) -> tuple[list[tuple[Hashable, Hashable]], list[Hashable] | None, int]:
    if len(first) != len(second) or (clusters is not None and len(clusters) != len(first)):
        sizes = (len(first), len(second), None if clusters is None else len(clusters))
        raise DataError("two raters must label the same items", value=sizes, allowed="equal lengths")
    pairs = [(i, a, b) for i, (a, b) in enumerate(zip(first, second, strict=True)) if a is not None and b is not None]
    labels = None if clusters is None else [clusters[i] for i, _, _ in pairs]
    return [(a, b) for _, a, b in pairs], labels, len(first) - len(pairs)
