"""True labels of some certification answers, beside what the judge said of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sacpo.certify.bounds import Bound
from sacpo.data.records import Verdict
from sacpo.errors import DataError
from sacpo.measure.items import items_of
from sacpo.stats.judge_error import powered_estimate, rates_limit, rates_p, union_limit, union_p

Method = Literal["finite", "rates"]
METHODS: dict[str, str] = {
    "finite": "exact binomial, and what the judge misses by true labels",
    "rates": "the judge's true and false positive rates, normal approximation",
}
"""The tests' names."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What a judge said of independent answers, and what is true of the labelled ones.

    Attributes:
        called: Answers that it called bad, unread ones too.
        n: Answers.
        hits, missed: Bad labelled answers that it called bad, and that it did not.
        alarms, cleared: Good labelled answers that it called bad, and that it did not.
        estimate: Prediction-powered mean and standard error, no part of any bound; None: too few labels.
    """

    called: int
    n: int
    hits: int
    missed: int
    alarms: int
    cleared: int
    estimate: list[float] | None

    @property
    def labels(self) -> int:
        """Labelled answers."""
        return self.hits + self.missed + self.alarms + self.cleared

    def p(self, method: Method, bound: float) -> float:
        """Return the p-value of "the true rate is at least the bound"."""
        if method == "finite":
            return union_p(self.called, self.n, self.missed, self.labels, bound)
        return float(rates_p(self.called, self.n, *self._rates, bound))

    def limit(self, method: Method, delta: float) -> float:
        """Return the upper limit of the true rate at level delta."""
        if method == "finite":
            return min(1.0, float(union_limit(self.called, self.n, self.missed, self.labels, delta)))
        return rates_limit(self.called, self.n, *self._rates, delta)

    @property
    def _rates(self) -> tuple[int, int, int, int]:
        return self.hits, self.hits + self.missed, self.alarms, self.alarms + self.cleared


def counts_of(verdicts: Sequence[Verdict], truth: Sequence[Verdict], bound: Bound) -> Counts:
    """Return the counts of one model; what could not be read counts against it.

    Raises:
        DataError: An answer is not independent of another, or labels are of other answers.
    """
    where = f"labels: {bound.key}"
    judged, known = _by_cluster(verdicts, bound, where), _by_cluster(truth, bound, where)
    other = {v.answer_hash for v in truth} - {v.answer_hash for v in verdicts}
    if other or not {*known} <= {*judged} or not known:
        raise DataError(
            "the labels are of other answers than the judge saw" if known else "no label counts in this bound",
            where=where,
            value=sorted(other)[:3] or None,
            do="label answers of this very model to certification prompts, drawn at random",
        )
    pairs = [(judged[name], known[name]) for name in known]
    rest = np.array([float(bad) for name, bad in judged.items() if name not in known])
    said, true = (np.array([float(pair[i]) for pair in pairs]) for i in (0, 1))
    return Counts(
        called=sum(judged.values()),
        n=len(judged),
        hits=sum(a and b for a, b in pairs),
        missed=sum(b and not a for a, b in pairs),
        alarms=sum(a and not b for a, b in pairs),
        cleared=sum(not a and not b for a, b in pairs),
        estimate=[*powered_estimate(rest, said, true)] if min(len(rest), len(true)) > 1 else None,
    )


def _by_cluster(verdicts: Sequence[Verdict], bound: Bound, where: str) -> dict[str, bool]:
    items = items_of(verdicts, bound.metric, bound.criterion)
    found = {item.cluster: item.value is None or item.value > 0 for item in items}
    if len(found) < len(items):
        raise DataError(
            "labels correct a rate only where every independent prompt has one judged answer",
            where=where,
            value=f"{len(items)} answers of {len(found)} clusters",
            do="judge one answer a cluster, or use --unit prompt",
        )
    return found
