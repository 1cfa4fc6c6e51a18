"""How sampled pairs are labelled: the judges' file of `sacpo collect`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sacpo.recipe.llm import BudgetSpec
from sacpo.recipe.schema import JudgeSpec, WorldSpec
from sacpo.recipe.section import MANY, Count, Positive, Section

HELPFUL, HARMLESS, SAFE, SEVERE = "helpfulness", "harmlessness", "safety", "severity"
COMPARED = (HELPFUL, HARMLESS)
"""What the two answers of a pair are compared by."""
LABELLED = (SAFE, SEVERE)
"""What each answer is labelled by alone."""
Asked = Literal["helpfulness", "harmlessness", "safety", "severity"]


class DrawSpec(Section):
    """How pairs of answers are drawn."""

    second: str | None = Field(None, description="another model that answers the same prompts")
    limit: Count | None = Field(None, description="take so many prompts, drawn by the seed")
    samples: Count = Field(2, description="answers of each model at each temperature to each prompt")
    temperatures: tuple[Positive, ...] = Field((1.0,), min_length=1, description="of sampling")
    pairs: Count = Field(1, description="pairs of one prompt, at most")
    near: Positive = Field(0.8, le=1, description="of answers to one prompt that are at least so similar one is kept")

    @model_validator(mode="after")
    def _enough(self) -> DrawSpec:
        if len(set(self.temperatures)) < len(self.temperatures):
            raise ValueError("'temperatures' names one twice")
        answers = self.samples * len(self.temperatures) * (1 if self.second is None else 2)
        if answers < 2 * self.pairs:
            raise ValueError(
                f"{answers} answers to a prompt are too few for 'pairs: {self.pairs}': raise 'samples', or name more "
                "temperatures or a 'second' model"
            )
        return self


class LabelSpec(Section):
    """Who labels what.

    Helpfulness and harmlessness compare the two answers. Safety labels each answer alone; without a judge of its own,
    harmlessness must give labels too: the world's oracle does, and a cost model with `unsafe_below`. Severity may be
    left out.
    """

    judges: dict[Asked, JudgeSpec] = Field({}, description="as in a recipe's `evaluate.judges`")
    people: dict[Asked, Annotated[str, Field(min_length=1)]] = Field(
        {}, description="stores of `sacpo label`, by what was labelled in them"
    )
    world: WorldSpec | None = Field(None, description="the world of judges of kind oracle")
    labels: Literal["hard", "sampled"] = Field("hard", description="the more probable answer, or a draw from it")
    votes: int = Field(1, ge=1, le=MANY, description="sampled: draws for each pair; most of them decide")
    score_scale: Positive = Field(1.0, description="judges with scores: p = sigmoid(score_scale (s1 - s2))")
    ties: Literal["drop", "draw"] = Field("drop", description="pairs without a preference: left out, or by lot")
    budget: BudgetSpec = BudgetSpec()

    @model_validator(mode="after")
    def _complete(self) -> LabelSpec:
        asked = [*self.judges, *self.people]
        twice = sorted(set(self.judges) & set(self.people))
        if twice:
            raise ValueError(f"'{twice[0]}' is labelled by judges and by people; leave one of them out")
        missing = [name for name in COMPARED if name not in asked]
        if missing:
            raise ValueError(f"nobody labels {missing[0]}: name a judge under 'judges', or a store under 'people'")
        for name, spec in self.judges.items():
            _check(name, spec)
        if SAFE not in asked and not (HARMLESS in self.judges and "unsafe" in self.judges[HARMLESS].gives(HARMLESS)
                                      and self.judges[HARMLESS].kind != "llm"):  # fmt: skip
            raise ValueError("nobody says whether an answer is safe: add 'safety' to 'judges' or 'people'")
        oracles = [name for name, spec in self.judges.items() if spec.kind == "oracle"]
        if bool(oracles) != (self.world is not None):
            raise ValueError("judges of kind 'oracle' need a 'world', and others use none")
        if self.labels == "hard":
            self.unused(("votes",), "hard labels draw nothing")
        return self


def _check(name: str, spec: JudgeSpec) -> None:
    if spec.kind == "refusal" or (name in LABELLED and spec.kind != "llm"):
        raise ValueError(f"a judge of kind '{spec.kind}' cannot label {name}")
    if spec.dataset is not None:
        raise ValueError(
            f"the judge of {name} is to be trained from a 'dataset', which only a run does; name a 'model'"
        )
    if spec.prompts is not None:
        raise ValueError(f"'prompts' of the judge of {name} has no effect here: it judges all pairs; leave it out")
