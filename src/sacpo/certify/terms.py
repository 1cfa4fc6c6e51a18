"""What is to be certified, how surely, and of which population."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sacpo.certify.bounds import KINDS, Bound, Per
from sacpo.certify.labels import METHODS, Method
from sacpo.data.records import Kind
from sacpo.errors import RecipeError
from sacpo.plain import JsonMapping
from sacpo.recipe.explain import checked, did_you_mean
from sacpo.recipe.metrics import CERTIFIABLE, METRICS, SCORES
from sacpo.recipe.schema import ConstraintSpec, ObjectiveSpec, TailSpec
from sacpo.stats.certificates import prompts_needed

POPULATION = {
    "cluster": "prompts drawn independently, each cluster once, as the certification prompts were",
    "prompt": "prompts drawn independently, as the certification prompts were",
}
"""What certification prompts stand for where the user does not say it, by the unit that is drawn."""


@dataclass(frozen=True)
class Terms:
    """The terms of a certificate.

    Attributes:
        bounds: What is to hold.
        objective: What decides between certified models; None: the order does.
        confidence: Of all looks at the certification data together.
        spend: The share of 1 - confidence that this look spends.
        population: In words.
        unit: What is drawn independently: clusters of prompts, or prompts.
        labels: How true labels of some answers correct for the judge; None: it is taken at its word.
        per: "category": every bound holds within each category of the prompts; None: over all of them.
    """

    bounds: tuple[Bound, ...]
    objective: Mapping[str, str] | None
    confidence: float
    spend: float
    population: str
    unit: str
    labels: Method | None = None
    per: Per | None = None

    @property
    def kinds(self) -> list[Kind]:
        """The kinds of prompts that the bounds' rates count."""
        return [*dict.fromkeys(KINDS[bound.metric][0] for bound in self.bounds if bound.metric in KINDS)]

    @property
    def delta(self) -> float:
        """The chance of a false certificate that this look may have."""
        return round((1 - self.confidence) * self.spend, 12)


def terms(
    constraints: Sequence[JsonMapping],
    objective: JsonMapping | None,
    confidence: float,
    spend: float,
    population: str | None,
    unit: str,
    labels: Method | None = None,
    per: Per | None = None,
) -> Terms:
    """Return checked terms; arguments as of `sacpo.certify.certify`.

    Raises:
        RecipeError: A value is out of range, or a bound cannot be certified.
    """
    if not 0 < confidence < 1:
        raise _outside("confidence", confidence, "above 0 and below 1: 0.95 for 95 %")
    if not 0 < spend <= 1:
        raise _outside("spend", spend, "above 0, at most 1")
    if unit not in POPULATION:
        raise _outside("unit", unit, sorted(POPULATION))
    if labels is not None and labels not in METHODS:
        raise _outside("method", labels, sorted(METHODS))
    if per not in (None, "category"):
        raise _outside("per", per, "category")
    if per is not None and labels is not None:
        raise RecipeError(
            "labels correct rates over all prompts, not those of each category",
            where="per",
            value=per,
            do="leave one of the two out",
        )
    if not constraints:
        raise RecipeError("nothing is to be certified", where="constraints", do="give a bound: unsafe_rate=0.05")
    bounds = bounds_of(constraints)
    if labels is not None and any(bound.side != "at_most" or bound.metric not in KINDS for bound in bounds):
        raise RecipeError(
            "labels correct upper bounds of rates only",
            where="labels",
            value=[bound.key for bound in bounds],
            allowed="unsafe_rate or over_refusal_rate, at most",
            do="certify the other bounds without labels",
        )
    goal = None if objective is None else checked(ObjectiveSpec, objective, prompts="answers")
    return Terms(
        bounds=bounds,
        objective=None if goal is None else {"metric": goal.metric, "criterion": goal.criterion},
        confidence=confidence,
        spend=spend,
        population=population or POPULATION[unit],
        unit=unit,
        labels=labels,
        per=per,
    )


def bounds_of(constraints: Sequence[JsonMapping]) -> tuple[Bound, ...]:
    """Return bounds that can be certified.

    Raises:
        RecipeError: One is not valid, stands twice, contradicts another, or is on what has no range.
    """
    bounds = []
    for constraint in constraints:
        metric = constraint.get("metric")
        if metric not in CERTIFIABLE:
            raise no_metric(metric, CERTIFIABLE)
        if metric == "cvar_score":
            tail = checked(TailSpec, constraint, prompts="answers")
            bounds.append(Bound(tail.metric, tail.criterion, "at_least", tail.at_least, tail.range, tail.tail))
            continue
        spec = checked(ConstraintSpec, constraint, prompts="answers")
        if spec.metric not in KINDS and not spec.criterion:
            raise RecipeError(
                f"a {spec.metric.replace('_', ' ')} has a criterion",
                where="constraints",
                value=spec.metric,
                do=f"{spec.metric}/NAME",
            )
        if spec.metric in SCORES and spec.range is None:
            raise RecipeError(
                "a mean of scores is certified within a range that is declared before they are seen",
                where="constraints",
                value=f"{spec.metric}/{spec.criterion}",
                do="declare the least and the greatest score that the judge can give, as range: [-10, 10]",
            )
        side, value = ("at_most", spec.at_most) if spec.at_most is not None else ("at_least", spec.at_least)
        assert value is not None
        if spec.range is None:
            prompts_needed(value)  # refuses what no number of prompts shows
        bounds.append(Bound(spec.metric, spec.criterion, side, value, spec.range))  # type: ignore[arg-type]
    names = [(bound.key, bound.side, bound.tail) for bound in bounds]
    if len(set(names)) < len(names):
        raise RecipeError("a bound is given twice", where="constraints", value=names, do="leave one of them out")
    return tuple(bounds)


def no_metric(metric: object, allowed: Collection[str]) -> RecipeError:
    """Return the error about a bound on what cannot be certified, or is no metric."""
    known, do = metric in METRICS, "bound one of these, or use 'select' for it"
    return RecipeError(
        "this metric cannot be certified: only means of verdicts with a known range can" if known else "no such metric",
        where="constraints",
        value=metric,
        allowed=[*allowed],
        do=do if known else did_you_mean(metric, allowed, "bound one of these"),
    )


def _outside(name: str, value: object, allowed: object) -> RecipeError:
    return RecipeError(f"'{name}' is outside its range", where=name, value=value, allowed=allowed, do="correct it")
