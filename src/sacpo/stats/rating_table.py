"""Comparisons as counts, and whether their Bradley-Terry likelihood has a maximum."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray

from sacpo.errors import DataError

WIN, TIE, LOSS = 0, 1, 2
COLUMNS = {1.0: WIN, 0.5: TIE, 0.0: LOSS}

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


class Comparison(NamedTuple):
    """One verdict between two models; `value` is the first's: 1, .5 or 0; comparisons of a cluster are dependent."""

    cluster: Hashable
    first: str
    second: str
    value: float


@dataclass(frozen=True, slots=True)
class Table:
    """Counts by cluster, pair and outcome, all sorted by name.

    Shape:
        counts: (clusters, pairs, 3). pairs: (pairs, 2). design: (pairs, models - 1).
    """

    names: list[str]
    anchor: int
    pairs: NDArray[np.int64]
    counts: Floats
    design: Floats

    @classmethod
    def of(cls, comparisons: Iterable[Comparison], baseline: str) -> Table:
        """Count the comparisons, whose order and sides do not matter.

        Raises:
            DataError: A model is compared with itself, a value is not 0, .5 or 1, the baseline takes part in no
                comparison, or no comparison links some models to it.
        """
        kept = [_sorted_pair(comparison) for comparison in comparisons]
        names = sorted({name for item in kept for name in (item.first, item.second)})
        if baseline not in names:
            raise DataError("the baseline takes part in no comparison", value=baseline, allowed=names)
        place = {name: i for i, name in enumerate(names)}
        pair_names = sorted({(item.first, item.second) for item in kept})
        pair_place = {pair: i for i, pair in enumerate(pair_names)}
        clusters = {c: i for i, c in enumerate(sorted({item.cluster for item in kept}, key=repr))}
        cells = np.array(
            [(clusters[c], pair_place[first, second], COLUMNS[value]) for c, first, second, value in kept],
            dtype=np.int64,
        )
        counts = np.zeros((len(clusters), len(pair_names), len(COLUMNS)))
        np.add.at(counts, tuple(cells.T), 1)
        pairs = np.array([(place[a], place[b]) for a, b in pair_names])
        full = np.eye(len(names))[pairs[:, 0]] - np.eye(len(names))[pairs[:, 1]]
        table = cls(names, place[baseline], pairs, counts, np.delete(full, place[baseline], axis=1))
        table.check_linked()
        return table

    def check_linked(self) -> None:
        """Raise if some models meet no others, even indirectly: nothing could be said of them."""
        parts, labels = scipy.sparse.csgraph.connected_components(self._graph(self.pairs), directed=False)
        if parts > 1:
            apart = [name for name, label in zip(self.names, labels, strict=True) if label != labels[self.anchor]]
            raise DataError("models that no comparison links to the baseline", value=apart, do="leave them out")

    def with_ties_halved(self) -> Table:
        """Return the table with every tie as half a win of either side."""
        won = self.counts[..., [WIN]] + self.counts[..., [TIE]] / 2
        lost = self.counts[..., [LOSS]] + self.counts[..., [TIE]] / 2
        return replace(self, counts=np.concatenate([won, np.zeros_like(won), lost], axis=-1))

    def of_model(self, counts: Floats, model: int) -> Floats:
        """Return one model's wins, ties and losses; Shape: counts (..., pairs, 3) to (..., 3)."""
        first, second = self.pairs[:, 0] == model, self.pairs[:, 1] == model
        return np.asarray(counts[..., first, :].sum(axis=-2) + counts[..., second, ::-1].sum(axis=-2))

    def apart(self, counts: Floats) -> Flags:
        """Tell for each resample which models have no finite rating: the likelihood has no maximum for them.

        A model is apart from the baseline unless wins and ties lead from each to the other. All models are where the
        tie parameter itself has no finite value: all grow with it, winners by twice as much.

        Shape:
            counts: (draws, pairs, 3) to (draws, models).
        """
        seen = counts > 0
        patterns, inverse = np.unique(seen.reshape(len(seen), -1), axis=0, return_inverse=True)
        found = np.array([self._apart(pattern.reshape(-1, len(COLUMNS))) for pattern in patterns])
        return np.asarray(found[inverse.ravel()])

    def _apart(self, seen: Flags) -> Flags:
        forward, backward = seen[:, WIN] | seen[:, TIE], seen[:, LOSS] | seen[:, TIE]
        ends = np.concatenate([self.pairs[forward], self.pairs[backward][:, ::-1]])
        labels = scipy.sparse.csgraph.connected_components(self._graph(ends), connection="strong")[1]
        every = seen[:, TIE].any() and not (seen[:, WIN] & seen[:, LOSS]).any() and self._ties_grow(seen)
        others = np.arange(len(self.names)) != self.anchor
        return np.asarray(others if every else labels != labels[self.anchor])

    def _ties_grow(self, seen: Flags) -> bool:
        """Tell whether some ratings keep every winner 2 ahead and every tied pair within 2.

        Along them, with the tie parameter's logarithm rising by 1, the likelihood rises without end. These are
        constraints on differences, which hold together unless they close a cycle of negative length.
        """
        n = len(self.names)
        reach = np.where(np.eye(n, dtype=bool), 0.0, np.inf)
        for (i, j), (won, tied, lost) in zip(self.pairs, seen, strict=True):
            if tied:
                reach[i, j], reach[j, i] = 2.0, 2.0
            if won:
                reach[i, j] = -2.0
            if lost:
                reach[j, i] = -2.0
        for k in range(n):
            reach = np.minimum(reach, reach[:, [k]] + reach[[k], :])
        return bool((np.diag(reach) >= 0).all())

    def _graph(self, ends: NDArray[np.int64]) -> scipy.sparse.csr_array:
        return scipy.sparse.csr_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=2 * (len(self.names),))


def _sorted_pair(comparison: Comparison) -> Comparison:
    if comparison.value not in COLUMNS or comparison.first == comparison.second:
        raise DataError("not a comparison of two models", value=comparison, allowed="two models, value 0, .5 or 1")
    if comparison.first < comparison.second:
        return comparison
    return Comparison(comparison.cluster, comparison.second, comparison.first, 1 - comparison.value)
