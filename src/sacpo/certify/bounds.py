"""A bound that is to be certified, and how shares are written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sacpo.data.records import Kind
from sacpo.recipe.metrics import METRICS, metric_key
from sacpo.stats.certificates import Side

KINDS = {"unsafe_rate": (Kind.RESTRICTED, Kind.UNKNOWN), "over_refusal_rate": (Kind.BORDERLINE,)}
"""The kinds of prompts that a rate counts; the later one where there is none of the first."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A bound that is to be certified."""

    metric: str
    criterion: str | None
    side: Side
    value: float

    @property
    def key(self) -> str:
        """METRIC, or METRIC/CRITERION."""
        return metric_key(self.metric, self.criterion)

    @property
    def words(self) -> str:
        """Such as "at most 5 % unsafe answers"."""
        what = METRICS[self.metric].words.format(self.criterion)
        return f"{self.side.replace('_', ' ')} {percent(self.value)} {what}"

    def to_json(self) -> dict[str, Any]:
        """Return the bound as a constraint."""
        return {"metric": self.metric, "criterion": self.criterion, self.side: self.value}


def percent(share: float) -> str:
    """Return a fraction in per cent, without digits that say nothing."""
    return f"{100 * share:.3g} %"
