"""Choosing a model: the best objective among those that meet every constraint, on tuning prompts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from sacpo.errors import UserError
from sacpo.plain import JsonMapping, JsonObject
from sacpo.recipe.metrics import METRICS, metric_key
from sacpo.recipe.schema import ConstraintSpec, ObjectiveSpec
from sacpo.select.front import pareto_front
from sacpo.stats.estimate import Estimate

TOLERANCE = 1e-12

MeasuresBySet = Mapping[str, JsonMapping]
Rule = Callable[[Estimate, ConstraintSpec], float | None]
"""What of an estimate is held against the bound: the estimate itself, or an end of its interval; None: unknown."""


@dataclass(frozen=True, slots=True)
class _Check:
    """One model against one constraint; `held` is what the rule made of the estimate."""

    estimate: Estimate | None
    held: float | None
    violation: float | None

    @property
    def met(self) -> bool | None:
        return None if self.violation is None else self.violation == 0


@dataclass(frozen=True, slots=True)
class _Candidate:
    name: str
    objective: Estimate | None
    checks: tuple[_Check, ...]
    note: str = ""

    @property
    def value(self) -> float | None:
        return None if self.objective is None else self.objective.value

    @property
    def feasible(self) -> bool:
        return self.value is not None and all(check.met for check in self.checks)

    @property
    def distance(self) -> float | None:
        known = [check.violation for check in self.checks if check.violation is not None]
        return math.fsum(known) if len(known) == len(self.checks) else None


def point_estimate(estimate: Estimate, constraint: ConstraintSpec) -> float | None:
    """Hold the point estimate itself against the bound.

    It is optimistic: a model whose true rate lies just above the bound passes about every second time, and the best of
    many models is likely to be one of those. Report prompts tell.
    """
    return estimate.value


def select_model(
    measures: Mapping[str, MeasuresBySet],
    constraints: Sequence[ConstraintSpec],
    objective: ObjectiveSpec,
    *,
    roles: Mapping[str, str],
    rule: Rule = point_estimate,
) -> JsonObject:
    """Choose the model with the best objective among those that meet every constraint.

    The objective is compared by its point estimate; ties go to the smaller distance, then to the first name. A
    model's distance is the sum over constraints of `max(0, miss) / |bound|`, the miss itself where the bound is 0.
    Where no model meets every constraint none is chosen, and the nearest one (least distance, then best objective, then
    first name) is named. A model with a constraint or the objective unmeasured is not feasible.

    Args:
        measures: model: prompt set: what `sacpo.measure.measures.measure` returned.
        constraints: Bounds, each on a tuning set.
        objective: What to maximise, on a tuning set.
        roles: Every prompt set's role.
        rule: What of an estimate must meet its bound.

    Returns:
        `chosen`, `feasible`, `objective`, `constraints`, `models`, `front` and `nearest`, JSON-ready. The front is
        over the objective and each constraint's held value, of models where all are measured.

    Raises:
        UserError: There are no models, or a prompt set is unknown or not for tuning.
    """
    _check_roles(constraints, objective, roles)
    if not measures:
        raise UserError("there are no models to choose from", do="train or evaluate some first")
    found = [_candidate(name, sets, constraints, objective, rule) for name, sets in measures.items()]
    feasible = [candidate for candidate in found if candidate.feasible]
    chosen = min(feasible, key=lambda c: (-_value(c), c.distance, c.name), default=None)
    nearest = None if chosen is not None else _nearest(found)
    if nearest is not None:
        marked = replace(nearest, note=f"nearest: misses by the least relative distance; {nearest.note}")
        found = [marked if candidate is nearest else candidate for candidate in found]
    return {
        "chosen": chosen.name if chosen else None,
        "feasible": chosen is not None,
        "objective": {"metric": objective.metric, "criterion": objective.criterion, "prompts": objective.prompts},
        "constraints": [_constraint(constraint) for constraint in constraints],
        "models": {candidate.name: _json(candidate) for candidate in found},
        "front": _front(found, constraints),
        "nearest": nearest.name if nearest else None,
    }


def _check_roles(constraints: Sequence[ConstraintSpec], objective: ObjectiveSpec, roles: Mapping[str, str]) -> None:
    used = [(f"constraints.{i}.prompts", constraint.prompts) for i, constraint in enumerate(constraints)]
    for where, prompts in [*used, ("objective.prompts", objective.prompts)]:
        if roles.get(prompts) != "tuning":
            raise UserError(
                "selection uses tuning prompts only; reported figures come from other prompts",
                where=where,
                value=f"{prompts} (role {roles.get(prompts, 'unknown')})",
                allowed=sorted(name for name, role in roles.items() if role == "tuning"),
                do="name a prompt set with role: tuning",
            )


def _candidate(
    name: str, sets: MeasuresBySet, constraints: Sequence[ConstraintSpec], objective: ObjectiveSpec, rule: Rule
) -> _Candidate:
    value = _estimate(sets, objective)
    checks = tuple(_checked(_estimate(sets, constraint), constraint, rule) for constraint in constraints)
    notes = [_miss(check, constraint) for check, constraint in zip(checks, constraints, strict=True) if not check.met]
    if value is None or value.value is None:
        notes.append(f"not measured: {_named(objective)}")
    return _Candidate(name, value, checks, "; ".join(notes))


def _estimate(sets: MeasuresBySet, wanted: ConstraintSpec | ObjectiveSpec) -> Estimate | None:
    data = sets.get(wanted.prompts, {}).get("metrics", {}).get(_key(wanted))
    return None if data is None else Estimate.from_json(data)


def _checked(estimate: Estimate | None, constraint: ConstraintSpec, rule: Rule) -> _Check:
    held = None if estimate is None or estimate.value is None else rule(estimate, constraint)
    return _Check(estimate, held, None if held is None else _violation(held, constraint))


def _violation(held: float, constraint: ConstraintSpec) -> float:
    """Return how far a value misses the bound, relative to it; rounding alone misses nothing."""
    bound = _bound(constraint)
    miss = held - bound if constraint.at_most is not None else bound - held
    return 0.0 if miss <= TOLERANCE else miss / (abs(bound) or 1.0)


def _nearest(found: Sequence[_Candidate]) -> _Candidate | None:
    known = [(c.distance, -_value(c), c.name, c) for c in found if c.distance is not None and c.value is not None]
    return min(known)[3] if known else None


def _front(found: Sequence[_Candidate], constraints: Sequence[ConstraintSpec]) -> list[str]:
    points, names = [], []
    for candidate in found:
        held = [check.held for check in candidate.checks if check.held is not None]
        if candidate.value is None or len(held) < len(constraints):
            continue
        signs = [-1.0 if constraint.at_most is not None else 1.0 for constraint in constraints]
        points.append([candidate.value, *(sign * value for sign, value in zip(signs, held, strict=True))])
        names.append(candidate.name)
    return [names[i] for i in pareto_front(points)]


def _value(candidate: _Candidate) -> float:
    assert candidate.value is not None
    return candidate.value


def _key(wanted: ConstraintSpec | ObjectiveSpec) -> str:
    return metric_key(wanted.metric, wanted.criterion)


def _bound(constraint: ConstraintSpec) -> float:
    bound = constraint.at_most if constraint.at_most is not None else constraint.at_least
    assert bound is not None
    return bound


def _named(wanted: ConstraintSpec | ObjectiveSpec) -> str:
    return f"{_key(wanted)} on {wanted.prompts}"


def _miss(check: _Check, constraint: ConstraintSpec) -> str:
    if check.held is None:
        return f"not measured: {_named(constraint)}"
    side = "above" if constraint.at_most is not None else "below"
    return f"{_named(constraint)} is {check.held:.3g}, {side} {_bound(constraint):g}"


def _constraint(constraint: ConstraintSpec) -> JsonObject:
    criterion = constraint.criterion if METRICS[constraint.metric].by_criterion else None
    return {
        "metric": constraint.metric,
        "prompts": constraint.prompts,
        "criterion": criterion,
        "at_most": constraint.at_most,
        "at_least": constraint.at_least,
    }


def _json(candidate: _Candidate) -> JsonObject:
    return {
        "objective": candidate.objective.to_json() if candidate.objective else None,
        "checks": [
            {"value": check.estimate.to_json() if check.estimate else None, "met": check.met}
            for check in candidate.checks
        ],
        "feasible": candidate.feasible,
        "distance": candidate.distance,
        "note": candidate.note,
    }
