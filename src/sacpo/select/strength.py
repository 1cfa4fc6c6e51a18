"""The search for a step's strength: the weakest pressure whose model meets its constraints on tuning prompts.

Trainings are few, so each is chosen from all before. A model's excess is how far the pessimistic end of a constraint's
interval misses the bound: for a rate the difference of their log-odds, which is nearly linear in log(beta/lambda).
At most 0 means met. The next strength is where a line through the nearest two tries crosses a little below 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sacpo.plain import JsonMapping
from sacpo.theory.frontier import rounded

SLOPE, FLATTEST, STEEPEST = 1.5, 0.5, 4.0
"""Excess for each unit of log strength, before it was measured, and what a measured one may be."""
STRICT = -0.3
"""An excess below it is needlessly strict: a bound of 10 % met with less than 7.6 %."""
AIM, SAFE_AIM = -0.15, -0.6
"""What the next training aims at; the last one, where nothing met the bound yet, aims lower."""
FARTHEST = math.log(4.0)
INSIDE = 0.15
"""Share of a bracket, in logs, that is kept free at either end."""


@dataclass(frozen=True)
class Tried:
    """A strength that was trained, and by how much its model misses (above 0) or meets its constraints."""

    beta: float
    excess: float

    @property
    def met(self) -> bool:
        """Whether every constraint is met."""
        return self.excess <= 0


def kept(tried: Sequence[Tried]) -> Tried:
    """Return the strength to keep: the largest that meets every constraint, or where none does the smallest excess."""
    met = [one for one in tried if one.met]
    if met:
        return max(met, key=lambda one: one.beta)
    return min(tried, key=lambda one: (one.excess, one.beta))


def first_strength(planned: JsonMapping, before: float | None) -> float:
    """Return the strength that a search begins with.

    Where the constraints are met already, no more pressure is called for than the step before had.

    Args:
        planned: The forecast's `state` and `start`.
        before: The strength of the step before; None: there is none.
    """
    start = float(planned["start"])
    return max(start, before) if planned["state"] == "already met" and before is not None else start


def next_strength(tried: Sequence[Tried], left: int, slope: float = SLOPE) -> float | None:
    """Return the next strength to train; None where the search is at its end.

    It ends when no training is left, or when the kept strength meets the constraints and is not needlessly strict.
    A step is at most a factor of 4 and stays inside of a bracket of a met and an unmet strength.

    Args:
        tried: All that was trained.
        left: Trainings that are left.
        slope: Excess for each unit of log strength where only one strength was trained.
    """
    best = kept(tried)
    if left < 1 or (best.met and best.excess >= STRICT):
        return None
    met = [one for one in tried if one.met]
    aim = SAFE_AIM if left == 1 and not met else AIM
    if not met:
        ends = sorted(tried, key=lambda one: one.beta)[:2]
    else:
        above = sorted((one for one in tried if not one.met and one.beta > best.beta), key=lambda one: one.beta)
        if above:
            return _new(_inside(best, above[0], aim), tried)
        ends = sorted(met, key=lambda one: -one.beta)[:2]
    step = (aim - ends[0].excess) / _slope(ends, slope)
    return _new(ends[0].beta * math.exp(max(-FARTHEST, min(FARTHEST, step))), tried)


def log_odds(rate: float) -> float:
    """Return the log-odds of a rate, which is taken to be between .0001 and .9999."""
    inside = min(max(rate, 1e-4), 1 - 1e-4)
    return math.log(inside / (1 - inside))


def _slope(ends: Sequence[Tried], prior: float) -> float:
    if len(ends) < 2:
        return min(max(prior, FLATTEST), STEEPEST)
    one, other = ends
    measured = (one.excess - other.excess) / math.log(one.beta / other.beta)
    return min(max(measured, FLATTEST), STEEPEST)


def _inside(met: Tried, unmet: Tried, aim: float) -> float:
    """Return where the line between a met and an unmet strength has the excess `aim`, kept off both ends."""
    share = (aim - met.excess) / (unmet.excess - met.excess)
    share = min(max(share, INSIDE), 1 - INSIDE)
    return met.beta * (unmet.beta / met.beta) ** share


def _new(strength: float, tried: Sequence[Tried]) -> float | None:
    found = rounded(strength)
    return None if found in [one.beta for one in tried] else found
