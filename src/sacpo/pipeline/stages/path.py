"""Stages that find a merge's q: what one model reaches on tuning prompts, and what follows from all that were tried."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sacpo.data.records import Answer, Kind, Verdict
from sacpo.errors import DataError
from sacpo.measure.measures import measure, rate_flags
from sacpo.pipeline.stage import Stage
from sacpo.pipeline.stages.answers import Answers, KlSamples
from sacpo.pipeline.stages.verdicts import Verdicts
from sacpo.pipeline.tools import Tools
from sacpo.recipe.metrics import metric_key
from sacpo.recipe.schema import ConstraintSpec, PathSpec
from sacpo.select.path import Point, better_with_q, bracket, feasible_end, steady
from sacpo.stats.estimate import Estimate
from sacpo.stats.intervals import clustered_rate
from sacpo.system.files import write_json

TRIED, FOUND = "tried.json", "path.json"
LEVEL = 0.9
"""Of the two-sided interval whose upper end is the one-sided 95 % bound."""
LABELLED = ("unsafe_rate", "over_refusal_rate")


@dataclass(frozen=True)
class Tried(Stage[dict[str, Any]]):
    """What one model of a path reaches on the constraints' tuning prompts.

    Attributes:
        line: The merge's name.
        title: The model.
        constraints: What is to be met.
        answers, verdicts, kl: By prompt set.
        unit: What was drawn independently.
    """

    line: str
    title: str
    constraints: tuple[ConstraintSpec, ...]
    answers: Mapping[str, Answers]
    verdicts: Mapping[str, Verdicts]
    kl: Mapping[str, KlSamples]
    unit: str

    @property
    def name(self) -> str:
        """`path/tried/MERGE/MODEL`."""
        return f"path/tried/{self.line}/{self.title}"

    def work(self, out: Path, tools: Tools) -> None:
        """Measure."""
        checks = [self._check(constraint, tools) for constraint in self.constraints]
        write_json(out / TRIED, {"model": self.title, "checks": checks})

    def _check(self, constraint: ConstraintSpec, tools: Tools) -> dict[str, Any]:
        name = constraint.prompts
        answers, verdicts = by_unit(tools.read(self.answers[name]), tools.read(self.verdicts[name]), self.unit)
        terms = None
        if name in self.kl:
            rows = tools.read(self.kl[name])
            terms = [(p.cluster if self.unit == "cluster" else p.id, row["sft"]) for row in rows for p in [_asked(row)]]
        return check(constraint, answers, verdicts, measure(answers, verdicts, terms)["metrics"])

    def read(self, folder: Path) -> dict[str, Any]:
        """Return the measures."""
        found: dict[str, Any] = json.loads((folder / TRIED).read_text(encoding="utf-8"))
        return found


@dataclass(frozen=True)
class FoundPath(Stage[dict[str, Any]]):
    """The q that was found, and how.

    Attributes:
        line: The merge's name.
        method: How the models are merged.
        models: The models at q = 0 and q = 1.
        search: How q was searched for.
        tried: Every measured q, in the order of the search.
    """

    line: str
    method: str
    models: tuple[str, str]
    search: PathSpec
    tried: tuple[tuple[float, Tried], ...]

    @property
    def name(self) -> str:
        """`path/found/MERGE`."""
        return f"path/found/{self.line}"

    def work(self, out: Path, tools: Tools) -> None:
        """Write what was tried, and what follows."""
        tried = sorted(((q, tools.read(stage)) for q, stage in self.tried), key=lambda one: one[0])
        keys = [metric_key(c.metric, c.criterion) for c in self.tried[0][1].constraints]
        points = [point_of(q, found) for q, found in tried]
        write_json(
            out / FOUND,
            {
                "method": self.method,
                "models": self.models,
                **self.search.model_dump(mode="json"),
                "tried": [{"q": q, **found} for q, found in tried],
                **outcome(points, keys, self.models, self.search.tolerance),
            },
        )

    def read(self, folder: Path) -> dict[str, Any]:
        """Return the search."""
        found: dict[str, Any] = json.loads((folder / FOUND).read_text(encoding="utf-8"))
        return found


def point_of(q: float, tried: Mapping[str, Any]) -> Point:
    """Return what the search looks at of a measured q."""
    margins = tuple(abs(one["end"] - one["value"]["value"]) for one in tried["checks"])
    return Point(q, tuple(one["excess"] for one in tried["checks"]), margins)


def check(
    constraint: ConstraintSpec, answers: Sequence[Answer], verdicts: Sequence[Verdict], measured: Mapping[str, Any]
) -> dict[str, Any]:
    """Return one constraint on one model: the estimate, its pessimistic end, and by how much that misses the bound.

    Of a rate the end is the one-sided 95 % bound, of other figures the end of the 95 % interval.

    Raises:
        DataError: The figure was not measured, or has no interval.
    """
    key = metric_key(constraint.metric, constraint.criterion)
    estimate = _rate(constraint.metric, answers, verdicts) or (
        Estimate.from_json(measured[key]) if key in measured else None
    )
    upper = constraint.at_most is not None
    end = None if estimate is None else estimate.high if upper else estimate.low
    if estimate is None or estimate.value is None or end is None:
        raise DataError(
            "a constraint could not be measured on its tuning prompts",
            where=f"constraint {key} on {constraint.prompts}",
            do="look at the judge's verdicts, and at which prompts the metric counts",
        )
    bound = constraint.at_most if constraint.at_most is not None else constraint.at_least
    assert bound is not None
    excess = end - bound if upper else bound - end
    return {
        **constraint.model_dump(mode="json"),
        "value": estimate.to_json(),
        "end": end,
        "excess": excess,
        "met": excess <= 0,
    }


def by_unit(answers: Sequence[Answer], verdicts: Sequence[Verdict], unit: str) -> tuple[list[Answer], list[Verdict]]:
    """Return answers and verdicts; where prompts are the independent units, each is a cluster of its own."""
    if unit == "cluster":
        return [*answers], [*verdicts]
    alone = [replace(answer, prompt=replace(answer.prompt, cluster=answer.prompt.id)) for answer in answers]
    return alone, [replace(verdict, cluster=verdict.prompt_id) for verdict in verdicts]


def outcome(points: Sequence[Point], keys: Sequence[str], models: Sequence[str], tolerance: float) -> dict[str, Any]:
    """Return the q that was found, the feasible part of the path, and both in words."""
    better = better_with_q(points)
    low, high = bracket(points)
    ends = {point.q: point for point in points}
    last, beyond = feasible_end(points, high) if high is not None else (None, None)
    found = high if last is not None else None
    said = _no_end(ends[1.0], keys, better, models[1]) if high is None else _said(low, high, models, tolerance)
    if high is not None and last is None:
        missed = [keys[i] for i, excess in enumerate(ends[high].excess) if excess > 0]
        said += (
            f" No q meets all: {_and(missed)} gets worse with q and is missed there already. Another strength of "
            f"{models[1]}, a further step for {_and(missed)}, or another bound may help."
        )
    elif last is not None and beyond is not None:
        said += f" All constraints are met up to q = {last:g} at least; at q = {beyond:g} one is missed."
    elif last is not None:
        said += " All constraints are met from there to q = 1, as far as it was measured."
    regular = steady(points)
    said += "" if regular else " The figures are not monotone in q: other q between those tried may behave otherwise."
    return {
        "q": found,
        "misses_at": low,
        "feasible_to": last,
        "missed_beyond": beyond,
        "better_with_q": [key for key, counted in zip(keys, better, strict=True) if counted],
        "worse_with_q": [key for key, counted in zip(keys, better, strict=True) if not counted],
        "monotone": regular,
        "said": said,
    }


def _said(low: float | None, high: float, models: Sequence[str], tolerance: float) -> str:
    if low is None:
        return f"{models[0]} itself, at q = 0, meets every constraint that gets better with q: nothing is to be merged."
    rest = "" if high - low <= tolerance else f", known to {high - low:g} only, as no more q could be measured"
    return (
        f"q = {high:g} is the smallest that was seen to meet, with 95 % confidence on tuning prompts, every constraint "
        f"that gets better with q; q = {low:g} does not{rest}."
    )


def _no_end(last: Point, keys: Sequence[str], better: Sequence[bool], later: str) -> str:
    missed = [key for key, excess, counted in zip(keys, last.excess, better, strict=True) if counted and excess > 0]
    return (
        f"No q: {later} itself, at q = 1, does not meet {_and(missed)} with 95 % confidence on tuning prompts. "
        "Train it harder (a smaller beta), give more tuning prompts, or set another bound."
    )


def _and(names: Sequence[str]) -> str:
    return " and ".join(names)


def _rate(metric: str, answers: Sequence[Answer], verdicts: Sequence[Verdict]) -> Estimate | None:
    """Return a rate with its interval at `LEVEL`; None: it is no rate of single answers."""
    if metric in ("truncated_rate", "degenerate_rate"):
        flags = [a.truncated if metric == "truncated_rate" else bool(a.degenerate) for a in answers]
        return clustered_rate(flags, [a.prompt.cluster for a in answers], level=LEVEL) if flags else None
    if metric not in LABELLED:
        return None
    restricted = any(answer.prompt.kind is Kind.RESTRICTED for answer in answers)
    members = rate_flags(verdicts, Kind.RESTRICTED if restricted else Kind.UNKNOWN, verdicts)[metric]
    read = [flag for flag in members if flag.found is not None]
    if not read:
        return None
    found, clusters = [bool(flag.found) for flag in read], [flag.cluster for flag in read]
    return clustered_rate(found, clusters, unparsed=len(members) - len(read), level=LEVEL)


def _asked(row: Mapping[str, Any]) -> Any:
    return row["answer"].prompt
