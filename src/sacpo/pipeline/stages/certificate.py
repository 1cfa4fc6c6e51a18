"""The certificate of a run: its prompts are checked first, the plan is written down, then candidates are tested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from sacpo.certify.looks import CERTIFICATE, RESULT, document, no_look, write_down
from sacpo.certify.plan import Sample, check_apart, check_enough, check_labels, plan_of, samples_of, unit_of
from sacpo.certify.terms import POPULATION, Terms, terms
from sacpo.certify.tests import run_tests
from sacpo.data.records import Answer, Kind, Verdict
from sacpo.data.splits import check_apart as check_texts_apart
from sacpo.data.splits import check_shared
from sacpo.errors import RunError
from sacpo.judging.verdicts import VERDICTS, judge_answers
from sacpo.merge.source import ModelSource
from sacpo.pipeline.stage import UNSAID, JsonStage, Stage, content_of
from sacpo.pipeline.stages.answers import Answers
from sacpo.pipeline.stages.data import PROMPTS, Data, Prompts, report_of
from sacpo.pipeline.stages.selection import Selection
from sacpo.pipeline.stages.verdicts import Verdicts
from sacpo.pipeline.tools import Tools
from sacpo.plain import JsonMapping, JsonObject
from sacpo.recipe.metrics import METRICS
from sacpo.recipe.schema import CertifySpec, ConstraintSpec, JudgeSpec, ObjectiveSpec
from sacpo.system.files import content_key, file_hash, read_json, write_json

LOOKS = "looks"
"""Folder of a run that keeps every look at certification prompts, whatever the recipe was."""


@dataclass(frozen=True)
class Certified:
    """What a recipe wants certified.

    Attributes:
        spec: Its section `certify`.
        constraints: The bounds.
        objective: What decides between certified models.
    """

    spec: CertifySpec
    constraints: tuple[ConstraintSpec, ...]
    objective: ObjectiveSpec

    def terms(self, population: str = "") -> Terms:
        """Return the terms of the certificate; of the population what the prompt set says of itself."""
        spec = self.spec
        return terms(
            [b.model_dump(exclude={"prompts"}, exclude_none=True) for b in (*self.constraints, *spec.tails)],
            self.objective.model_dump(exclude={"prompts"}),
            spec.confidence,
            spec.spend,
            spec.population or f"{POPULATION[spec.unit]}: {population}",
            spec.unit,
            None if spec.labels is None else spec.labels.method,
            spec.per,
        )

    @property
    def seen(self) -> list[str]:
        """The prompt sets that order the candidates."""
        bounds = [one.prompts for one in self.constraints] + [one.prompts for one in self.spec.tails]
        return [*dict.fromkeys([*bounds, self.objective.prompts])]

    def judges(self, judges: Mapping[str, JudgeSpec]) -> list[str]:
        """Return the criteria whose judges the bounds need."""
        needed = {METRICS[bound.metric].needs for bound in self.constraints if bound.criterion is None}
        named = {one.criterion for one in self.constraints} | {one.criterion for one in self.spec.tails}
        asked = {name for name, spec in judges.items() if spec.prompts is None or self.spec.prompts in spec.prompts}
        return [name for name in judges if name in named or (name in asked and needed & judges[name].gives(name))]


@dataclass(frozen=True)
class CertificationPrompts(JsonStage):
    """Whether the prompts can certify anything: enough of them, and nothing trained or chosen with them."""

    result: ClassVar[str] = RESULT

    wanted: Certified
    prompts: Prompts
    tuning: tuple[Prompts, ...]
    data: tuple[Data, ...]

    @property
    def name(self) -> str:
        """`certify/prompts`."""
        return "certify/prompts"

    def work(self, out: Path, tools: Tools) -> None:
        """Write how many units every bound has."""
        own, name = self.wanted.terms(), self.prompts.source.name
        sealed = tools.read(self.prompts)
        samples = [samples_of(bound, sealed, own) for bound in own.bounds]
        check_enough(own.bounds, samples, own.delta)
        if self.wanted.spec.labels is not None:
            for text in check_labels(own, samples, self.wanted.spec.labels.n, sealed):
                tools.progress.notice(text)
        tuning = {stage.source.name: tools.read(stage) for stage in self.tuning}
        training = {}
        for stage in self.data:
            found = tools.read(stage)
            training[stage.source.name] = [*found.train, *found.heldout]
        check_shared(training, {name: sealed}, allow=False)
        check_texts_apart(tuning, {name: sealed}, allow=False)
        units = {p.id: unit_of(p.cluster, p.id, own.unit) for prompts in tuning.values() for p in prompts}
        check_apart(units, {p.id: unit_of(p.cluster, p.id, own.unit) for p in sealed})
        write_json(out / RESULT, {b.key: _units(found) for b, found in zip(own.bounds, samples, strict=True)})


@dataclass(frozen=True)
class Labels(Verdicts):
    """True labels of some answers of a candidate, drawn at random for every kind that a bound counts.

    Attributes:
        n: Answers of each kind.
        kinds: The kinds.
        seed: The root of the draw.
    """

    n: int
    kinds: tuple[Kind, ...]
    seed: int

    @property
    def name(self) -> str:
        """`label/MODEL/PROMPTS`."""
        return f"label/{self.title}"

    def verdicts(self, tools: Tools) -> tuple[list[Answer], list[Verdict]]:
        """Return the drawn answers and their labels."""
        rng, answers = np.random.default_rng(self.seed), tools.read(self.answers)
        drawn = []
        for kind in self.kinds:
            own = [answer for answer in answers if answer.prompt.kind is kind]
            if kind is Kind.RESTRICTED and not own:
                own = [answer for answer in answers if answer.prompt.kind is Kind.UNKNOWN]
            drawn += [own[i] for i in sorted(rng.permutation(len(own))[: self.n])]
        return drawn, [v for judge in self.judges for v in judge_answers(judge.make(tools), drawn, None)]


@dataclass(frozen=True)
class Planned:
    """A plan that was written down, or why there is none.

    Attributes:
        plan: The plan.
        look: Its number; None: the certification prompts stay closed.
        why: Why they do.
    """

    plan: JsonMapping
    look: int | None
    why: str

    @property
    def names(self) -> list[str]:
        """The candidates in their order; none where the prompts stay closed."""
        return [one["model"] for one in self.plan["order"]] if self.look is not None else []

    def fails(self, own: Terms, name: str, verdicts: Sequence[Verdict], truth: Sequence[Verdict]) -> bool:
        """Tell whether a candidate fails: those behind it are not tested."""
        return not self.tests(own, {name: verdicts}, {name: truth})["all_certified"]

    def tests(
        self, own: Terms, said: Mapping[str, Sequence[Verdict]], truth: Mapping[str, Sequence[Verdict]]
    ) -> JsonObject:
        """Test candidates in order, as far as they were judged; `truth`: true labels, where there are any."""
        order = [one for one in self.plan["order"] if one["model"] in said]
        units = {name: in_units(verdicts, own.unit) for name, verdicts in said.items()}
        known = {name: in_units(verdicts, own.unit) for name, verdicts in truth.items()}
        return run_tests({**self.plan, "order": order}, own.bounds, units, known)


@dataclass(frozen=True)
class CertificatePlan(Stage[Planned]):
    """The plan, written down before a certification prompt is answered.

    Attributes:
        wanted: What is to be certified.
        checked: The certification prompts, which are enough.
        selection: The choice on tuning prompts.
        verdicts: Every model's verdicts on the tuning prompts of the bounds and the objective.
        models: Every model.
        drawn: The seed of the draw of true labels; 0: there are none.
    """

    wanted: Certified
    checked: CertificationPrompts
    selection: Selection
    verdicts: Mapping[str, tuple[Verdicts, ...]]
    models: Mapping[str, ModelSource]
    drawn: int = field(default=0, metadata=UNSAID)

    @property
    def name(self) -> str:
        """`certify/plan`."""
        return "certify/plan"

    @property
    def prompts(self) -> Prompts:
        """The certification prompts."""
        return self.checked.prompts

    def terms(self, tools: Tools) -> Terms:
        """Return the certificate's terms."""
        return self.wanted.terms(report_of(tools.at(self.prompts))["population"])

    def goal(self, name: str) -> Verdicts:
        """Return a model's verdicts on the objective's prompts."""
        return self.verdicts[name][self.wanted.seen.index(self.wanted.objective.prompts)]

    def work(self, out: Path, tools: Tools) -> None:
        """Write the plan, in the folder of all looks too."""
        own, spec = self.terms(tools), self.wanted.spec
        said = {
            name: in_units([v for stage in self.verdicts[name] for v in tools.read(stage)], own.unit)
            for name in self._candidates(tools)
        }
        if not said:
            why = (
                "no model meets the bounds on tuning prompts by its point estimates; no certification prompt was opened"
            )
            write_json(out / RESULT, {"plan": {"order": []}, "look": None, "why": why})
            return
        data = {
            "tuning": [file_hash(tools.at(stage) / VERDICTS) for name in said for stage in self.verdicts[name]],
            "certification": [file_hash(tools.at(self.prompts) / PROMPTS)],
            "models": [model_key(self.models[name]) for name in said],
        }
        if spec.labels is not None:  # other labels are another look
            data["labels"] = [content_key([spec.labels.model_dump(mode="json"), self.drawn])]
        goal = {name: in_units(tools.read(self.goal(name)), own.unit) for name in said}
        plan = plan_of(own, said, [prompt.id for prompt in tools.read(self.prompts)], data, spec.most, goal)
        try:
            look, why = write_down(tools.folder.path / LOOKS, plan), ""
        except RunError as error:
            look, why = None, f"{error.what}; {error.do}"
        write_json(out / RESULT, {"plan": plan, "look": look, "why": why})

    def _candidates(self, tools: Tools) -> list[str]:
        wanted = self.wanted.spec.candidates
        if wanted == "feasible":
            models = tools.read(self.selection)["models"]
            return [name for name in self.verdicts if models[name]["feasible"]]
        return [*self.verdicts] if wanted == "all" else [*wanted]

    def read(self, folder: Path) -> Planned:
        """Return the plan."""
        return Planned(**read_json(folder / RESULT))


@dataclass(frozen=True)
class Certificate(JsonStage):
    """The certificate, or why there is none.

    Attributes:
        plan: The plan.
        answers, verdicts, labels: Of the candidates that were tested, by model; no labels where the judge is believed.
    """

    result: ClassVar[str] = RESULT

    plan: CertificatePlan
    answers: Mapping[str, Answers]
    verdicts: Mapping[str, Verdicts]
    labels: Mapping[str, Labels]

    @property
    def name(self) -> str:
        """`certify/certificate`."""
        return "certify/certificate"

    def work(self, out: Path, tools: Tools) -> None:
        """Test and write."""
        planned, own = tools.read(self.plan), self.plan.terms(tools)
        if planned.look is None:
            write_json(out / RESULT, no_look(own, planned.why))
            return
        said, truth = (
            {name: tools.read(stage) for name, stage in stages.items()} for stages in (self.verdicts, self.labels)
        )
        tests = planned.tests(own, said, truth)
        tests["not_tested"] = [name for name in planned.names if name not in self.verdicts]
        places = self._places(planned, tests["certified"], tools)
        result = document(own, planned.plan, planned.look, tests, bound=True, **places)
        write_json(out / RESULT, result)
        if result["certified"] is not None:
            write_json(out / CERTIFICATE, result)

    def _places(self, planned: Planned, certified: str | None, tools: Tools) -> JsonObject:
        """Return what is covered: files with their hashes, and the keys of the stages that they belong to."""
        tuning = [stage for name in planned.names for stage in self.plan.verdicts[name]]
        stages: dict[str, list[Stage[object]]] = {
            "tuning": [*tuning],
            "certification": [self.plan.prompts, *self.answers.values(), *self.verdicts.values()],
            "labels": [*self.labels.values()],
            "bound": [] if certified is None else [*content_of(self.plan.models[certified])[1].values()],
        }
        root = tools.folder.path
        files = {
            role: {
                path.relative_to(root).as_posix(): file_hash(path)
                for stage in members
                for path in _files(tools.at(stage), role)
            }
            for role, members in stages.items()
        }
        keys = {stage.name: stage.key for members in stages.values() for stage in members}
        folders = {
            "tuning": [f"stages/{stage.name}" for stage in tuning],
            "certification": [f"stages/{stage.name}" for stage in self.verdicts.values()],
            "labels": [f"stages/{stage.name}" for stage in self.labels.values()],
            "prompts": [f"stages/{self.plan.prompts.name}"],
        }
        if len(self.plan.wanted.seen) > 1:
            folders["objective"] = [f"stages/{self.plan.goal(name).name}" for name in planned.names]
        return {"files": files, "folders": folders, "run": {"looks": LOOKS, "keys": keys}}


def _units(samples: Sequence[Sample]) -> int | dict[str, int]:
    """Return how many units a bound has, or each category of it."""
    found = {sample.category: sample.clusters for sample in samples}
    return found[None] if None in found else {str(name): n for name, n in found.items()}


def in_units(verdicts: Sequence[Verdict], unit: str) -> list[Verdict]:
    """Return verdicts whose clusters are what was drawn independently."""
    return [replace(v, cluster=unit_of(v.cluster, v.prompt_id, unit)) for v in verdicts]


def model_key(model: ModelSource) -> str:
    """Return the content key of a model."""
    content, inputs = content_of(model)
    return content_key([content, {name: stage.key for name, stage in inputs.items()}])


def _files(folder: Path, role: str) -> list[Path]:
    """Return the files that a certificate is about: of a training its model, else all but the manifest."""
    place = folder / "model" if role == "bound" else folder
    return sorted(path for path in place.rglob("*") if path.is_file() and path != folder / "manifest.json")
