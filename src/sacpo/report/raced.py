"""The race in `results.json`: what spoke against each model, round by round."""

from __future__ import annotations

from pydantic import Field

from sacpo.report.part import Part


class RaceBound(Part):
    """What spoke against one bound at a round's end."""

    bound: str = Field(description="the constraint's metric, or METRIC/CRITERION")
    p: float = Field(description="p-value of 'the bound is met', valid however often one looks")
    violated: bool = Field(description="p is at most the bound's share of 1 - confidence")


class RaceRound(Part):
    """One round."""

    prompts: int = Field(description="prompts answered and judged so far")
    bounds: tuple[RaceBound, ...]


class RaceOutcome(Part):
    """One model's race on one prompt set."""

    model: str
    prompts: str = Field(description="the prompt set")
    dropped: bool
    answered: int = Field(description="prompts that it answered there")
    of: int = Field(description="prompts of the set")
    looks: tuple[RaceRound, ...] = Field(description="the rounds, in order")
