"""The choice: the best model that meets every constraint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from sacpo.pipeline.stage import JsonStage
from sacpo.pipeline.stages.verdicts import Measures
from sacpo.pipeline.tools import Tools
from sacpo.plain import JsonMapping
from sacpo.recipe.schema import ConstraintSpec, ObjectiveSpec
from sacpo.select import select_model
from sacpo.system.files import write_json

SELECTION = "selection.json"


@dataclass(frozen=True)
class Selection(JsonStage):
    """The choice between models, by their measures on tuning prompts."""

    result: ClassVar[str] = SELECTION

    measures: tuple[Measures, ...]
    constraints: tuple[ConstraintSpec, ...]
    objective: ObjectiveSpec
    roles: Mapping[str, str]

    @property
    def name(self) -> str:
        """`select`."""
        return "select"

    def work(self, out: Path, tools: Tools) -> None:
        """Choose."""
        measures = {stage.title: tools.read(stage) for stage in self.measures}
        write_json(out / SELECTION, select_model(measures, self.constraints, self.objective, roles=self.roles))


def chosen_name(selection: JsonMapping, certificate: JsonMapping | None) -> str | None:
    """Return the model that is certified, else the one chosen by point estimates; None: none is."""
    found: str | None = (certificate or {}).get("certified") or selection["chosen"]
    return found
