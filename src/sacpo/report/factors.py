"""The part of the results that tells how factors of a step's weights were chosen (`resample.factors`)."""

from __future__ import annotations

from pydantic import Field

from sacpo.report.part import Part
from sacpo.report.searches import Banded


class FactorBound(Part):
    """What weights of samples were to promise."""

    name: str = Field(description="metric, with its criterion")
    bound: float = Field(description="of a rate: the largest one that the tuning prompts can show to be within it")
    at_most: bool = Field(description="false: at least")


class FactorsTried(Part):
    """What one choice of factors promises, by weights on samples of the SFT model."""

    factors: dict[str, float] = Field(description="criterion: what multiplies its weight")
    objective: Banded = Field(description="mean score of the objective")
    unsafe_rate: Banded | None = None
    over_refusal_rate: Banded | None = None
    kl: Banded = Field(description="KL from the SFT model, nats")
    means: dict[str, float] = Field({}, description="criterion whose mean score is bounded: that mean")
    ess: float = Field(description="effective sample size a prompt")
    met: bool = Field(description="whether every bound is met")
    enough: bool = Field(description="whether the effective sample size reaches the step's 'least_ess'")


class FactorChoice(Part):
    """How the factors of a step's weights were chosen, before it was trained, on tuning prompts."""

    step: str
    prompts: int
    samples: int = Field(description="answers of the SFT model to each prompt")
    not_weighed: int = Field(description="answers without a weight: cut off, or without a score")
    objective: str = Field(description="the criterion whose mean score was to be high")
    bounds: tuple[FactorBound, ...]
    tried: tuple[FactorsTried, ...]
    factors: dict[str, float] = Field(description="the choice")
    chosen: int = Field(description="its place among what was tried")
    met: bool = Field(description="false: no choice met every bound, and the nearest was taken")
    notes: tuple[str, ...] = ()
