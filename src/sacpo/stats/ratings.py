"""Bradley-Terry ratings with ties on an additive scale anchored at the baseline."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from sacpo.data.records import Outcome, Verdict
from sacpo.errors import DataError
from sacpo.stats.estimate import Estimate
from sacpo.stats.intervals import OUTCOME_VALUES
from sacpo.stats.tie_models import TIE_MODELS, TieModel, fit

ANCHOR = 1000.0
PER_NAT = 400 / math.log(10)
RIDGE = 0.01
COLUMNS = {1.0: 0, 0.5: 1, 0.0: 2}

Floats = NDArray[np.float64]


class Comparison(NamedTuple):
    """One verdict between two models; `value` is the first's: 1, .5 or 0; comparisons of a cluster are dependent."""

    cluster: Hashable
    first: str
    second: str
    value: float


@dataclass(frozen=True, slots=True)
class Ratings:
    """Bradley-Terry ratings: the baseline has 1000, and 400 more mean ten to one among decided comparisons.

    Attributes:
        ratings: Each model's rating, the highest first; intervals by prompt bootstrap.
        baseline: The anchor; its rating has no width.
        tie_model: "Davidson" or "Rao-Kupper".
        tie_parameter: `nu` of Davidson's model, `kappa` of Rao and Kupper's.
        regularised: The maximum likelihood does not exist; the ratings are those of a weak Gaussian prior.
        regularised_draws: Bootstrap resamples of which the same holds.
        draws: Bootstrap resamples.
    """

    ratings: dict[str, Estimate]
    baseline: str
    tie_model: str
    tie_parameter: float
    regularised: bool
    regularised_draws: int
    draws: int

    def to_json(self) -> dict[str, Any]:
        """Return the ratings as a JSON-ready dictionary."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        return {**plain, "ratings": {model: rating.to_json() for model, rating in self.ratings.items()}}


def bradley_terry(
    comparisons: Iterable[Comparison],
    baseline: str,
    *,
    tie_model: str = "davidson",
    regularise: bool = False,
    draws: int = 500,
    seed: int = 0,
) -> Ratings:
    """Fit Bradley-Terry ratings with ties; the comparisons' order does not matter.

    The maximum likelihood exists only if every model is reached from every other along wins and ties.

    Args:
        comparisons: Verdicts between pairs of models.
        baseline: The model at 1000.
        tie_model: "davidson" or "rao-kupper".
        regularise: Where the maximum does not exist, use a Gaussian prior of precision .01 instead of refusing.
        draws: Bootstrap resamples of clusters; a resample without a maximum gets that prior, and is counted.
        seed: Of the resampling.

    Raises:
        DataError: Unknown baseline or tie model, a model compared with itself or not connected to the others by any
            comparison, a value other than 0, .5, 1; or no maximum likelihood, unless `regularise`.
    """
    if tie_model not in TIE_MODELS:
        raise DataError("unknown tie model", value=tie_model, allowed=sorted(TIE_MODELS))
    model = TIE_MODELS[tie_model]
    table = _Table.of(comparisons, baseline)
    total = table.counts.sum(axis=0, keepdims=True)
    lost = _without_maximum(total, table)
    if lost[0] and not regularise:
        raise DataError(
            "Bradley-Terry ratings do not exist: some models only win, only lose, or no comparison was decided",
            value=table.names,
            allowed="every model reached from every other along wins and ties",
            do="add comparisons, or ask for regularised ratings (regularise=True)",
        )
    point, tie = fit(total, table.design, model, np.where(lost, RIDGE, 0.0))
    resampled, lost_draws = _bootstrap(table, model, draws, seed)
    ratings = _estimates(table, point[0], resampled)
    return Ratings(
        dict(sorted(ratings.items(), key=lambda item: (-(item[1].value or 0.0), item[0]))),
        baseline,
        model.name,
        math.exp(tie[0]) if total[..., 1].sum() else float(tie_model == "rao-kupper"),
        bool(lost[0]),
        lost_draws,
        draws,
    )


def comparisons_of(verdicts: Sequence[Verdict]) -> list[Comparison]:
    """Return the read verdicts as comparisons of the model with its baseline."""
    return [
        Comparison(verdict.cluster, verdict.model, verdict.baseline, OUTCOME_VALUES[verdict.outcome])
        for verdict in verdicts
        if verdict.outcome is not None and verdict.outcome is not Outcome.UNPARSED and verdict.baseline
    ]


@dataclass(frozen=True, slots=True)
class _Table:
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
    def of(cls, comparisons: Iterable[Comparison], baseline: str) -> _Table:
        kept = [_sorted_pair(comparison) for comparison in comparisons]
        names = sorted({name for item in kept for name in (item.first, item.second)})
        if baseline not in names:
            raise DataError("the baseline takes part in no comparison", value=baseline, allowed=names)
        place = {name: i for i, name in enumerate(names)}
        pair_names = sorted({(item.first, item.second) for item in kept})
        pair_place = {pair: i for i, pair in enumerate(pair_names)}
        clusters = {c: i for i, c in enumerate(sorted({item.cluster for item in kept}, key=repr))}
        counts = np.zeros((len(clusters), len(pair_names), 3))
        for item in kept:
            counts[clusters[item.cluster], pair_place[item.first, item.second], COLUMNS[item.value]] += 1
        pairs = np.array([(place[a], place[b]) for a, b in pair_names])
        full = np.eye(len(names))[pairs[:, 0]] - np.eye(len(names))[pairs[:, 1]]
        table = cls(names, place[baseline], pairs, counts, np.delete(full, place[baseline], axis=1))
        table.check_linked()
        return table

    def check_linked(self) -> None:
        """Raise if some models meet no others, even indirectly: nothing could be said of them."""
        graph = csr_array(
            (np.ones(len(self.pairs)), (self.pairs[:, 0], self.pairs[:, 1])), shape=2 * (len(self.names),)
        )
        parts, labels = connected_components(graph, directed=False)
        if parts > 1:
            apart = [name for name, label in zip(self.names, labels, strict=True) if label != labels[self.anchor]]
            raise DataError("models that no comparison links to the baseline", value=apart, do="leave them out")


def _sorted_pair(comparison: Comparison) -> Comparison:
    if comparison.value not in COLUMNS or comparison.first == comparison.second:
        raise DataError("not a comparison of two models", value=comparison, allowed="two models, value 0, .5 or 1")
    if comparison.first < comparison.second:
        return comparison
    return Comparison(comparison.cluster, comparison.second, comparison.first, 1 - comparison.value)


def _without_maximum(counts: Floats, table: _Table) -> NDArray[np.bool_]:
    """Tell for each resample whether its likelihood has no maximum; Shape: counts (draws, pairs, 3) to (draws,)."""
    n = len(table.names)
    forward, backward = counts[..., 0] + counts[..., 1] > 0, counts[..., 2] + counts[..., 1] > 0
    patterns, inverse = np.unique(np.concatenate([forward, backward], axis=1), axis=0, return_inverse=True)
    ends = np.concatenate([table.pairs, table.pairs[:, ::-1]])
    split = []
    for pattern in patterns:
        edges = ends[pattern]
        graph = csr_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(n, n))
        split.append(connected_components(graph, connection="strong")[0] > 1)
    undecided = counts[..., 0].sum(axis=1) + counts[..., 2].sum(axis=1) == 0
    return np.asarray(np.array(split)[inverse.ravel()] | undecided)


def _bootstrap(table: _Table, model: TieModel, draws: int, seed: int) -> tuple[Floats, int]:
    """Return the ratings of resampled clusters (draws, models - 1), and how many had no maximum."""
    m = len(table.counts)
    if m < 2 or draws < 1:
        return np.zeros((0, table.design.shape[1])), 0
    weights = np.random.default_rng([seed, m]).multinomial(m, np.full(m, 1 / m), size=draws).astype(np.float64)
    counts = np.tensordot(weights, table.counts, axes=1)
    lost = _without_maximum(counts, table)
    return fit(counts, table.design, model, np.where(lost, RIDGE, 0.0))[0], int(lost.sum())


def _estimates(table: _Table, point: Floats, resampled: Floats) -> dict[str, Estimate]:
    scaled = ANCHOR + PER_NAT * np.insert(point, table.anchor, 0.0)
    spread = ANCHOR + PER_NAT * np.insert(resampled, table.anchor, 0.0, axis=1)
    method = f"{len(resampled)} prompt bootstraps, percentiles" if len(resampled) else "none: one cluster"
    ratings = {}
    for i, name in enumerate(table.names):
        seen = table.counts[:, (table.pairs == i).any(axis=1)].sum(axis=(1, 2))
        ends = np.quantile(spread[:, i], (0.025, 0.975)) if len(resampled) else (None, None)
        low, high = (None if end is None else float(end) for end in ends)
        ratings[name] = Estimate(float(scaled[i]), low, high, int(seen.sum()), int((seen > 0).sum()), method=method)
    return ratings
