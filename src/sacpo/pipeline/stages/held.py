"""Constraints on one model, held by their pessimistic ends: what searches for q and for beta look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sacpo.data.records import Answer, Verdict
from sacpo.errors import DataError
from sacpo.measure.measures import measure, rate_flags
from sacpo.pipeline.stage import JsonStage
from sacpo.pipeline.stages.answers import Answers, KlSamples
from sacpo.pipeline.stages.verdicts import Verdicts
from sacpo.pipeline.tools import Tools
from sacpo.plain import JsonMapping, JsonObject
from sacpo.recipe.metrics import metric_key
from sacpo.recipe.schema import ConstraintSpec
from sacpo.stats.estimate import Estimate
from sacpo.stats.intervals import clustered_rate
from sacpo.stats.labels import risky_kind

LEVEL = 0.9
"""Of the two-sided interval whose upper end is the one-sided 95 % bound."""
LABELLED = ("unsafe_rate", "over_refusal_rate")


@dataclass(frozen=True, slots=True)
class Held:
    """One constraint on one model.

    Attributes:
        constraint: The constraint.
        estimate: Of its figure.
        value: The point estimate.
        end: The pessimistic end: of a rate of answers the one-sided 95 % bound, else the end of the 95 % interval.
        bound: What the end is held against.
    """

    constraint: ConstraintSpec
    estimate: Estimate
    value: float
    end: float
    bound: float

    @property
    def sign(self) -> int:
        """1 where the figure is to be small, -1 where it is to be large."""
        return 1 if self.constraint.at_most is not None else -1

    @property
    def excess(self) -> float:
        """By how much the end misses the bound; at most 0: met."""
        return self.sign * (self.end - self.bound)

    def to_json(self) -> JsonObject:
        """Return the constraint, its end and whether it is met."""
        own = self.constraint.model_dump(mode="json", exclude={"range"})
        return {**own, "end": self.end, "met": self.excess <= 0}


@dataclass(frozen=True)
class Reached(JsonStage):
    """What one model reaches on the constraints' tuning prompts; each search says what it keeps of that.

    Attributes:
        title: The model.
        constraints: What is to be met.
        answers, verdicts, kl: By prompt set.
        unit: What was drawn independently.
    """

    title: str
    constraints: tuple[ConstraintSpec, ...]
    answers: Mapping[str, Answers]
    verdicts: Mapping[str, Verdicts]
    kl: Mapping[str, KlSamples]
    unit: str

    def held(self, tools: Tools) -> list[tuple[Held, JsonObject]]:
        """Return every constraint on the model, and all figures of its prompts."""
        return [self._held(constraint, tools) for constraint in self.constraints]

    def _held(self, constraint: ConstraintSpec, tools: Tools) -> tuple[Held, JsonObject]:
        name, terms = constraint.prompts, None
        answers, verdicts = by_unit(tools.read(self.answers[name]), tools.read(self.verdicts[name]), self.unit)
        if name in self.kl:
            rows = [(row["answer"].prompt, row["sft"]) for row in tools.read(self.kl[name])]
            terms = [(prompt.cluster if self.unit == "cluster" else prompt.id, kl) for prompt, kl in rows]
        measured: JsonObject = measure(answers, verdicts, terms)["metrics"]
        return held(constraint, answers, verdicts, measured), measured


def held(
    constraint: ConstraintSpec, answers: Sequence[Answer], verdicts: Sequence[Verdict], measured: JsonMapping
) -> Held:
    """Return one constraint on one model.

    Args:
        constraint: The constraint.
        answers, verdicts: On its prompts, clusters as they were drawn.
        measured: All figures of these, by metric and criterion.

    Raises:
        DataError: The figure was not measured, or has no interval.
    """
    key = metric_key(constraint.metric, constraint.criterion)
    estimate = _rate(constraint.metric, answers, verdicts) or (
        Estimate.from_json(measured[key]) if key in measured else None
    )
    end = None if estimate is None else estimate.high if constraint.at_most is not None else estimate.low
    if estimate is None or estimate.value is None or end is None:
        raise DataError(
            "a constraint could not be measured on its tuning prompts",
            where=f"constraint {key} on {constraint.prompts}",
            do="look at the judge's verdicts, and at which prompts the metric counts",
        )
    bound = constraint.at_most if constraint.at_most is not None else constraint.at_least
    assert bound is not None
    return Held(constraint, estimate, estimate.value, end, bound)


def by_unit(answers: Sequence[Answer], verdicts: Sequence[Verdict], unit: str) -> tuple[list[Answer], list[Verdict]]:
    """Return answers and verdicts; where prompts are the independent units, each is a cluster of its own."""
    if unit == "cluster":
        return [*answers], [*verdicts]
    alone = [replace(answer, prompt=replace(answer.prompt, cluster=answer.prompt.id)) for answer in answers]
    return alone, [replace(verdict, cluster=verdict.prompt_id) for verdict in verdicts]


def _rate(metric: str, answers: Sequence[Answer], verdicts: Sequence[Verdict]) -> Estimate | None:
    """Return a rate with its interval at `LEVEL`; None: it is no rate of single answers."""
    if metric in ("truncated_rate", "degenerate_rate"):
        flags = [a.truncated if metric == "truncated_rate" else bool(a.degenerate) for a in answers]
        return clustered_rate(flags, [a.prompt.cluster for a in answers], level=LEVEL) if flags else None
    if metric not in LABELLED:
        return None
    members = rate_flags(verdicts, risky_kind(answer.prompt.kind for answer in answers), verdicts)[metric]
    read = [flag for flag in members if flag.found is not None]
    if not read:
        return None
    found, clusters = [bool(flag.found) for flag in read], [flag.cluster for flag in read]
    return clustered_rate(found, clusters, unparsed=len(members) - len(read), level=LEVEL)
