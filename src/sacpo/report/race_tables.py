"""The page's table of models that the race dropped."""

from __future__ import annotations

from sacpo.report.lookup import label
from sacpo.report.results import Results
from sacpo.report.tables import Cell, Row, Table


def race_table(results: Results) -> Table | None:
    """Show the models that the race dropped; they stand in no other table of measures."""
    rows = []
    for model, races in results.race.items():
        for race in races:
            broken = [one for one in race.looks[-1].bounds if one.violated]
            if race.dropped:
                words = ", ".join(f"{label(one.bound)} (p = {one.p:.1g})" for one in broken)
                rows.append(Row(model, (Cell(race.prompts), Cell(f"{race.answered} of {race.of}"), Cell(words))))
    if not rows:
        return None
    caption = "Dropped early: models that clearly violate a constraint, and were measured no further"
    return Table(caption, ("model", "prompts", "answered", "violates"), tuple(rows))
