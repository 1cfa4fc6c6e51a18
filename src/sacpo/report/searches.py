"""The part of the results that tells how a strength was found (`beta: auto`)."""

from __future__ import annotations

from pydantic import Field

from sacpo.report.part import Part


class Banded(Part):
    """A predicted figure with its 95 % band, by a bootstrap over clusters of prompts."""

    value: float
    band: tuple[float, float]


class ForecastPoint(Part):
    """What a step would reach at one strength if it realised its whole tilt, by weights on its start's samples."""

    beta_over_lambda: float
    ess: float = Field(description="effective sample size a prompt: below about 5 do not believe the point")
    E_g: Banded = Field(description="mean of the step's score, in logits")
    E_r: Banded | None = Field(None, description="mean of the score that the step before raised")
    unsafe_rate: Banded | None = None
    over_refusal_rate: Banded | None = None
    kl: Banded = Field(description="KL from the model that the step starts from, nats")


class ForecastBound(Part):
    """One bound, and the strength that it needs; `there` maps a bound on a rate to one on the mean, and back."""

    name: str
    figure: str | None = Field(description="what of the samples it bounds; null: they do not tell it")
    bound: float = Field(
        description="for a rate: the largest one that the tuning prompts can show to be within the bound"
    )
    strength: float | None = Field(None, description="the largest beta/lambda that meets it; null: none, or any")
    best: float | None = Field(None, description="the figure where the pressure is without limit")
    there: dict[str, float] | None = Field(None, description="every figure at that strength")


class RealisedTilt(Part):
    """How much of its tilt the step before realised, on tuning prompts."""

    before: float = Field(description="mean of its score before it")
    exact: float = Field(description="what the exact tilt at its strength would give")
    measured: float = Field(description="what its model has")
    share: float = Field(description="share of the tilt, kept between .1 and 1.5")


class Forecast(Part):
    """What was predicted before anything was trained."""

    step: str
    model: str = Field(description="the model that the step starts from")
    prompts: int
    samples: int = Field(description="answers to each prompt")
    score: str = Field(description="criterion whose score the step raises")
    scale: float = Field(description="factor that makes logits of it")
    learned: dict[str, bool | float] | None = Field(
        None, description="a score that was learned from the step's pairs: held-out accuracy, calibrating factor, pairs"
    )
    state: str = Field(description="found, already met, not reached or not predicted")
    raw: float | None = Field(description="the strength that the exact tilt needs")
    corrected: float | None = Field(description="the same, by the share of a tilt that the step before realised")
    supported: float | None = Field(
        None, description="where some prompts have no safe answer among the samples: the strength that the others need"
    )
    start: float = Field(description="where the search began, unless the recipe said where")
    ess: float | None = Field(description="effective sample size at the raw strength")
    believable: bool | None
    constraints: tuple[ForecastBound, ...] = ()
    frontier: tuple[ForecastPoint, ...] = ()
    lost_support: dict[str, int] | None = Field(None, description="prompts without any safe answer, and of how many")
    realised: RealisedTilt | None = None
    notes: tuple[str, ...] = ()


class BoundCheck(Part):
    """One constraint on one trained model, with the pessimistic end that the search looked at."""

    metric: str
    prompts: str
    criterion: str | None = None
    at_most: float | None = None
    at_least: float | None = None
    value: float
    end: float = Field(description="rates of answers: one-sided 95 % bound; else the end of the 95 % interval")
    method: str
    excess: float = Field(description="how far the end misses the bound: difference of log-odds; at most 0: met")
    met: bool


class Predicted(Part):
    """What was predicted of a trained strength before it was trained."""

    raw: dict[str, float]
    corrected: dict[str, float] | None = Field(None, description="by the step before, later by the training before")


class Trained(Part):
    """One training of the search."""

    model: str
    beta: float
    met: bool
    excess: float
    checks: tuple[BoundCheck, ...]
    predicted: Predicted
    measured: dict[str, dict[str, float | None]] = Field({}, description="tuning set: figure: value")


class Regret(Part):
    """What the kept model loses beside the optimum with the same mean safety, where the world knows it."""

    reward: float = Field(description="E[r] of the optimum less the model's")
    objective: float = Field(description="R = E[r] - beta KL of the optimum less the model's")
    E_g: float = Field(description="the mean safety that both have")


class Search(Part):
    """How the strength of a step with `beta: auto` was found, on tuning prompts."""

    model: str = Field(description="the model that was kept: the largest strength that meets every constraint")
    kept: float = Field(description="its beta/lambda")
    met: bool = Field(description="false: no strength met the constraints, and the nearest was kept")
    start: float | None = Field(None, description="where the recipe let the search begin")
    forecast: Forecast
    trainings: tuple[Trained, ...]
    regret: Regret | None = None
