"""The page's tables about merges: searches for q, and how far merged models are from what they stand for."""

from __future__ import annotations

from sacpo.report.cases import BELIEVED
from sacpo.report.lookup import bound_words, number, weights_words
from sacpo.report.results import Constraint, Results
from sacpo.report.tables import Cell, Row, Table, measured_cell, model_row


def path_tables(results: Results) -> list[Table]:
    """Show every q that a search measured, with the ends that were held against the bounds."""
    tables = []
    for name, path in results.paths.items():
        constraints = [
            Constraint.model_validate(one.model_dump(include={*Constraint.model_fields}))
            for one in (path.tried[0].checks if path.tried else ())
        ]
        rows = []
        for point in path.tried:
            cells = [
                Cell(
                    f"{'✓' if one.met else '✗'} {number(one.value.value, constraint.key)}",
                    f"{'at most' if constraint.at_most is not None else 'at least'} {number(one.end, constraint.key)}",
                    "good" if one.met else "bad",
                )
                for one, constraint in zip(point.checks, constraints, strict=True)
            ]
            rows.append(Row(point.model, (Cell(number(point.q)), *cells), point.q == path.q))
        head = ("model", "q", *map(bound_words, constraints))
        tables.append(Table(f"{name}: the search for q on tuning prompts. {path.said}", head, tuple(rows)))
    return tables


def fidelity_tables(results: Results) -> list[Table]:
    """Show how far merged models are from the mixtures that they stand for, one table a prompt set."""
    tables = []
    for prompts in dict.fromkeys(name for sets in results.fidelity.values() for name in sets):
        rows = []
        for name, sets in results.fidelity.items():
            if prompts not in sets:
                continue
            one, info = sets[prompts], results.models[name]
            low = one.kl.low if one.kl.low is not None else one.kl.value
            mood = "bad" if low is not None and low > one.alarm and one.believed >= BELIEVED else ""
            sure = number(one.believed, "win_rate") + ("" if one.believed >= BELIEVED else ": do not believe it")
            cells = [Cell(weights_words(info)), measured_cell(one.kl, "kl", mood), Cell(number(one.alarm))]
            rows.append(model_row(results, name, [*cells, Cell(f"{number(one.ess)} of {one.samples}"), Cell(sure)]))
        head = ("model", "weights", "KL to the mixture", "its alarm", "effective samples", "prompts with 5 or more")
        caption = "merged models against the sequence-level mixture with their weights, in nats; beyond the alarm, the "
        tables.append(Table(f"{prompts}: {caption}nearer merged model's own KL, merging failed", head, tuple(rows)))
    return tables
