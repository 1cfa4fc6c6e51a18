"""A criterion's judge as a value: what its verdicts depend on, and how it is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from sacpo.judging.kinds import Bench, Parts, make_judge, make_scores
from sacpo.judging.llm.judge import asked_of
from sacpo.judging.question import Judge
from sacpo.judging.rubric import Rubric
from sacpo.judging.scored import ScoreFunction
from sacpo.merge.source import Checkpoint
from sacpo.pipeline.stage import UNCOUNTED, content_of
from sacpo.pipeline.tools import Tools
from sacpo.plain import JsonMapping, JsonObject
from sacpo.recipe.llm import AskingSpec, PanelSpec
from sacpo.recipe.schema import BaseSpec, JudgeSpec, WorldSpec
from sacpo.system.files import content_key
from sacpo.world import World

ELSEWHERE = ("model", "revision", "trust_remote_code", "dataset", "training", "too_long", "rubric", "prompts")
"""Options of a judge that count with its model, its rubric or its stage; verdicts depend on any other one.

Consent to a model's own code changes no verdict.
"""


@dataclass(frozen=True)
class CriterionJudge:
    """The judge of one criterion.

    Attributes:
        criterion: What it judges by.
        counted: What of its options its verdicts depend on; see `options_of`.
        base: Template, dtype, device and consent to remote code of a model that scores.
        model: The model that scores, from outside or trained in the run.
        world: The world, where it is the world that judges.
        rubric: What language models judge by.
        spec: All its options; those that are not in `counted` say how it is reached, not what it says.
    """

    criterion: str
    counted: JsonMapping
    base: BaseSpec
    model: Checkpoint | None
    world: WorldSpec | None
    rubric: Rubric | None
    spec: JudgeSpec = field(metadata=UNCOUNTED)

    @cached_property
    def key(self) -> str:
        """Its content key."""
        content, inputs = content_of(self)
        return content_key([content, {name: stage.key for name, stage in inputs.items()}])

    def make(self, tools: Tools) -> Judge:
        """Return the judge, which knows the baseline's scores from the models before."""
        return tools.judge(self.key, lambda bench: make_judge(self._parts(tools, bench)))

    def scores(self, tools: Tools) -> ScoreFunction:
        """Return its scores; errors as of `sacpo.judging.kinds.make_scores`."""
        return make_scores(self._parts(tools, tools.bench))

    def _parts(self, tools: Tools, bench: Bench) -> Parts:
        if self.model is not None:
            tools.make_room()
        path = None if self.model is None else tools.path(self.model)
        world = None if self.world is None else World(self.world)
        return Parts(self.criterion, self.spec, self.base, path, world, self.rubric, bench)


def panel_judge(panel: PanelSpec, rubric: Rubric) -> CriterionJudge:
    """Return the judge that a panel and one rubric are; nothing is asked of a model on this machine."""
    asked = {name: getattr(panel, name) for name in AskingSpec.model_fields}
    spec = JudgeSpec(kind="llm", rubric=rubric.name, **asked)
    return CriterionJudge(rubric.criterion, options_of(spec), BaseSpec(model="none"), None, None, rubric, spec)


def options_of(spec: JudgeSpec) -> JsonObject:
    """Return what a judge's verdicts depend on beside its model; of language models who is asked, and how often."""
    if spec.kind == "llm":
        panel = [{**asked_of(judge), "name": judge.name} for judge in spec.judges]
        return {"kind": spec.kind, "panel": panel, "orders": spec.orders, "repeats": spec.repeats}
    return spec.model_dump(mode="json", exclude={*ELSEWHERE, *AskingSpec.model_fields})
