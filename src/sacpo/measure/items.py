"""The single values that a rate or mean is of, for tests that need more than its estimate."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sacpo.data.records import Verdict
from sacpo.measure.measures import mean_scores, panel_values, rate_flags, score_panels, win_panels, win_rates
from sacpo.recipe.metrics import SCORES
from sacpo.stats.labels import risky_kind
from sacpo.stats.verdicts import unique


@dataclass(frozen=True, slots=True)
class Item:
    """One value of a metric.

    Attributes:
        cluster: Items of one cluster are not independent.
        value: In [0, 1], or a score; None where no verdict could be read.
    """

    cluster: str
    value: float | None


def items_of(verdicts: Sequence[Verdict], metric: str, criterion: str | None) -> list[Item]:
    """Return what a metric of one model is the mean of, as `sacpo.measure.measures.measure` counts it.

    Args:
        verdicts: The model's, on one prompt set.
        metric: One of CERTIFIABLE.
        criterion: Of the win rate and of scores; None for the rates.
    """
    distinct = unique(verdicts)
    if metric == "win_rate":
        values = panel_values(win_panels(distinct).get(criterion or "", []))
        return [Item(cluster, value) for (_, cluster), value in values.items()]
    if metric in SCORES:
        values = panel_values(score_panels(distinct).get(criterion or "", []))
        return [Item(cluster, value) for (_, cluster), value in values.items()]
    flags = rate_flags(distinct, risky_kind(v.kind for v in distinct), distinct)[metric]
    return [Item(flag.cluster, None if flag.found is None else float(flag.found)) for flag in flags]


def cluster_means(items: Sequence[Item], unread: float) -> list[float]:
    """Return each cluster's mean, clusters by name.

    Args:
        items: The values.
        unread: What a value that could not be read counts as: the worst case for whoever certifies.
    """
    members: dict[str, list[float]] = defaultdict(list)
    for item in items:
        members[item.cluster].append(unread if item.value is None else item.value)
    return [math.fsum(members[name]) / len(members[name]) for name in sorted(members)]


def objective_of(verdicts: Sequence[Verdict], key: str) -> float | None:
    """Return a model's win rate or mean score; None where it is not measured."""
    distinct = unique(verdicts)
    found = (win_rates(distinct) if key.startswith("win_rate/") else mean_scores(distinct)).get(key)
    return None if found is None else found.value
