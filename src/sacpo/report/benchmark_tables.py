"""The page's table of tasks of lm-evaluation-harness: the first model beside the others."""

from __future__ import annotations

from sacpo.report.benchmarks import BenchmarkFigure
from sacpo.report.lookup import number
from sacpo.report.results import Results
from sacpo.report.tables import Cell, Row, Table, measured_cell

HEAD = ("task", "figure", "questions")


def benchmark_table(results: Results) -> Table | None:
    """Show what models reached on tasks, and what changed from the first of them."""
    if not results.harness:
        return None
    first, *others = results.harness
    rows = []
    for task, one in results.harness[first].items():
        for name, figure in one.figures.items():
            cells = [Cell(name), Cell(number(one.n)), measured_cell(figure.figure, "")]
            for other in others:
                found = results.harness[other].get(task)
                rival = found.figures.get(name) if found is not None else None
                cells += [measured_cell(None if rival is None else rival.figure, ""), _change(rival)]
            rows.append(Row(task, tuple(cells)))
    head = [words for other in others for words in (other, f"{other} minus {first}")]
    caption = "What alignment costs elsewhere: tasks of lm-evaluation-harness; differences are on the same questions"
    return Table(caption, (*HEAD, first, *head), tuple(rows))


def _change(figure: BenchmarkFigure | None) -> Cell:
    if figure is None or figure.change is None:
        return Cell("not comparable")
    mood = {True: "bad", False: "good", None: ""}[figure.worse]
    return measured_cell(figure.change, "", mood)
