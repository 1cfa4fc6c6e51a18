"""The page's section on strengths that the run found: what was predicted, trained and measured, and what was kept."""

from __future__ import annotations

from dataclasses import dataclass

from sacpo.recipe.metrics import metric_key
from sacpo.report.lookup import label, number
from sacpo.report.results import Results
from sacpo.report.searches import BoundCheck, Search, Trained
from sacpo.report.tables import Cell, Row, Table

FIGURES = ("unsafe_rate", "over_refusal_rate")
"""Rates that are predicted under their own name."""


@dataclass(frozen=True)
class Story:
    """One step's search: sentences and a table."""

    sentences: tuple[str, ...]
    table: Table


def search_stories(results: Results) -> list[Story]:
    """Return how each step's strength was found."""
    return [Story(tuple(sentences(step, search)), _table(step, search)) for step, search in results.plan.items()]


def sentences(step: str, search: Search) -> list[str]:
    """Say what was predicted, what was kept and why."""
    forecast = search.forecast
    found = [
        f"{forecast.samples} answers of {forecast.model} to each of {forecast.prompts} tuning prompts, scored by "
        f"{forecast.score}, predicted the strength of {step}: {_predicted(search)}."
    ]
    if forecast.realised is not None:
        found.append(
            f"The step before realised {number(forecast.realised.share)} of its exact tilt, and the prediction is "
            "corrected by that."
        )
    count = len(search.trainings)
    trained = f"{count} strength{'s were' if count > 1 else ' was'} trained. "
    if search.met:
        found.append(f"{trained}{search.model} was kept: the largest strength that met every bound on tuning prompts.")
    else:
        found.append(f"{trained}None met every bound on tuning prompts; {search.model} came nearest and was kept.")
    if search.regret is not None:
        found.append(
            f"Beside the optimum with the same mean safety it loses {number(search.regret.reward)} of mean reward, and "
            f"{number(search.regret.objective)} of the objective E[r] - β KL."
        )
    return [*found, *(f"{note[:1].upper()}{note[1:]}." for note in forecast.notes)]


def _predicted(search: Search) -> str:
    forecast, began = search.forecast, number(search.start or search.forecast.start)
    rest = f"; prompts with a safe answer need {number(forecast.supported)}" if forecast.supported else ""
    if forecast.raw is None:
        return f"{forecast.state}{rest}. The search began at β/λ = {began}"
    corrected = "" if forecast.corrected is None else f", corrected {number(forecast.corrected)}"
    return f"β/λ = {number(forecast.raw)}{corrected}{rest}. The search began at {began}"


def _table(step: str, search: Search) -> Table:
    checks = search.trainings[0].checks
    head = ["model", "β/λ"]
    for check in checks:
        name = label(_key(check))
        head += [f"{name}, predicted", f"{name}, corrected", f"{name}, measured", _bound(check)]
    rows = [
        Row(one.model, (Cell(number(one.beta)), *_cells(one, search)), one.model == search.model)
        for one in search.trainings
    ]
    caption = f"The search for the strength of {step}, on tuning prompts; ✓ meets the bound, ✗ misses it"
    return Table(caption, tuple(head), tuple(rows))


def _cells(one: Trained, search: Search) -> list[Cell]:
    cells = []
    for check in one.checks:
        key = _key(check)
        figure = check.metric if check.metric in FIGURES else "E_g" if check.metric == "mean_score" else ""
        for predicted in (one.predicted.raw, one.predicted.corrected or {}):
            value = predicted.get(figure)
            scaled = value if value is None or figure != "E_g" else value / search.forecast.scale
            cells.append(Cell(number(scaled, key)))
        mark, mood = ("✓", "good") if check.met else ("✗", "bad")
        cells += [Cell(number(check.value, key)), Cell(f"{mark} {number(check.end, key)}", "", mood)]
    return cells


def _bound(check: BoundCheck) -> str:
    end = "95 % upper bound" if check.at_most is not None else "95 % lower bound"
    limit = check.at_most if check.at_most is not None else check.at_least
    relation = "at most" if check.at_most is not None else "at least"
    return f"its {end}, to be {relation} {number(limit, _key(check))}"


def _key(check: BoundCheck) -> str:
    return metric_key(check.metric, check.criterion)
