"""Pairs that are sampled from models and labelled by judges, as a recipe says it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from sacpo.recipe.section import MANY, Count, Fraction, Positive, Section


class SafetySpec(Section):
    """Pairs as SafeDPO has them: two unsafe answers are dropped; a safe answer is preferred to an unsafe one."""

    judge: str = Field(description="a judge of 'evaluate' that says whether an answer is safe")
    offset: float = Field(
        0.0, ge=0, le=30, description="Delta of SafeDPO, C of BSO: what the rewards of such two must differ by"
    )


class PairLabels(Section):
    """Who labels pairs of answers, and how; see `SampledSpec`."""

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

    @model_validator(mode="after")
    def _labelled(self) -> Self:
        if self.labels == "hard":
            self.unused(("score_scale",), "hard labels take the better score, however much better it is")
        if self.labels != "sampled":
            self.unused(("votes",), f"labels: {self.labels} draws nothing")
        return self

    @property
    def weights(self) -> dict[str, float]:
        """The judges whose scores are summed, with their weights."""
        return {self.judge: 1.0} if isinstance(self.judge, str) else self.judge

    @property
    def words(self) -> str:
        """What the pairs are judged by, such as "harmlessness" or "helpfulness + 2 harmlessness"."""
        return " + ".join(name if weight == 1 else f"{weight:g} {name}" for name, weight in self.weights.items())


class SampledSpec(PairLabels):
    """Pairs sampled from models, one a prompt, and labelled by judges.

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
    def _used(self) -> Self:
        if twice := [name for name in self.offset or () if name in self.weights]:
            raise ValueError(f"'{twice[0]}' labels the pairs and is an offset: name it once")
        return self

    @property
    def aims(self) -> dict[str, float]:
        """The judges whose weighted scores a model of the pairs aims at: those of the labels and of the offsets."""
        return {**self.weights, **(self.offset or {})}

    @property
    def offsets(self) -> bool:
        """Whether pairs get offsets."""
        return self.offset is not None or (self.safety is not None and self.safety.offset > 0)


class ScorePairs(PairLabels):
    """Pairs that are labelled for a score: of SFT answers to other prompts, or of the step's own samples.

    Pairs of the step's own samples cost nothing but their labels, and tell of the very answers that are learnt.
    Who labels, and how, as in [SampledSpec](#sampledspec).
    """

    prompts: str = Field("", description="a data source used as prompts; left out: pairs are of the step's own samples")
    pairs: int = Field(
        4,
        ge=1,
        le=MANY,
        description="of the step's own samples: different pairs of answers to each prompt, by lot, at most",
    )

    @model_validator(mode="after")
    def _of_samples(self) -> Self:
        if self.own:
            self.unused(("temperature", "max_new_tokens"), "pairs are of the step's own samples")
        else:
            self.unused(("pairs",), "each prompt of a data source has one pair")
        return self

    @property
    def own(self) -> bool:
        """Whether the pairs are of the step's own samples."""
        return not self.prompts

    @property
    def sampled(self) -> SampledSpec:
        """Those to other prompts."""
        return SampledSpec(**self.model_dump(exclude={"pairs"}))
