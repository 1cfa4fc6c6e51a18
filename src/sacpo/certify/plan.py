"""The plan of a certificate: everything that is decided before a certification verdict is looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sacpo.certify.judged import Asked, asked_in, folders_of, hashes, verdicts_by_model
from sacpo.certify.tests import Bound, check, least_p
from sacpo.data.records import Kind, Verdict, text_hash
from sacpo.errors import DataError, RecipeError
from sacpo.measure.items import BOUNDED, objective_of
from sacpo.recipe.explain import checked
from sacpo.recipe.metrics import metric_key
from sacpo.recipe.schema import ConstraintSpec, ObjectiveSpec
from sacpo.stats.certificates import order_of, prompts_needed

POPULATION = {
    "cluster": "prompts drawn independently, each cluster once, as the certification prompts were",
    "prompt": "prompts drawn independently, as the certification prompts were",
}
"""What certification prompts stand for where the user does not say it, by the unit that is drawn."""
SHOWN = 3
KINDS = {"unsafe_rate": (Kind.RESTRICTED, Kind.UNKNOWN), "over_refusal_rate": (Kind.BORDERLINE,)}


@dataclass(frozen=True)
class Request:
    """What a user asks to be certified.

    Attributes:
        tuning, certification: Folders of `judge`.
        bounds: What is to hold.
        objective: What decides between certified models; None: the order does.
        confidence: Of all looks at the certification data together.
        spend: The share of 1 - confidence that this look spends.
        population: In words.
        unit: What is drawn independently: clusters of prompts, or prompts.
        bind: Other files and folders whose change voids the certificate.
    """

    tuning: tuple[Path, ...]
    certification: tuple[Path, ...]
    bounds: tuple[Bound, ...]
    objective: Mapping[str, str] | None
    confidence: float
    spend: float
    population: str
    unit: str
    bind: tuple[Path, ...]

    @property
    def delta(self) -> float:
        """The chance of a false certificate that this look may have."""
        return round((1 - self.confidence) * self.spend, 12)

    def files(self) -> dict[str, dict[str, str]]:
        """Return every file's hash, by role and path."""
        roles = {"tuning": self.tuning, "certification": self.certification, "bound": self.bind}
        return {role: hashes(paths) for role, paths in roles.items()}


def request(
    tuning: Sequence[str | Path],
    certification: Sequence[str | Path],
    constraints: Sequence[Mapping[str, Any]],
    objective: Mapping[str, Any] | None,
    confidence: float,
    spend: float,
    population: str | None,
    unit: str,
    bind: Sequence[str | Path],
) -> Request:
    """Return a checked request; arguments as of `sacpo.certify.certify`."""
    if not 0 < confidence < 1:
        raise _outside("confidence", confidence, "above 0 and below 1: 0.95 for 95 %")
    if not 0 < spend <= 1:
        raise _outside("spend", spend, "above 0, at most 1")
    if unit not in POPULATION:
        raise _outside("unit", unit, sorted(POPULATION))
    if not constraints:
        raise RecipeError("nothing is to be certified", where="constraints", do="give a bound: unsafe_rate=0.05")
    goal = None if objective is None else checked(ObjectiveSpec, objective, prompts="answers")
    return Request(
        tuning=tuple(folders_of(tuning, "tuning")),
        certification=tuple(folders_of(certification, "certification")),
        bounds=bounds_of(constraints),
        objective=None if goal is None else {"metric": goal.metric, "criterion": goal.criterion},
        confidence=confidence,
        spend=spend,
        population=population or POPULATION[unit],
        unit=unit,
        bind=tuple(Path(path) for path in bind),
    )


def bounds_of(constraints: Sequence[Mapping[str, Any]]) -> tuple[Bound, ...]:
    """Return bounds that can be certified.

    Raises:
        RecipeError: One is not valid, stands twice, or is on what has no range.
    """
    bounds = []
    for constraint in constraints:
        spec = checked(ConstraintSpec, constraint, prompts="answers")
        if spec.metric not in BOUNDED:
            raise RecipeError(
                "this metric cannot be certified: only means of verdicts with a known range can",
                where="constraints",
                value=spec.metric,
                allowed=BOUNDED,
                do="bound one of these, or use 'select' for it",
            )
        if spec.metric == "win_rate" and not spec.criterion:
            raise RecipeError("a win rate has a criterion", where="constraints", value=spec.metric, do="win_rate/NAME")
        side, value = ("at_most", spec.at_most) if spec.at_most is not None else ("at_least", spec.at_least)
        assert value is not None
        prompts_needed(value)  # refuses what no number of prompts shows
        bounds.append(Bound(spec.metric, spec.criterion, side, value))  # type: ignore[arg-type]
    names = [(bound.key, bound.side) for bound in bounds]
    if len(set(names)) < len(names):
        raise RecipeError("a bound is given twice", where="constraints", value=names, do="leave one of them out")
    return tuple(bounds)


def make_plan(asked: Request, files: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Return the plan: bounds, level, order and data, from tuning verdicts alone.

    Of the certification verdicts only who was asked what is read, not what was said.

    Raises:
        DataError: Tuning and certification share prompts, candidates differ in their prompts, or no model could ever
            be certified on so few.
    """
    tuning, sealed = (asked_in(paths, asked.unit) for paths in (asked.tuning, asked.certification))
    _check_apart(tuning, sealed)
    names = sorted({one.model for one in tuning})
    _check_alike(names, sealed)
    _check_enough(asked, sealed)
    said = verdicts_by_model(asked.tuning, asked.unit)
    p = np.array([[check(said[name], bound, asked.delta).p for bound in asked.bounds] for name in names])
    values = _objective(asked, names, said)
    order = order_of(p, [values.get(name, 0.0) for name in names], names)
    return {
        "bounds": [bound.to_json() for bound in asked.bounds],
        "objective": asked.objective,
        "confidence": asked.confidence,
        "spend": asked.spend,
        "delta": asked.delta,
        "rule": "candidates in this order, each bound at level delta, until the first candidate that fails one; "
        "of the certified ones the best objective on tuning prompts",
        "order": [
            {"model": names[i], "tuning_p": [float(one) for one in p[i]], "objective": values.get(names[i])}
            for i in order
        ],
        "population": asked.population,
        "unit": asked.unit,
        "prompts": sorted({text_hash(one.prompt_id) for one in sealed}),
        "data": {role: sorted(found.values()) for role, found in files.items()},
    }


def _objective(asked: Request, names: Sequence[str], said: Mapping[str, Sequence[Verdict]]) -> dict[str, float]:
    if asked.objective is None:
        return {}
    key = metric_key(asked.objective["metric"], asked.objective["criterion"])
    found = {name: value for name in names if (value := objective_of(said[name], key)) is not None}
    missing = [name for name in names if name not in found]
    if missing:
        raise DataError(
            f"no tuning folder measures the objective '{key}' of some models",
            value=missing,
            do="judge their tuning answers by it, or leave the objective out",
        )
    return found


def _check_apart(tuning: set[Asked], sealed: set[Asked]) -> None:
    """Refuse prompts, or clusters of prompts, that the order and the test would share."""
    for what, seen, hidden in (
        ("prompts", {one.prompt_id for one in tuning}, {one.prompt_id for one in sealed}),
        ("clusters", {one.cluster for one in tuning}, {one.cluster for one in sealed}),
    ):
        shared = sorted(seen & hidden)
        if shared:
            raise DataError(
                f"tuning and certification share {len(shared)} {what}; the choice has seen them",
                where="certification",
                value=shared[:SHOWN],
                do="certify on prompts that nothing was chosen with"
                + ("; --unit prompt if prompts of one cluster are independent draws" * (what == "clusters")),
            )


def _check_alike(names: Sequence[str], sealed: set[Asked]) -> None:
    """Refuse candidates that were judged on other certification prompts than the first, or not at all."""
    own = {
        name: {replace(one, model="") for one in sealed if one.model == name}
        for name in sorted({*names, *(one.model for one in sealed)})
    }
    for name, found in own.items():
        if not found or name not in names:
            role = "certification" if not found else "tuning"
            raise DataError(
                f"model '{name}' has no {role} verdicts", where=role, do="judge its answers, or leave it out"
            )
        if found != own[names[0]]:
            raise DataError(
                f"models '{names[0]}' and '{name}' were judged on different certification prompts or criteria",
                value=sorted({one.prompt_id for one in found ^ own[names[0]]})[:SHOWN],
                do="judge every candidate on the same prompts",
            )


def _check_enough(asked: Request, sealed: set[Asked]) -> None:
    """Refuse a look that no model could pass, before it is spent."""
    for bound in asked.bounds:
        of_kind = _counted(bound, sealed)
        n = len({one.cluster for one in of_kind})
        if least_p(n, bound, once=_once(of_kind)) > asked.delta:
            clean = prompts_needed(bound.value, 1 - asked.delta, bound.side).clean
            raise DataError(
                f"{n} independent prompts are too few to certify {bound.words}, whatever the model does",
                where="certification",
                value=n,
                allowed=f"{clean} or more with one answer each, all of them clean; more with several answers",
                do="judge more certification prompts; no look was spent",
            )


def _counted(bound: Bound, sealed: set[Asked]) -> list[Asked]:
    """Return what can count in a bound's metric: all that is of the right kind, or by the right criterion."""
    if bound.metric == "win_rate":
        return [one for one in sealed if one.criterion == bound.criterion]
    found = [one for one in sealed if one.kind in KINDS[bound.metric]]
    restricted = [one for one in found if one.kind is Kind.RESTRICTED]
    return restricted or found


def _once(asked: Sequence[Asked]) -> bool:
    """Tell whether some criterion may have judged every cluster once, so that the exact test may be used."""
    for criterion in {one.criterion for one in asked}:
        own = [one for one in asked if one.criterion == criterion]
        if len({(one.prompt_id, one.question) for one in own}) == len({one.cluster for one in own}):
            return True
    return False


def _outside(name: str, value: object, allowed: object) -> RecipeError:
    return RecipeError(f"'{name}' is outside its range", where=name, value=value, allowed=allowed, do="correct it")
