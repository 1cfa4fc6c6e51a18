"""The choice of factors: what promises the highest mean score of those that meet every bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Limit:
    """A bound on a figure.

    Attributes:
        name: The constraint's metric, with its criterion.
        criterion: Of a mean score, whose it is.
        bound: What it is held against.
        at_most: Whether it is to be at most that; else at least.
    """

    name: str
    criterion: str | None
    bound: float
    at_most: bool

    def excess(self, value: float) -> float:
        """Return by how much a figure misses the bound; at most 0: met."""
        return value - self.bound if self.at_most else self.bound - value


@dataclass(frozen=True)
class Tried:
    """What one choice promises.

    Attributes:
        score: The mean score that is to be high.
        ess: Effective sample size a prompt.
        values: The figure of every bound.
    """

    score: float
    ess: float
    values: tuple[float, ...]

    def excess(self, limits: Sequence[Limit]) -> float:
        """Return by how much the bound that is missed most is missed; at most 0: all are met."""
        return max(one.excess(value) for one, value in zip(limits, self.values, strict=True))

    def met(self, limits: Sequence[Limit]) -> bool:
        """Tell whether every bound is met."""
        return self.excess(limits) <= 0


def chosen(tried: Sequence[Tried], limits: Sequence[Limit], least_ess: float) -> int | None:
    """Return the place of the choice to take: the highest score of those that meet every bound, else the nearest.

    Of equal ones the first. Those with fewer effective samples than `least_ess` do not count; None: no other is left.
    """
    enough = [place for place, one in enumerate(tried) if one.ess >= least_ess]
    met = [place for place in enough if tried[place].met(limits)]
    if met:
        return max(met, key=lambda place: tried[place].score)
    return min(enough, key=lambda place: tried[place].excess(limits), default=None)
