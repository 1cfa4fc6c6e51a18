"""Selection as a single stage; `sacpo.api` offers it."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path

from sacpo.errors import DataError, RecipeError, RunError
from sacpo.judging.verdicts import MEASURES
from sacpo.plain import JsonMapping, JsonObject
from sacpo.recipe.explain import checked
from sacpo.recipe.metrics import metric_key
from sacpo.recipe.safe import json_value
from sacpo.recipe.schema import ConstraintSpec, ObjectiveSpec
from sacpo.select import select_model
from sacpo.select.causes import why_unmeasured
from sacpo.stats.estimate import Estimate

Spec = ConstraintSpec | ObjectiveSpec


def select(judged: Sequence[str | Path], *, constraints: Sequence[JsonMapping], objective: JsonMapping) -> JsonObject:
    """Choose the most helpful model that meets every constraint, from folders that `judge` wrote.

    Args:
        judged: Folders of `judge`: all models, and one folder for each criterion of a model.
        constraints: As in a recipe, without `prompts`: metric, criterion, at_most or at_least.
        objective: As in a recipe, without `prompts`: metric and criterion.

    Raises:
        UserError: A folder holds no measures, two folders disagree on a model, or a constraint is not valid.
    """
    specs = [checked(ConstraintSpec, constraint, prompts="answers") for constraint in constraints]
    goal = checked(ObjectiveSpec, objective, prompts="answers")
    measures: dict[str, JsonObject] = {}
    unread: set[str] = set()
    for folder in judged:
        for name, every in _measures(Path(folder)).items():
            metrics = {key: one for key, one in every.items() if one["value"] is not None}
            unread |= every.keys() - metrics.keys()
            known = measures.setdefault(name, {"answers": {"metrics": {}}})["answers"]["metrics"]
            _check_alike(name, known, metrics, [*specs, goal], Path(folder))
            known |= metrics
    _check_measured(
        [*specs, goal], {metric for sets in measures.values() for metric in sets["answers"]["metrics"]}, unread
    )
    return select_model(measures, specs, goal, roles={"answers": "tuning"})


def _measures(folder: Path) -> dict[str, JsonObject]:
    """Return the metrics of every model in a folder of `judge`."""
    path = folder / MEASURES
    if not path.is_file():
        raise RunError("no measures in this folder", where=folder, do="give folders that 'judge' wrote")
    try:
        found = {name: of["metrics"] for name, of in json_value(path.read_text(encoding="utf-8")).items()}
        for estimates in found.values():
            for estimate in estimates.values():
                _check_numbers(Estimate.from_json(estimate))
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise DataError("not the measures of 'judge'", where=path, do="judge the answers again") from error
    return found


def _check_numbers(estimate: Estimate) -> None:
    for number in (estimate.value, estimate.low, estimate.high):
        if number is not None and (isinstance(number, bool) or not math.isfinite(number)):  # a text is a TypeError
            raise ValueError(f"{number} is no measure")


def _check_alike(model: str, known: JsonMapping, new: JsonMapping, wanted: Sequence[Spec], folder: Path) -> None:
    """Refuse two values of what selection reads, of one model or of two models with one name."""
    for metric in {_key(spec) for spec in wanted} & known.keys() & new.keys():
        if known[metric] != new[metric]:
            raise RecipeError(
                f"two folders measure '{metric}' of '{model}', and differ",
                where=folder,
                value=[known[metric]["value"], new[metric]["value"]],
                do="leave one out, or judge again with another --name if these are two models",
            )


def _key(spec: Spec) -> str:
    return metric_key(spec.metric, spec.criterion or "CRITERION")


def _check_measured(wanted: Sequence[Spec], measured: Collection[str], unread: Collection[str]) -> None:
    """Refuse a bound or an objective on what no folder measures: no model could ever meet it."""
    for spec in wanted:
        name = _key(spec)
        if name in measured:
            continue
        what, do = why_unmeasured(name, measured)
        if name in unread:
            what, do = f"no verdict that '{name}' counts could be read", "judge again with --ask-again"
        raise RecipeError(
            what,
            where="objective" if isinstance(spec, ObjectiveSpec) else "constraints",
            value=name,
            allowed=sorted(measured),
            do=do,
        )
