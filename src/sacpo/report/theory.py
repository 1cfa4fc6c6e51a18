"""The part of `results.json` that only a world knows: the optimum, and how far models are from it."""

from __future__ import annotations

from pydantic import Field

from sacpo.report.part import Measured, Part


class OptimumPoint(Part):
    """The optimum pi* at one strength, estimated by weights on SFT samples."""

    beta_over_lambda: float
    E_r: float = Field(description="mean reward")
    E_g: float = Field(description="mean safety")
    kl: float | None = Field(None, description="KL(pi* || SFT), nats")
    unsafe_rate: float | None = None
    over_refusal_rate: float | None = None
    ess: float | None = Field(
        None, description="effective sample size a prompt: below about 5 do not believe the point"
    )
    win_rate: dict[str, float] = Field({}, description="criterion: win rate of pi* against SFT")


class TiltPoint(Part):
    """The exact tilt of SFT that has a model's mean scores: the nearest to SFT that has them.

    The model's distance from the common target is `strength` plus `shape`.
    """

    reward: float = Field(description="its weight on the reward, as a share of the target's 1/beta")
    safety: float = Field(description="its weight on safety, as a share of the target's lambda/beta")
    strength: float = Field(description="KL(this tilt || common target), nats: by its mean scores")
    shape: float = Field(description="KL(pi || this tilt), nats: what it spends on anything else")


class KlToOptimum(Part):
    """How far a trained model is from the optimum, in nats."""

    own: Measured | None = Field(None, description="KL(pi || its own pi*), for models with a nominal lambda")
    own_alarm: float | None = Field(None, description="KL(SFT || that pi*): a larger 'own' means collapse")
    target: Measured | None = Field(None, description="KL(pi || common target)")
    tilt: TiltPoint | None = Field(
        None, description="the exact tilt that has the model's mean scores; null: none of the samples has"
    )


class SupportPoint(Part):
    """What the weights that a model was learnt from reach by themselves."""

    samples: int = Field(description="of each prompt")
    E_r: float
    E_g: float
    unsafe_rate: float | None = None
    over_refusal_rate: float | None = None
    distance: float = Field(description="KL(an answer drawn by the weights || common target), nats")


class Theory(Part):
    """What the world knows beside the trained models."""

    curve: tuple[OptimumPoint, ...] = Field((), description="the optimum over beta/lambda")
    kl_to_optimum: dict[str, KlToOptimum] = Field({})
    alarm: float | None = Field(None, description="KL(SFT || common target): a larger 'target' means collapse")
    target: float | None = Field(None, description="beta/lambda of the common target")
    prompts: str | None = Field(None, description="prompt set that it was estimated on")
    support: dict[str, SupportPoint] = Field(
        {},
        description="model learnt from weights of the SFT model's samples alone (a later round has others): what they "
        "reach by themselves",
    )
