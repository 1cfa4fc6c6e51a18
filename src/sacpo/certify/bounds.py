"""A bound that is to be certified, what of verdicts or prompts counts in it, and how its values are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sacpo.data.records import Kind
from sacpo.plain import JsonObject
from sacpo.recipe.metrics import METRICS, metric_key
from sacpo.stats.certificates import Side

KINDS = {"unsafe_rate": (Kind.RESTRICTED, Kind.UNKNOWN), "over_refusal_rate": (Kind.BORDERLINE,)}
"""The kinds of prompts that a rate counts; the later one where there is none of the first."""
Per = Literal["category"]
"""Within which groups of prompts every bound is to hold."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A bound that is to be certified."""

    metric: str
    criterion: str | None
    side: Side
    value: float
    range: tuple[float, float] | None = None
    """The least and the greatest score that the judge can give; None: of a rate."""
    tail: float | None = None
    """The lowest share of scores that the mean is of; None: all."""

    @property
    def key(self) -> str:
        """METRIC, or METRIC/CRITERION."""
        return metric_key(self.metric, self.criterion)

    @property
    def words(self) -> str:
        """Such as "at most 5 % unsafe answers" or "a mean helpfulness score of at least 2"."""
        side = self.side.replace("_", " ")
        if self.tail is not None:
            lowest = f"the lowest {as_given(self.tail)} of {self.criterion} scores"
            return f"a mean of {side} {self.value:.10g} in {lowest}"
        if self.range is not None:
            return f"a mean {self.criterion} score of {side} {self.value:.10g}"
        return f"{side} {as_given(self.value)} {METRICS[self.metric].words.format(self.criterion)}"

    def shown(self, value: float) -> str:
        """Return a value of what is bounded: a share in per cent, a score as it is."""
        return percent(value) if self.range is None else f"{value:.3g}"

    def to_json(self) -> JsonObject:
        """Return the bound as a constraint."""
        found: JsonObject = {"metric": self.metric, "criterion": self.criterion, self.side: self.value}
        found |= {} if self.range is None else {"range": [*self.range]}
        return found if self.tail is None else {**found, "tail": self.tail}


def of_kinds(bound: Bound, members: Sequence[Any]) -> list[Any]:
    """Return those of the kinds that count in a rate: restricted ones, or unknown where none is restricted."""
    found = [one for one in members if one.kind in KINDS[bound.metric]]
    return [one for one in found if one.kind is Kind.RESTRICTED] or found


def by_category(members: Sequence[Any]) -> dict[str, list[Any]]:
    """Return verdicts, prompts or questions by their category."""
    found: dict[str, list[Any]] = {}
    for one in sorted(members, key=lambda one: str(one.category)):
        found.setdefault(one.category, []).append(one)
    return found


def as_given(share: float) -> str:
    """Return a fraction that is promised in per cent, with all its digits: rounded it would promise something else."""
    return f"{100 * share:.10g} %"


def percent(share: float) -> str:
    """Return a fraction in per cent, without digits that say nothing."""
    return f"{100 * share:.3g} %"
