"""Alignment steps, with what they are sampled from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from sacpo.recipe.algorithms import ALGORITHMS, AlgorithmName, AlgorithmOptions, algorithms_and_records
from sacpo.recipe.resample import POLICY
from sacpo.recipe.schema.training import LAYOUT, Layout, LoraSpec, TrainingSpec
from sacpo.recipe.section import MANY, MOST, Count, Fraction, Name, Names, Positive, Section


class SafetySpec(Section):
    """Pairs as SafeDPO has them: two unsafe answers are dropped; a safe answer is preferred to an unsafe one."""

    judge: str = Field(description="a judge of 'evaluate' that says whether an answer is safe")
    offset: float = Field(
        0.0, ge=0, le=30, description="Delta of SafeDPO, C of BSO: what the rewards of such two must differ by"
    )


class SampledSpec(Section):
    """Pairs sampled from models and labelled by judges that give scores.

    The label is Bradley-Terry on the score s of a judge, or on the weighted sum of several judges' scores (joint
    labels, r + lambda g): p = sigmoid(score_scale * (s1 - s2)). Language models give scores by a rubric of kind rating.
    Of language models that compare it is the mean of their verdicts, over both orders; ties count half.
    """

    prompts: str = Field(description="a data source used as prompts")
    sample_from: dict[Literal["sft", "reference", "policy"], Fraction] = Field(
        {"sft": 1.0},
        description="share of the prompts answered by the SFT model, by the step's own reference, and by the policy as "
        "it stands: the model of the round before, in the first round the reference",
    )
    judge: str | Annotated[dict[str, Positive], Field(min_length=2)] = Field(
        description="a judge of 'evaluate' that gives scores, or language models that compare; or several judges with "
        "scores and their weights"
    )
    labels: Literal["soft", "sampled", "hard"] = Field(
        "sampled", description="the probability itself, draws from it, or the more probable answer"
    )
    votes: int = Field(1, ge=1, le=MANY, description="draws for each pair; the label is the share of them")
    score_scale: Positive = 1.0
    ties: Literal["keep", "drop"] = Field("drop", description="pairs with equal scores")
    temperature: Positive = 1.0
    max_new_tokens: Count = 128
    offset: Annotated[dict[str, Positive], Field(min_length=1)] | None = Field(
        None, description="judges whose scores, times these weights, are added to what the labels say (MODPO)"
    )
    safety: SafetySpec | None = Field(None, description="safe answers first (SafeDPO, BSO)")

    @field_validator("sample_from")
    @classmethod
    def _shares(cls, value: dict[str, float]) -> dict[str, float]:
        if abs(sum(value.values()) - 1) > 1e-6:
            raise ValueError(f"the shares must add up to 1, and these add up to {sum(value.values()):g}")
        return value

    @model_validator(mode="after")
    def _used(self) -> SampledSpec:
        if self.labels == "hard":
            self.unused(("score_scale",), "hard labels take the better score, however much better it is")
        if self.labels != "sampled":
            self.unused(("votes",), f"labels: {self.labels} draws nothing")
        if twice := [name for name in self.offset or () if name in self.weights]:
            raise ValueError(f"'{twice[0]}' labels the pairs and is an offset: name it once")
        return self

    @property
    def weights(self) -> dict[str, float]:
        """The judges whose scores are summed, with their weights."""
        return {self.judge: 1.0} if isinstance(self.judge, str) else self.judge

    @property
    def aims(self) -> dict[str, float]:
        """The judges whose weighted scores a model of the pairs aims at: those of the labels and of the offsets."""
        return {**self.weights, **(self.offset or {})}

    @property
    def offsets(self) -> bool:
        """Whether pairs get offsets."""
        return self.offset is not None or (self.safety is not None and self.safety.offset > 0)

    @property
    def words(self) -> str:
        """What the pairs are judged by, such as "harmlessness" or "helpfulness + 2 harmlessness"."""
        return " + ".join(name if weight == 1 else f"{weight:g} {name}" for name, weight in self.weights.items())


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
    """One alignment step: its reference is the model it starts from, in every one of its `rounds`.

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
