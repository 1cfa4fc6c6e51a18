"""The page's tables: rows of texts, made from the results by one function a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sacpo.recipe.metrics import METRICS
from sacpo.report.lookup import (
    bound_words,
    interval,
    label,
    measure_of,
    number,
    shown_model,
)
from sacpo.report.part import Measured
from sacpo.report.results import Candidate, Results

OUTCOMES = ("win", "tie", "loss", "unparsed")


@dataclass(frozen=True)
class Cell:
    """A table cell: a text, a smaller one below it, and "good" or "bad" where it is judged."""

    text: str
    small: str = ""
    mood: str = ""


@dataclass(frozen=True)
class Row:
    """A table row; the model that the report is about stands out."""

    name: str
    cells: tuple[Cell, ...]
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """A table: what it shows, its head (the first one is over the names) and its rows."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[Row, ...]


def selection_table(results: Results) -> Table | None:
    """Show every candidate against objective and constraints, on tuning prompts beside report prompts."""
    selection = results.selection
    if selection is None or not selection.models:
        return None
    objective = label(selection.objective.key)
    head = ["model", f"{objective}, tuning", f"{objective}, report"]
    for constraint in selection.constraints:
        head += [f"{bound_words(constraint)}, tuning", f"{label(constraint.key)}, report"]
    order = sorted(
        selection.models,
        key=lambda name: (name != shown_model(results), *_rank(selection.models[name])),
    )
    rows = [_selection_row(results, name) for name in order]
    caption = "Candidates: chosen on tuning prompts, confirmed on report prompts; ✓ meets the bound, ✗ misses it"
    return Table(caption, (*head, "standing"), tuple(rows))


def front_table(results: Results) -> Table | None:
    """Show the models that no other one beats, where there are several constraints and so more than two figures."""
    selection = results.selection
    if selection is None or len(selection.constraints) < 2 or not selection.front:
        return None
    keys = [selection.objective.key, *(constraint.key for constraint in selection.constraints)]
    rows = []
    for name in sorted(selection.front, key=lambda name: _rank(selection.models[name])):
        candidate = selection.models[name]
        tuned = [candidate.objective, *(check.value for check in candidate.checks)]
        cells = []
        for key, measured in zip(keys, tuned, strict=True):
            cells += [measured_cell(measured, key), measured_cell(measure_of(results, name, key), key)]
        rows.append(model_row(results, name, [*cells, Cell("yes" if candidate.feasible else "no")]))
    head = [words for key in keys for words in (f"{label(key)}, tuning", f"{label(key)}, report")]
    caption = f"Pareto front over {len(keys)} figures: no other model is as good in all and better in one, on tuning"
    return Table(f"{caption} prompts", ("model", *head, "meets every bound"), tuple(rows))


def measures_tables(results: Results, role: str) -> list[Table]:
    """Show all figures of all models, one table a prompt set of this role."""
    tables = []
    for name, prompts in results.prompts.items():
        measured = {model: sets[name].metrics for model, sets in results.measures.items() if name in sets}
        keys = ordered_metrics(key for metrics in measured.values() for key in metrics)
        if prompts.role == role and keys:
            caption = f"{name}: figures with 95 % intervals; win rates are against {results.baseline}"
            rows = [
                model_row(results, model, [measured_cell(measured[model].get(key), key) for key in keys])
                for model in results.models
                if model in measured
            ]
            tables.append(Table(caption, ("model", *map(label, keys)), tuple(rows)))
    return tables


def outcome_tables(results: Results) -> list[Table]:
    """Show the counts of wins, ties, losses and unparsed verdicts, one table a report set and criterion."""
    tables = []
    for name, prompts in results.prompts.items():
        sets = {model: found[name].outcomes for model, found in results.measures.items() if name in found}
        criteria = dict.fromkeys(criterion for outcomes in sets.values() for criterion in outcomes)
        for criterion in criteria if prompts.role == "report" else ():
            rows = [
                model_row(results, model, [Cell(str(sets[model][criterion].get(outcome, 0))) for outcome in OUTCOMES])
                for model in results.models
                if criterion in sets.get(model, {})
            ]
            tables.append(Table(f"{name}: {criterion} verdicts", ("model", *OUTCOMES), tuple(rows)))
    return tables


def category_tables(results: Results) -> list[Table]:
    """Show each metric by category on report prompts, one table a set and metric."""
    tables = []
    for name, prompts in results.prompts.items():
        sets = {model: found[name].categories for model, found in results.measures.items() if name in found}
        categories = list(dict.fromkeys(category for found in sets.values() for category in found))
        keys = ordered_metrics(key for found in sets.values() for metrics in found.values() for key in metrics)
        for key in keys if prompts.role == "report" else ():
            rows = [
                model_row(
                    results,
                    model,
                    [measured_cell(sets[model].get(category, {}).get(key), key) for category in categories],
                )
                for model in results.models
                if any(key in metrics for metrics in sets.get(model, {}).values())
            ]
            tables.append(Table(f"{name}: {label(key)} by category", ("model", *categories), tuple(rows)))
    return tables


def optimum_table(results: Results) -> Table | None:
    """Show the optimum's curve over strengths."""
    if results.theory is None or not results.theory.curve:
        return None
    names = dict.fromkeys(name for point in results.theory.curve for name in point.win_rate)
    rows = [
        Row(
            number(point.beta_over_lambda),
            (
                *(Cell(number(value)) for value in (point.E_r, point.E_g, point.kl)),
                Cell(number(point.unsafe_rate, "unsafe_rate")),
                Cell(number(point.over_refusal_rate, "over_refusal_rate")),
                *(Cell(number(point.win_rate.get(name), f"win_rate/{name}")) for name in names),
                Cell(number(point.ess)),
            ),
        )
        for point in results.theory.curve
    ]
    head = ("β/λ", "mean reward", "mean safety", "KL from SFT, nats", "unsafe answers", "over-refusal")
    caption = "The optimum π* by weights on SFT samples; do not believe a point whose effective sample size is below 5"
    return Table(caption, (*head, *(f"{name} win rate" for name in names), "effective sample size"), tuple(rows))


def distance_table(results: Results) -> Table | None:
    """Show how far the models are from their optimum, with the alarm beyond which a model has collapsed."""
    theory = results.theory
    if theory is None or not theory.kl_to_optimum:
        return None
    rows = []
    for name, distance in theory.kl_to_optimum.items():
        cells = []
        for measured, alarm in ((distance.target, theory.alarm), (distance.own, distance.own_alarm)):
            low = measured.low if measured is not None else None
            over = low is not None and alarm is not None and low > alarm
            cells += [measured_cell(measured, "kl", "bad" if over else ""), Cell(number(alarm))]
        rows.append(model_row(results, name, cells))
    target = f"KL to the common target, β/λ = {number(theory.target)}"
    caption = "Distance to the optimum in nats; beyond the alarm, the SFT model's own distance, a model has collapsed"
    return Table(caption, ("model", target, "its alarm", "KL to its own optimum", "its alarm"), tuple(rows))


def prompts_table(results: Results) -> Table | None:
    """Show the prompt sets: role, size, kinds and what they are a sample of."""
    if not results.prompts:
        return None
    rows = [
        Row(
            name,
            (
                Cell(prompts.role),
                Cell(str(prompts.n)),
                Cell(of_kinds(prompts.n, prompts.kinds)),
                Cell(prompts.population),
            ),
        )
        for name, prompts in results.prompts.items()
    ]
    return Table("Evaluation prompts", ("set", "role", "prompts", "kinds", "a sample of"), tuple(rows))


def of_kinds(n: int | None, kinds: Mapping[str, int]) -> str:
    """Return how many of n prompts are of each kind, in words; where some have one, those without are named, too."""
    found = [f"{count:,} {kind}" for kind, count in kinds.items()]
    if found and n is not None and (left := n - sum(kinds.values())):
        found.append(f"{left:,} of no kind")
    return ", ".join(found)


def ordered_metrics(keys: Iterable[str]) -> list[str]:
    """Return the metrics once each, in the order of the page's tables."""
    found = list(dict.fromkeys(keys))
    places = {metric: index for index, metric in enumerate(METRICS)}
    return sorted(found, key=lambda key: places.get(key.partition("/")[0], len(places)))


def value_words(value: Any) -> str:
    """Write a value of a free-form report."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, list | tuple):
        return ", ".join(map(value_words, value))
    if isinstance(value, dict):
        return ", ".join(f"{key} {value_words(item)}" for key, item in value.items())
    return str(value)


def _selection_row(results: Results, name: str) -> Row:
    selection = results.selection
    assert selection is not None
    candidate, key = selection.models[name], selection.objective.key
    cells = [measured_cell(candidate.objective, key), measured_cell(measure_of(results, name, key), key)]
    for index, constraint in enumerate(selection.constraints):
        check = candidate.checks[index] if index < len(candidate.checks) else None
        met = None if check is None else check.met
        mark, mood = {True: ("✓", "good"), False: ("✗", "bad"), None: ("?", "")}[met]
        cell = measured_cell(check.value if check else None, constraint.key, mood)
        cells.append(Cell(f"{mark} {cell.text}", cell.small, mood))
        cells.append(measured_cell(measure_of(results, name, constraint.key), constraint.key))
    return model_row(results, name, [*cells, Cell(_standing(results, name))])


def _standing(results: Results, name: str) -> str:
    selection = results.selection
    assert selection is not None
    candidate = selection.models[name]
    words = [
        *(["chosen"] if name == selection.chosen else []),
        *(["nearest"] if name == selection.nearest else []),
        *(["not beaten"] if name in selection.front else []),
        *([] if candidate.feasible or not candidate.distance else [f"misses by {number(candidate.distance)}"]),
        *([candidate.note] if candidate.note else []),
    ]
    return ", ".join(words)


def _rank(candidate: Candidate) -> tuple[bool, float, float]:
    objective = candidate.objective.value if candidate.objective else None
    distance = float("inf") if candidate.distance is None else candidate.distance
    return not candidate.feasible, 0.0 if candidate.feasible else distance, -(objective or 0.0)


def model_row(results: Results, name: str, cells: Sequence[Cell]) -> Row:
    """Return a model's row."""
    return Row(name, tuple(cells), name == shown_model(results))


def measured_cell(measured: Measured | None, key: str, mood: str = "") -> Cell:
    """Return a figure's cell: the value, with its interval and counts below."""
    if measured is None or measured.value is None:
        return Cell("–", "", mood)
    notes = [
        interval(measured, key),
        f"n {measured.n}" if measured.n else "",
        f"{measured.unparsed} unparsed" if measured.unparsed else "",
    ]
    return Cell(number(measured.value, key), ", ".join(note for note in notes if note), mood)
