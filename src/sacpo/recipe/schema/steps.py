"""Alignment steps, with what they are sampled from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sacpo.recipe.algorithms import ALGORITHMS, AlgorithmName, AlgorithmOptions, algorithms_and_records
from sacpo.recipe.resample import POLICY
from sacpo.recipe.sampled import SampledSpec
from sacpo.recipe.schema.training import LAYOUT, Layout, LoraSpec, TrainingSpec
from sacpo.recipe.section import MANY, MOST, Name, Names, Positive, Section


class SearchSpec(Section):
    """How the strength of a step with `beta: auto` is found; see docs/plan.md."""

    trainings: int = Field(3, ge=1, le=9, description="at most so many strengths are trained")
    start: Positive | None = Field(None, description="the first strength; predicted from samples by default")
    samples: int = Field(
        16, ge=2, le=MANY, description="answers to each tuning prompt that the prediction is made from"
    )
    score: Literal["auto", "judge", "head", "labels"] = Field(
        "auto",
        description="what scores samples: the step's judges; a head learned from its own pairs; labels, which only "
        "order answers; auto: the first of them that there is",
    )
    unit: Literal["cluster", "prompt"] = Field(
        "cluster", description="what was drawn independently: clusters of prompts, or every prompt by itself"
    )


class DualSpec(Section):
    """The iterated dual of CAID: train, measure the mean score of a judge, correct the judge's weight, train again.

    The weight in the dataset's `judge` is the first; the next is weight - rate (gain of the mean score - gain). The
    models are `NAME-1`, `NAME-2`, ...; elsewhere the step's name means the last.
    """

    judge: str = Field(description="one of the dataset's judges, whose weight is found")
    gain: float = Field(
        description="how much higher than its start's the model's mean score on the step's prompts is to be"
    )
    rate: Positive = Field(1.0, description="change of the weight for a score that is too low by one")
    trainings: int = Field(3, ge=2, le=9, description="weights that are trained")


class StepStart(Section):
    """What a step trains, on what, from where and how strongly."""

    name: Name
    criterion: Name
    algorithm: AlgorithmName = Field("dpo", description=algorithms_and_records())
    dataset: str | Names | SampledSpec
    beta: Positive | Annotated[tuple[Positive, ...], Field(min_length=1)] | Literal["auto"]
    from_: str | None = Field(None, alias="from", description="model to start from; the step before by default")


class StepSpec(AlgorithmOptions, StepStart):
    """One alignment step: its reference is the model it starts from, in every one of its `rounds`; of RWR it is SFT.

    `beta` is the step's own KL strength. For a constraint criterion it is the paper's beta/lambda, wherever the step
    stands in the order (eq. 11). A list is a sweep: one model a value, named `NAME@VALUE`. `auto` lets the run find the
    largest strength whose model meets the constraints of the step's criterion on tuning prompts; elsewhere the step's
    name then stands for the model that was kept.
    """

    max_length: int = Field(512, ge=2, le=MOST, description="tokens of prompt and completion together")
    too_long: Literal["drop", "truncate"] = Field("truncate", description="records longer than max_length")
    layout: Layout = Field("auto", description=LAYOUT)
    rounds: int = Field(
        1,
        ge=1,
        le=9,
        description="train so many times, each time from the model of the round before on what is sampled from it; the "
        "models are NAME-1, NAME-2, ..., the step's name means the last in 'from' and 'merge'",
    )
    training: TrainingSpec = TrainingSpec()
    lora: LoraSpec | None = None
    search: SearchSpec | None = Field(
        None, description="beta: auto only: how the strength is found; for 'factors' its samples and unit"
    )
    dual: DualSpec | None = Field(None, description="find the weight of one of the judges that label the pairs")

    @model_validator(mode="after")
    def _own_options(self) -> StepSpec:
        self.refuse_options_of_others(self.algorithm)
        named = [f"{beta:g}" for beta in self.betas]
        if twice := [name for place, name in enumerate(named) if name in named[:place]]:
            raise ValueError(f"'beta' has {twice[0]} twice (in six digits): every strength is one model")
        if self.beta != "auto" and not self.multiplied:
            self.unused(("search",), "'beta' is given, so nothing is searched for (beta: auto does)")
        if self.algorithm == "rwr" and isinstance(self.dataset, SampledSpec):
            raise ValueError("RWR resamples answers, not pairs: name a data source, and give 'resample'")
        if self.listwise and (self.resample is None or self.resample.draw != "all"):
            raise ValueError("'listwise' compares all of a prompt's samples: give 'resample' with 'draw: all'")
        if isinstance(self.dataset, SampledSpec):
            if self.dataset.offsets and not ALGORITHMS[self.algorithm].offsets:
                raise ValueError(f"{ALGORITHMS[self.algorithm].title} has no offsets, and this 'dataset' gives some")
            if self.dataset.safety is not None and self.beta == "auto":
                raise ValueError("'beta: auto' forecasts from scores, not from 'safety': give a 'beta'")
        return self

    @model_validator(mode="after")
    def _factors(self) -> StepSpec:
        if not self.multiplied:
            return self
        if self.rounds > 1 or isinstance(self.beta, tuple | str):
            raise ValueError("'factors' are chosen for one model: give one number as 'beta', and no 'rounds'")
        if self.search is not None:
            self.search.unused(("trainings", "start", "score"), "'factors' are chosen before anything is trained")
        return self

    @model_validator(mode="after")
    def _rounds(self) -> StepSpec:
        if self.rounds == 1:
            return self
        sampled = self.resample or (self.dataset if isinstance(self.dataset, SampledSpec) else None)
        shares = {} if sampled is None else {str(name): share for name, share in sampled.sample_from.items()}
        if not shares.get(POLICY):
            raise ValueError(
                f"'rounds: {self.rounds}' sample from the model as it stands: give 'sample_from' a share of 'policy'"
            )
        if self.beta == "auto" or self.dual is not None:
            raise ValueError("'rounds' are trained at given strengths and weights: leave out 'beta: auto' and 'dual'")
        return self

    @model_validator(mode="after")
    def _dual(self) -> StepSpec:
        if self.dual is None:
            return self
        if not isinstance(self.dataset, SampledSpec) or self.dual.judge not in self.dataset.weights:
            raise ValueError("'dual' names none of the judges that label the pairs of 'dataset'")
        if len(self.dataset.weights) < 2 or isinstance(self.beta, tuple | str):
            raise ValueError("'dual' finds one weight beside others, at one 'beta'")
        return self

    def aims(self, beta: float) -> tuple[tuple[str, float], ...]:
        """Return criterion and strength of all that a step at one strength is for: of joint scores several."""
        scored = self.resample or (self.dataset if isinstance(self.dataset, SampledSpec) else None)
        weights = {} if scored is None else scored.aims if isinstance(scored, SampledSpec) else scored.weights
        if len(weights) < 2:
            return ((self.criterion, beta),)
        return tuple((criterion, beta / weight) for criterion, weight in weights.items())

    @property
    def multiplied(self) -> bool:
        """Whether the run chooses factors of its weights."""
        return self.resample is not None and bool(self.resample.factors)

    @property
    def betas(self) -> tuple[float, ...]:
        """Every strength of the sweep, in the recipe's order; none where the run finds it."""
        if self.beta == "auto":
            return ()
        return self.beta if isinstance(self.beta, tuple) else (self.beta,)

    @property
    def swept(self) -> bool:
        """Whether the step has more than one strength."""
        return isinstance(self.beta, tuple)
