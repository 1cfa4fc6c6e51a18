"""Stages that find a merge's q: what one model reaches on tuning prompts, and what follows from all that were tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sacpo.pipeline.stage import Stage
from sacpo.pipeline.stages.held import Reached
from sacpo.pipeline.tools import Tools
from sacpo.plain import JsonMapping, JsonObject
from sacpo.recipe.metrics import metric_key
from sacpo.recipe.schema import PathSpec
from sacpo.select.path import Point, better_with_q, bracket, feasible_end, steady
from sacpo.system.files import read_json, write_json

TRIED, FOUND = "tried.json", "path.json"


@dataclass(frozen=True)
class Tried(Reached):
    """What one model of a path reaches; `line` is the merge's name."""

    line: str

    @property
    def name(self) -> str:
        """`path/tried/MERGE/MODEL`."""
        return f"path/tried/{self.line}/{self.title}"

    def work(self, out: Path, tools: Tools) -> None:
        """Measure."""
        checks = [
            {**found.to_json(), "value": found.estimate.to_json(), "excess": found.excess}
            for found, _ in self.held(tools)
        ]
        write_json(out / TRIED, {"model": self.title, "checks": checks})

    def read(self, folder: Path) -> JsonObject:
        """Return the measures."""
        return read_json(folder / TRIED)


@dataclass(frozen=True)
class FoundPath(Stage[JsonObject]):
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

    def read(self, folder: Path) -> JsonObject:
        """Return the search."""
        return read_json(folder / FOUND)


def point_of(q: float, tried: JsonMapping) -> Point:
    """Return what the search looks at of a measured q."""
    margins = tuple(abs(one["end"] - one["value"]["value"]) for one in tried["checks"])
    return Point(q, tuple(one["excess"] for one in tried["checks"]), margins)


def outcome(points: Sequence[Point], keys: Sequence[str], models: Sequence[str], tolerance: float) -> JsonObject:
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
