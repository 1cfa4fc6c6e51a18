"""The page's table of steps that were trained in rounds: what each round learnt from, and what it brought."""

from __future__ import annotations

from typing import Any

from sacpo.report.lookup import number
from sacpo.report.results import ModelInfo, Results
from sacpo.report.tables import Cell, Row, Table, measured_cell

HEAD = ("model", "round", "records", "ties", "held-out accuracy", "KL to the reference", "first loss", "last loss")


def round_table(results: Results) -> Table | None:
    """Show every round: its pairs and the share of ties among them, held-out accuracy, KL spent, and its loss."""
    rows = [_row(name, info, results) for name, info in results.models.items() if info.round is not None]
    if not rows:
        return None
    caption = (
        "Steps in rounds: each starts from the model of the round before, and samples from it; the reference stays"
    )
    return Table(caption, HEAD, tuple(rows))


def share_of_ties(report: dict[str, Any]) -> float | None:
    """Return how many of the pairs whose two answers differ are ties, kept or dropped; None without any."""
    dropped, ties = report["dropped"].get("tie", 0), (report["labels"] or {}).get("ties", 0)
    pairs = report["records"] + dropped
    return (dropped + ties) / pairs if pairs else None


def _row(name: str, info: ModelInfo, results: Results) -> Row:
    report, training = results.data.get(info.sampled or "", {}), info.training or {}
    pairs = report if report.get("kind") == "pairs" else None
    return Row(
        name,
        (
            Cell(str(info.round)),
            Cell(number(training.get("records"))),
            Cell(number(None if pairs is None else share_of_ties(pairs), "win_rate")),
            measured_cell((info.implicit or {}).get(f"{info.sampled}/implicit"), "win_rate"),
            measured_cell(info.kl_reference, "kl"),
            Cell(number(training.get("first_loss"))),
            Cell(number(training.get("last_loss"))),
        ),
    )
