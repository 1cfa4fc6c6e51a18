"""Bradley-Terry ratings with ties on an additive scale anchored at the baseline."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from sacpo.data.records import Outcome, Verdict
from sacpo.errors import DataError
from sacpo.plain import JsonObject
from sacpo.stats.edge import SAME, hardly_varies
from sacpo.stats.estimate import Estimate
from sacpo.stats.intervals import OUTCOME_VALUES
from sacpo.stats.rating_table import LOSS, TIE, WIN, Comparison, Flags, Floats, Table
from sacpo.stats.tie_models import TIE_MODELS, TieModel, fit

ANCHOR = 1000.0
PER_NAT = 400 / math.log(10)
RIDGE = 0.01
HALF = "half"
"""The tie model in which a tie is half a win of either side."""
TAIL, HEAD = 0.025, 0.975
EDGE_BATCHES = 4
"""Resamples at the edge, in multiples of the others: an exact end needs more of them."""


@dataclass(frozen=True, slots=True)
class Ratings:
    """Bradley-Terry ratings: the baseline has 1000, and 400 more mean ten to one among decided comparisons.

    Attributes:
        ratings: Each model's rating, the highest first; intervals by prompt bootstrap. See `_edge_ends` for a model
            that hardly ever wins, or hardly ever loses.
        baseline: The anchor; its rating has no width.
        tie_model: "Davidson", "Rao-Kupper" or "half".
        tie_parameter: `nu` of Davidson's model, `kappa` of Rao and Kupper's; 0 where ties are halves.
        regularised: The maximum likelihood does not exist; the ratings are those of a weak Gaussian prior.
        regularised_draws: Bootstrap resamples of which the same holds.
        draws: Bootstrap resamples.
        reason: Why the maximum likelihood does not exist; "" where it does.
    """

    ratings: dict[str, Estimate]
    baseline: str
    tie_model: str
    tie_parameter: float
    regularised: bool
    regularised_draws: int
    draws: int
    reason: str = ""

    def to_json(self) -> JsonObject:
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

    The maximum likelihood exists only if every model is reached from every other along wins and ties, and the tie
    parameter is bounded: one pair of models with wins of both sides is enough.

    Args:
        comparisons: Verdicts between pairs of models.
        baseline: The model at 1000.
        tie_model: "davidson", "rao-kupper", or "half": plain Bradley-Terry, a tie half a win of either side.
        regularise: Where the maximum does not exist, use a Gaussian prior of precision .01 instead of refusing.
        draws: Bootstrap resamples of clusters; a resample without a maximum gets that prior, and is counted.
        seed: Of the resampling.

    Raises:
        DataError: Unknown baseline or tie model, a model compared with itself or not connected to the others by any
            comparison, a value other than 0, .5, 1; or no maximum likelihood, unless `regularise`.
    """
    allowed = sorted([*TIE_MODELS, HALF])
    if tie_model not in allowed:
        raise DataError("unknown tie model", value=tie_model, allowed=allowed)
    model = TIE_MODELS["davidson" if tie_model == HALF else tie_model]
    table = Table.of(comparisons, baseline)
    if tie_model == HALF:
        table = table.with_ties_halved()
    total = table.counts.sum(axis=0, keepdims=True)
    apart = table.apart(total)[0]
    if apart.any() and not regularise:
        raise DataError(
            "Bradley-Terry ratings do not exist: some models only win, only lose, or no comparison was decided",
            value=table.names,
            allowed="every model reached from every other along wins and ties",
            do="add comparisons, or ask for regularised ratings (regularise=True)",
        )
    point, tie = fit(total, table.design, model, np.where([apart.any()], RIDGE, 0.0))
    ratings, lost_draws = _estimates(table, model, point[0], draws, seed)
    return Ratings(
        dict(sorted(ratings.items(), key=lambda item: (-(item[1].value or 0.0), item[0]))),
        baseline,
        HALF if tie_model == HALF else model.name,
        math.exp(tie[0]) if total[..., TIE].sum() else float(tie_model == "rao-kupper"),
        bool(apart.any()),
        lost_draws,
        draws,
        _reason(table, total[0], apart),
    )


def comparisons_of(verdicts: Sequence[Verdict]) -> list[Comparison]:
    """Return the read verdicts as comparisons of the model with its baseline."""
    return [
        Comparison(verdict.cluster, verdict.model, verdict.baseline, OUTCOME_VALUES[verdict.outcome])
        for verdict in verdicts
        if verdict.outcome is not None and verdict.outcome is not Outcome.UNPARSED and verdict.baseline
    ]


def _reason(table: Table, counts: Floats, apart: Flags) -> str:
    """Return why the maximum likelihood does not exist, with the models' names; "" where it does."""
    if not apart.any():
        return ""
    if not counts[:, (WIN, LOSS)].any():
        return "every comparison is a tie"
    said: dict[str, list[str]] = {}
    for i in np.flatnonzero(apart):
        won, tied, lost = table.of_model(counts, int(i)) > 0
        said.setdefault(_one_sided(bool(won), bool(tied), bool(lost)), []).append(table.names[i])
    return "; ".join(f"{', '.join(names)} {words}" for words, names in sorted(said.items()))


def _one_sided(won: bool, tied: bool, lost: bool) -> str:
    if won and lost:
        return "is reached along wins and ties in one direction only"
    if won:
        return "never loses" if tied else "only wins"
    return "never wins" if tied else "only loses"


def _bootstrap(table: Table, model: TieModel, draws: int, seed: int) -> tuple[Floats, Flags]:
    """Return the ratings of resampled clusters (draws, models - 1), and which models have none in each."""
    m = len(table.counts)
    if m < 2 or draws < 1:
        return np.zeros((0, table.design.shape[1])), np.zeros((0, len(table.names)), dtype=bool)
    weights = np.random.default_rng([seed, m]).multinomial(m, np.full(m, 1 / m), size=draws).astype(np.float64)
    counts = np.tensordot(weights, table.counts, axes=1)
    apart = table.apart(counts)
    return fit(counts, table.design, model, np.where(apart.any(axis=1), RIDGE, 0.0))[0], apart


def _estimates(table: Table, model: TieModel, point: Floats, draws: int, seed: int) -> tuple[dict[str, Estimate], int]:
    """Return each model's rating with its interval, and how many resamples had no maximum."""
    resampled, apart = _bootstrap(table, model, draws, seed)
    scaled, spread = _scaled(point, table.anchor), _scaled(resampled, table.anchor)
    edge = _at_edge(table, spread, apart)
    ends = np.array([np.quantile(of_one, (TAIL, HEAD)) for of_one in spread.T]).T if len(spread) else None
    if ends is not None and edge.any():
        ends[:, edge] = _edge_ends(table, model, edge, draws, seed)
    ratings = {}
    for i, name in enumerate(table.names):
        seen = table.counts[:, (table.pairs == i).any(axis=1)].sum(axis=(1, 2))
        low, high = (None, None) if ends is None else (float(ends[0, i]), float(ends[1, i]))
        method = f"{draws} prompt bootstraps, " + ("one more prompt lost, or won" if edge[i] else "percentiles")
        ratings[name] = Estimate(
            float(scaled[i]),
            low,
            high,
            round(float(seen.sum())),
            int((seen > 0).sum()),
            method="none: one cluster" if ends is None else method,
        )
    return ratings, int(apart.any(axis=1).sum())


def _scaled(point: Floats, anchor: int) -> Floats:
    return ANCHOR + PER_NAT * np.insert(point, anchor, 0.0, axis=-1)


def _at_edge(table: Table, spread: Floats, apart: Flags) -> Flags:
    """Tell which models' resamples cannot give an interval: they hardly vary, or too many have no rating."""
    found = np.zeros(len(table.names), dtype=bool)
    for i in range(len(table.names)) if len(spread) else ():
        won, tied, lost = np.moveaxis(table.of_model(table.counts, i), -1, 0)
        n = won + tied + lost
        scores = (won + tied / 2)[n > 0] / n[n > 0]
        few = hardly_varies(scores) or np.ptp(spread[:, i]) < SAME
        found[i] = i != table.anchor and (few or apart[:, i].mean() > TAIL)
    return found


def _edge_ends(table: Table, model: TieModel, edge: Flags, draws: int, seed: int) -> Floats:
    """Return the ends of the models at the edge: Gaffke's rule of `sacpo.stats.edge` on ratings.

    All prompts have exponential weights (Rubin's bootstrap). For the low end each model at the edge has one more
    prompt, lost against its opponents as often as it met them; for the high end one more prompt won. Of two models
    that never tie these are Clopper and Pearson's ends. An end beyond all bounds is that of the prior.

    Shape:
        edge: (models,) to (2, models at the edge).
    """
    extra = [_one_more(table, int(i)) for i in np.flatnonzero(edge)]
    rng = np.random.default_rng([seed, len(table.counts), len(extra)])
    ends = []
    for side, quantile in ((LOSS, TAIL), (WIN, HEAD)):
        more = [lost if side == LOSS else lost[:, ::-1] for lost in extra]
        clusters = np.concatenate([table.counts, more])
        drawn = [_weighted(table, model, clusters, draws, rng) for _ in range(EDGE_BATCHES)]
        ends.append(np.quantile(_scaled(np.concatenate(drawn), table.anchor)[:, edge], quantile, axis=0))
    return np.array(ends)


def _weighted(table: Table, model: TieModel, clusters: Floats, draws: int, rng: np.random.Generator) -> Floats:
    counts = np.tensordot(rng.exponential(size=(draws, len(clusters))), clusters, axes=1)
    return fit(counts, table.design, model, np.where(table.apart(counts).any(axis=1), RIDGE, 0.0))[0]


def _one_more(table: Table, model: int) -> Floats:
    """Return the counts of one comparison that a model loses, spread over its opponents; Shape: (pairs, 3)."""
    met = table.counts.sum(axis=(0, 2)) * (table.pairs == model).any(axis=1)
    share = met / met.sum()
    first = table.pairs[:, 0] == model
    return np.stack([np.where(first, 0.0, share), np.zeros_like(share), np.where(first, share, 0.0)], axis=-1)
