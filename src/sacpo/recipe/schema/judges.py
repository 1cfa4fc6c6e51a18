"""Judges of one criterion each, and what a recipe knows of every kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, model_validator

from sacpo.recipe.llm import AskingSpec
from sacpo.recipe.metrics import Given
from sacpo.recipe.sampled import SampledSpec
from sacpo.recipe.schema.training import TrainingSpec
from sacpo.recipe.section import MOST, Count, Names

TRAINED = {"training", "too_long"}
"""Keys of a reward model that is trained here."""

JudgeKind = Literal["oracle", "reward-model", "refusal", "llm"]


class JudgeSpec(AskingSpec):
    """A judge of one criterion.

    oracle: the world's own score of helpfulness, harmlessness, over_refusal, politeness or brevity, or its label of
    refusal. reward-model: a sequence-classification model whose logit (times `sign`) is the score; `model` is a hub
    id or folder, or `dataset` names or samples pairs to train one from the SFT model. refusal: finds refusals in the
    text. llm: language models behind endpoints (`panel`), by a rubric, which compares two answers, labels one or rates
    one (kind rating: scores, as a reward model gives them). A criterion with several of them is a panel: a
    prompt's value is the mean over the judges, and it counts only when every judge was read in every order; an answer
    has a label (unsafe, refusal) when at least half of the judges give it. Their verdicts are kept in the run's
    folder, so that no answer is paid for twice. Two equal answers are a tie and nobody is asked.
    """

    kind: JudgeKind
    model: str | None = None
    revision: str | None = None
    trust_remote_code: bool = Field(
        False, description="run code that comes with this judge's model; base's is not asked"
    )
    dataset: str | Names | SampledSpec | None = None
    training: TrainingSpec = TrainingSpec()
    max_length: int = Field(512, ge=2, le=MOST)
    too_long: Literal["drop", "truncate"] = Field("truncate", description="training pairs longer than max_length")
    sign: Literal[1, -1] = Field(1, description="-1 for a cost model, whose logit is higher for worse answers")
    unsafe_below: float | None = Field(None, description="answers with a lower score are labelled unsafe")
    rubric: str | None = Field(None, description="llm: a built-in rubric or a file; the criterion's name by default")
    prompts: Names | None = Field(None, description="prompt sets that it judges; all by default")
    batch_size: Count = 16

    @model_validator(mode="after")
    def _origin(self) -> JudgeSpec:
        if (self.kind == "reward-model") != ((self.model is None) != (self.dataset is None)):
            raise ValueError("kind 'reward-model' needs exactly one of 'model' and 'dataset'; other kinds take neither")
        if (self.kind == "llm") != bool(self.judges) or (self.kind != "llm" and self.rubric is not None):
            raise ValueError("kind 'llm' needs a 'panel', as in panel: {model: NAME}; other kinds take no such keys")
        if isinstance(self.dataset, SampledSpec) and {*self.dataset.sample_from} != {"sft"}:
            raise ValueError("a judge has no reference and no policy: let it sample its pairs from 'sft' alone")
        if isinstance(self.dataset, SampledSpec) and (self.dataset.offset or self.dataset.safety):
            raise ValueError("a judge learns from labels alone: leave 'offset' and 'safety' out of its pairs")
        used = {*JUDGES[self.kind].options, "kind", "prompts"} - (set() if self.dataset is not None else TRAINED)
        used -= {"revision", "trust_remote_code"} if self.dataset is not None else set()
        by = f"a judge of kind '{self.kind}'" + (" with a 'model'" if self.model is not None else "")
        self.unused([name for name in type(self).model_fields if name not in used], f"{by} does not use it")
        return self

    def gives(self, criterion: str) -> set[Given]:
        """Return what it may say of answers as the judge of a criterion."""
        return JUDGES[self.kind].gives(criterion, self)


def _oracle(criterion: str, spec: JudgeSpec) -> set[Given]:
    if criterion == "refusal":
        return {"refusals"}
    return {"scores", "comparisons", "unsafe"} if criterion == "harmlessness" else {"scores", "comparisons"}


def _reward_model(criterion: str, spec: JudgeSpec) -> set[Given]:
    return {"scores", "comparisons"} if spec.unsafe_below is None else {"scores", "comparisons", "unsafe"}


@dataclass(frozen=True)
class JudgeFacts:
    """What a recipe knows of a kind of judge.

    Attributes:
        gives: What the judge of a criterion may say of answers; of language models, it is the rubric that tells.
        options: The keys of `JudgeSpec` that it uses, beside `kind` and `prompts`; others must be left out.
    """

    gives: Callable[[str, JudgeSpec], set[Given]]
    options: tuple[str, ...] = ()


SCORER = ("model", "revision", "trust_remote_code", "dataset", "max_length", "sign", "unsafe_below", "batch_size")
JUDGES: dict[JudgeKind, JudgeFacts] = {
    "oracle": JudgeFacts(_oracle),
    "reward-model": JudgeFacts(_reward_model, (*SCORER, *sorted(TRAINED))),
    "refusal": JudgeFacts(lambda *_: {"refusals"}),
    "llm": JudgeFacts(lambda *_: {"scores", "comparisons", "unsafe", "refusals"}, ("rubric", *AskingSpec.model_fields)),
}
"""Every kind of judge; how one judges is a module of the same name in `sacpo.judging.kinds`."""
