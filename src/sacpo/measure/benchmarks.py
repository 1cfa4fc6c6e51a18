"""Figures of tasks that a harness asked: intervals over questions, and paired differences between models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from sacpo.plain import JsonObject
from sacpo.stats.estimate import Estimate
from sacpo.stats.intervals import mean_interval

NORMAL = 1.959964


class Figured(Protocol):
    """One figure of a task, as a harness gave it."""

    @property
    def value(self) -> float:
        """As the harness reports it."""

    @property
    def stderr(self) -> float | None:
        """Its standard error."""

    @property
    def higher_is_better(self) -> bool | None:
        """None: the task does not say."""

    @property
    def each(self) -> tuple[float, ...] | None:
        """One value a question, where the figure is their mean."""


class Answered(Protocol):
    """What a model reached on a task."""

    @property
    def n(self) -> int:
        """Questions."""

    @property
    def clusters(self) -> tuple[str, ...]:
        """Each question's, or none."""

    @property
    def figures(self) -> Mapping[str, Figured]:
        """By name."""


def harness_figures(found: Mapping[str, Mapping[str, Answered]]) -> dict[str, JsonObject]:
    """Return models' figures on tasks as `results.json` holds them; differences are from the first model.

    Args:
        found: model: task: what it reached.
    """
    first = next(iter(found.values()), {})
    return {
        model: {
            task: {
                "n": one.n,
                "figures": {name: _figure(one, name, None if place == 0 else first.get(task)) for name in one.figures},
            }
            for task, one in tasks.items()
        }
        for place, (model, tasks) in enumerate(found.items())
    }


def _figure(own: Answered, name: str, first: Answered | None) -> JsonObject:
    figure = own.figures[name]
    clusters = own.clusters or None
    change = None
    if first is not None and name in first.figures:
        before = first.figures[name].each
        if before is not None and figure.each is not None and len(before) == len(figure.each):
            change = mean_interval(np.subtract(figure.each, before), clusters).to_json()
    shown = _with_ends(figure, own.n) if figure.each is None else _mean(figure.each, clusters)
    return {"figure": shown.to_json(), "higher_is_better": figure.higher_is_better, "change": change}


def _mean(values: Sequence[float], clusters: Sequence[str] | None) -> Estimate:
    rate = set(values) <= {0.0, 1.0}
    return mean_interval(values, clusters, bounds=(0.0, 1.0) if rate else None)


def _with_ends(figure: Figured, n: int) -> Estimate:
    """Return a figure that is no mean of questions, with the normal interval of its standard error."""
    if figure.stderr is None:
        return Estimate(figure.value, None, None, n, n)
    margin = NORMAL * figure.stderr
    method = "normal, standard error of the harness"
    return Estimate(figure.value, figure.value - margin, figure.value + margin, n, n, method=method)
