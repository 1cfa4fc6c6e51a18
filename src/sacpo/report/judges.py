"""What the page shows of the judges: how far each can be believed, and each one's own win rates."""

from __future__ import annotations

from collections.abc import Iterator

from sacpo.report.lookup import label, number, report_sets
from sacpo.report.results import JudgeFigures, Results
from sacpo.report.tables import Cell, Row, Table, measured_cell, model_row

RELIABILITY = {
    "unparsed_rate": "unparsed",
    "tie_rate": "ties",
    "first_share": "first shown wins",
    "flip_rate": "flips with the order",
    "repeat_agreement": "repeats agree",
    "longer_share": "longer answer wins",
}


def reliability_tables(results: Results) -> list[Table]:
    """Show every judge's reliability over all models, one table a report set."""
    tables = []
    for name in report_sets(results):
        rows = [
            Row(
                judge.judge,
                (
                    Cell(judge.criterion),
                    Cell(str(judge.verdicts)),
                    *(measured_cell(getattr(judge, key), "win_rate") for key in RELIABILITY),
                ),
            )
            for judge in results.reliability.get(name, ())
        ]
        if rows:
            caption = f"{name}: judges over all models; without bias the first shown and the longer answer win 50 %"
            tables.append(Table(caption, ("judge", "criterion", "verdicts", *RELIABILITY.values()), tuple(rows)))
    return tables


def own_tables(results: Results) -> list[Table]:
    """Show each judge's own figures where a panel, both orders or unparsed verdicts make them differ."""
    return [
        table
        for name in report_sets(results)
        for criterion in _criteria(results, name)
        for table in (make(results, name, criterion) for make in (_win_table, _label_table, _score_table))
        if table is not None
    ]


def judge_findings(results: Results) -> list[str]:
    """Return what a reader must know of the judges of report prompts, each sentence once."""
    found = (
        text for name in report_sets(results) for one in results.reliability.get(name, ()) for text in one.findings
    )
    return [*dict.fromkeys(found)]


def _criteria(results: Results, name: str) -> list[str]:
    sets = [measures[name].judges for measures in results.measures.values() if name in measures]
    return [*dict.fromkeys(criterion for judges in sets for criterion in judges)]


def _figures(results: Results, name: str, criterion: str) -> Iterator[tuple[str, str, JudgeFigures]]:
    """Yield model, judge and figures."""
    for model in results.models:
        measures = results.measures.get(model, {}).get(name)
        for judge, figures in (measures.judges if measures else {}).get(criterion, {}).items():
            yield model, judge, figures


def _win_table(results: Results, name: str, criterion: str) -> Table | None:
    found = [one for one in _figures(results, name, criterion) if "win_rate" in one[2].metrics]
    plain = all(not own.by_order and not own.metrics["win_rate"].unparsed for _, _, own in found)
    if plain and len({judge for _, judge, _ in found}) < 2:
        return None
    rows = []
    for model, judge, own in found:
        low, high = own.worst_case or (None, None)
        cells = [Cell(judge), measured_cell(own.metrics["win_rate"], "win_rate")]
        cells += [measured_cell(own.by_order.get(order), "win_rate") for order in ("ab", "ba")]
        cells.append(Cell(f"{number(low, 'win_rate')} to {number(high, 'win_rate')}"))
        rows.append(model_row(results, model, cells))
    head = ("model", "judge", "win rate, adjusted for the order", "shown first", "shown second", "worst case to best")
    caption = f"{name}: {criterion} by each judge; worst case to best: all unparsed verdicts lost, or won"
    return Table(caption, head, tuple(rows))


def _label_table(results: Results, name: str, criterion: str) -> Table | None:
    """Show the rates that each member of a panel gives by its labels."""
    keys = ("unsafe_rate", "over_refusal_rate", "refusal_rate")
    found = [one for one in _figures(results, name, criterion) if any(key in one[2].metrics for key in keys)]
    if len({judge for _, judge, _ in found}) < 2:
        return None
    shown = [key for key in keys if any(key in own.metrics for _, _, own in found)]
    rows = [
        model_row(results, model, [Cell(judge), *(measured_cell(own.metrics.get(key), key) for key in shown)])
        for model, judge, own in found
    ]
    return Table(f"{name}: {criterion} by each judge", ("model", "judge", *map(label, shown)), tuple(rows))


def _score_table(results: Results, name: str, criterion: str) -> Table | None:
    """Show the mean score of each member of a panel that rates single answers."""
    found = [one for one in _figures(results, name, criterion) if "mean_score" in one[2].metrics]
    if any("win_rate" in own.metrics for _, _, own in found) or len({judge for _, judge, _ in found}) < 2:
        return None
    rows = [
        model_row(results, model, [Cell(judge), measured_cell(own.metrics["mean_score"], "mean_score")])
        for model, judge, own in found
    ]
    key = f"mean_score/{criterion}"
    return Table(f"{name}: {criterion} by each judge", ("model", "judge", label(key)), tuple(rows))
