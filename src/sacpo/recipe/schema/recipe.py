"""A whole recipe."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PrivateAttr

from sacpo.plain import JsonObject
from sacpo.recipe.published import Written, published
from sacpo.recipe.schema.base import BaseSpec
from sacpo.recipe.schema.evaluate import (
    CertifySpec,
    ConstraintSpec,
    EvaluateSpec,
    ObjectiveSpec,
    ReportSpec,
    TheorySpec,
)
from sacpo.recipe.schema.merges import MergeSpec
from sacpo.recipe.schema.sources import DataSpec, PromptsSpec
from sacpo.recipe.schema.steps import StepSpec
from sacpo.recipe.schema.training import SftSpec, TrainingSpec
from sacpo.recipe.section import MANY, Fraction, Name, Section


class WorldSpec(Section):
    """The world's size; every part of it follows from its seed."""

    seed: int = 0
    ordinary: int = Field(60, ge=1, le=MANY, description="tasks of this kind")
    restricted: int = Field(40, ge=1, le=MANY)
    borderline: int = Field(20, ge=1, le=MANY)
    sft_compliance: Fraction = Field(0.62, description="share of restricted tasks that demonstrations comply with")
    refusal_length: Literal["short", "usual", "long"] = Field(
        "usual", description="of refusals in demonstrations: 3 to 5, 6 or 7, 15 or 16 tokens; they are worth the same"
    )


class Recipe(Section):
    """One experiment, from data to report."""

    name: Name
    seed: int = 0
    world: WorldSpec | None = None
    base: BaseSpec
    data: dict[Name, DataSpec] = Field({})
    allow_shared_prompts: bool = Field(
        False, description="accept prompts that training and evaluation, or selection and report, share"
    )
    sft: SftSpec | None = None
    training: TrainingSpec = Field(TrainingSpec(), description="defaults for sft and every step")
    steps: tuple[StepSpec, ...] = ()
    merge: tuple[MergeSpec, ...] = ()
    prompts: dict[Name, PromptsSpec] = Field({})
    evaluate: EvaluateSpec = EvaluateSpec()
    constraints: tuple[ConstraintSpec, ...] = ()
    objective: ObjectiveSpec | None = None
    certify: CertifySpec | None = Field(
        None, description="shows on prompts that the choice has not seen that the constraints hold"
    )
    theory: TheorySpec | None = None
    report: ReportSpec = ReportSpec()
    _written: Written = PrivateAttr(default_factory=Written)

    def note(self, written: Written) -> None:
        """Note how the recipe was written before its environment variables got their values."""
        self._written = written

    def written(self) -> JsonObject:
        """Return the recipe as plain data that may be published: environment variables by their names."""
        found: JsonObject = self._written.restored(self.model_dump(mode="json", by_alias=True))
        return found

    def hidden(self, data: object) -> Any:
        """Return data that were made from the recipe with environment variables by their names."""
        return self._written.hidden(data)

    def published(self) -> list[str]:
        """Return what the user should know of what a run publishes."""
        return published(self.written(), self._written)
