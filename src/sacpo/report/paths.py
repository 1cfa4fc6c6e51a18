"""Searches for a merge weight in `results.json`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sacpo.report.part import Measured, Part


class PathCheck(Part):
    """One constraint on one model of a path, on tuning prompts."""

    metric: str
    prompts: str
    criterion: str | None = None
    at_most: float | None = None
    at_least: float | None = None
    value: Measured = Field(description="of a rate with its 90 % interval, whose upper end is the one-sided 95 % bound")
    end: float = Field(description="the pessimistic end of the interval, which is held against the bound")
    excess: float = Field(description="how far that end lies beyond the bound; 0 or less: met")
    met: bool


class PathPoint(Part):
    """One q that was measured."""

    q: float
    model: str
    checks: tuple[PathCheck, ...] = Field((), description="one a constraint, in their order")


class PathSearch(Part):
    """The search for the q of a merge with `q: auto`."""

    method: str
    models: tuple[str, str] = Field(description="the models at q = 0 and at q = 1")
    evaluations: int = Field(description="at most so many q between the ends were to be measured")
    tolerance: float
    unit: Literal["cluster", "prompt"] = Field(description="what counted as drawn independently")
    tried: tuple[PathPoint, ...] = Field((), description="every measured q, in order")
    q: float | None = Field(None, description="the smallest that was seen to meet every constraint; null: none does")
    misses_at: float | None = Field(None, description="the largest measured q below it that does not")
    feasible_to: float | None = Field(None, description="the largest measured q up to which all constraints are met")
    missed_beyond: float | None = Field(None, description="the first measured q beyond it; null: q = 1 is feasible")
    better_with_q: tuple[str, ...] = Field((), description="constraints that are better met at q = 1 than at q = 0")
    worse_with_q: tuple[str, ...] = ()
    monotone: bool = Field(description="every constraint's excess moves in one direction over q, but for its margin")
    said: str = Field(description="the outcome in words")


class Fidelity(Part):
    """How far a merged model pi_m is from `prod_k pi_k^w_k / Z`, the mixture of whole answers with its weights.

    In nats. Between a step's reference and its model that mixture is the optimum for q lambda.
    """

    kl: Measured = Field(description="KL(pi_m || mixture), on held-out prompts")
    alarm: float = Field(description="the least such KL of the models that were merged: beyond it merging failed")
    ess: float = Field(description="effective samples a prompt that carry the mixture's normaliser")
    believed: float = Field(
        description="share of the prompts with at least 5; below one half do not believe the figure"
    )
    bias: float = Field(description="by how much the KL is expected to be too low")
    samples: int = Field(description="samples a prompt that the normaliser was estimated from")
