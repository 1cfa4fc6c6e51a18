"""How answers are made and judged, and what is selected, estimated and shown from that."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from sacpo.recipe.harness import HarnessSpec
from sacpo.recipe.llm import BudgetSpec
from sacpo.recipe.metrics import BoundedMetric, MaximisedMetric
from sacpo.recipe.resample import SFT
from sacpo.recipe.schema.judges import JudgeSpec
from sacpo.recipe.section import MANY, Count, Name, Names, Positive, Section

Share = Annotated[float, Field(gt=0, lt=1)]
Range = Annotated[tuple[float, float], Field(description="least and greatest score that the judge can give")]


Engine = Literal["auto", "transformers", "vllm"]


class GenerationSpec(Section):
    """How answers are decoded; the defaults are the paper's (greedy, 512 new tokens).

    `engine: auto` takes vLLM where it is installed and the device is a CUDA GPU.
    """

    engine: Engine = "auto"
    max_new_tokens: Count = 512
    do_sample: bool = False
    temperature: Positive = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    batch_size: Count = 16

    @model_validator(mode="after")
    def _used(self) -> GenerationSpec:
        if not self.do_sample:
            self.unused(("temperature", "top_p"), "greedy decoding samples nothing (do_sample: true does)")
        return self


class RaceSpec(Section):
    """Rounds on tuning prompts, after each of which models that clearly violate a constraint are dropped."""

    first: Count = Field(50, description="prompts of the first round; each further round has as many as all before it")
    confidence: Share = Field(0.99, description="a model that meets every constraint is kept with this probability")


class EvaluateSpec(Section):
    """Generation, judges (one a criterion) and the baseline that answers are compared with."""

    baseline: str = SFT
    generation: GenerationSpec = GenerationSpec()
    judges: dict[Name, JudgeSpec] = Field({}, description="criterion: judge")
    kl_prompts: int = Field(64, ge=0, le=MANY, description="prompts of a set on which KL from SFT is sampled; 0: none")
    models: Names | None = Field(None, description="models to evaluate; all by default")
    race: RaceSpec | None = Field(
        None,
        description="drop models early that clearly violate a constraint; by default none is",
    )
    budget: BudgetSpec = Field(BudgetSpec(), description="limits on what LLM judges may use in one command")
    harness: HarnessSpec | None = Field(
        None, description="tasks of lm-evaluation-harness for the SFT model and the chosen one: what alignment costs"
    )


class ConstraintSpec(Section):
    """A bound on a rate or mean of the selected model, checked on tuning prompts."""

    metric: BoundedMetric
    prompts: str
    criterion: str | None = Field(None, description="the judge of mean_score and win_rate; other metrics take none")
    at_most: float | None = None
    at_least: float | None = None
    range: Range | None = Field(
        None, description="mean_score with a certificate: the least and the greatest score that the judge can give"
    )

    @model_validator(mode="after")
    def _one_bound(self) -> ConstraintSpec:
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError("give exactly one of 'at_most' and 'at_least'")
        if self.metric != "mean_score":
            self.unused(("range",), "only scores have a range of their own")
        elif self.range is not None:
            check_range(self.range, self.at_most if self.at_most is not None else self.at_least)
        if self.metric not in ("win_rate", "mean_score"):
            self.unused(("criterion",), f"'{self.metric}' is of all judges together, or of none")
        return self


class TailSpec(Section):
    """A bound on the mean of a score's lowest share (CVaR), which the certificate tests and the selection does not."""

    metric: Literal["cvar_score"] = Field("cvar_score", description="the only one")
    criterion: str = Field(description="the judge whose scores they are; a higher one is better")
    prompts: str = Field(description="tuning prompts that order the candidates")
    tail: Share = Field(description="the lowest share of answers that the mean is of: 0.1 for the worst tenth")
    at_least: float = Field(description="what that mean is to reach")
    range: Range

    @model_validator(mode="after")
    def _inside(self) -> TailSpec:
        check_range(self.range, self.at_least)
        return self


def check_range(declared: tuple[float, float], bound: float | None) -> None:
    """Refuse a range that is none, or that no bound lies inside.

    Raises:
        ValueError: See above.
    """
    low, high = declared
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError("a range is two finite numbers, the lower first")
    if bound is not None and not low < bound < high:
        raise ValueError(f"a bound lies inside the declared range: above {low:g} and below {high:g}")


class ObjectiveSpec(Section):
    """What the selected model maximises."""

    metric: MaximisedMetric = "win_rate"
    criterion: str
    prompts: str


class LabelsSpec(Section):
    """True labels of some certification answers of every candidate that is tested, drawn with the recipe's seed."""

    n: Count = Field(description="answers that are labelled")
    judges: dict[Name, JudgeSpec] = Field(description="criterion: the judge that is right, such as an oracle")
    method: Literal["finite", "rates"] = Field(
        "finite", description="finite: exact, whatever the judge does; rates: by its error rates, approximate"
    )


class CertifySpec(Section):
    """A certificate: the constraints, shown to hold on prompts that the choice has not seen.

    Its prompt set has role `certification`. Only candidates answer it, after the plan is written down.
    """

    prompts: str = Field(description="the prompt set, of role certification")
    confidence: Share = Field(0.95, description="of all looks at these prompts together")
    spend: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="share of 1 - confidence that this look spends; a later look may spend the rest"
    )
    unit: Literal["cluster", "prompt"] = Field(
        "cluster", description="what was drawn independently: clusters of prompts (tasks, templates), or prompts"
    )
    per: Literal["category"] | None = Field(
        None, description="category: every bound holds within each category of the prompts; all together by default"
    )
    population: str | None = Field(None, description="what the prompts stand for, in words")
    candidates: Literal["feasible", "all"] | Names = Field(
        "feasible",
        description="feasible: models whose point estimates meet the constraints on tuning prompts; or names",
    )
    tails: tuple[TailSpec, ...] = Field((), description="further bounds: means of the lowest scores (CVaR)")
    labels: LabelsSpec | None = Field(None, description="correct the bounds for the judges' errors")
    most: Count = Field(8, description="candidates at most, the likeliest; tested until the first that fails")

    @model_validator(mode="after")
    def _fits(self) -> CertifySpec:
        if self.per is not None and self.labels is not None:
            raise ValueError("labels correct rates over all prompts, not those of each category: leave out 'per'")
        return self


class TheorySpec(Section):
    """Estimates of the optimum pi* from SFT samples, where rewards are known (the world)."""

    answers: int = Field(64, ge=2, le=MANY, description="samples a prompt")
    prompts: str = Field(description="the prompt set")
    max_prompts: Count = 200
    beta: Positive = Field(description="the reward's strength, of criterion `reward`")
    reward: str = "helpfulness"
    safety: str = "harmlessness"
    target: Positive = Field(description="beta/lambda of the common target that every model is compared with")


class ReportSpec(Section):
    """What the report shows."""

    title: str | None = None
    x: str = Field("helpfulness", description="criterion on the horizontal axis")
    y: str = Field("harmlessness", description="criterion on the vertical axis")
    prompts: dict[str, str] = Field(
        {}, description="metric, such as unsafe_rate or win_rate/CRITERION: the report set that headlines read it from"
    )
    max_answers: int = Field(100, ge=0, le=MANY, description="prompts whose answers are shown side by side")
