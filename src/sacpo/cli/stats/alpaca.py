"""AlpacaEval's published length control beside this package's own: difficulties and coefficients from its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sacpo.data.records import text_hash
from sacpo.errors import DataError
from sacpo.judging.verdict_rows import read_rows
from sacpo.plain import JsonMapping, JsonObject
from sacpo.stats.alpaca import published_length_controlled

BASE, HARD, MODEL = "not_gamed_baseline.astype(float)", "instruction_difficulty", ""
ALONE, WITH_DIFFICULTY = "a median of 4.0 points apart and up to 15.1", "a median of 1.5 and up to 9.2"
"""How far own fits lie from the 37 published of `weighted_alpaca_eval_gpt4_turbo`; a test measures it."""

Weights = Mapping[str, tuple[float, float]]


def read_difficulty(path: Path) -> dict[str, float]:
    """Return each instruction's difficulty by its prompt id, in the file's order.

    Raises:
        DataError: The file has no columns `instruction` and `instruction_difficulty`.
    """
    return {text_hash(row.text("instruction")): row.number(HARD) for row in read_rows(path, ".csv")}


def read_weights(path: Path) -> dict[str, tuple[float, float]]:
    """Return each model's published coefficients: of the baseline term and of the difficulty.

    Raises:
        DataError: The file has no columns of these names, or none without a name for the model.
    """
    return {row.text(MODEL): (row.number(BASE), row.number(HARD)) for row in read_rows(path, ".csv")}


def with_published(
    rows: Sequence[JsonMapping], weights: Weights, difficulty: Mapping[str, float], totals: Mapping[str, int]
) -> list[JsonObject]:
    """Return length-controlled rows with AlpacaEval's own figure: `alpaca_eval`, None without coefficients.

    Args:
        rows: Of `length_rows`.
        weights: Each model's coefficients.
        difficulty: In the order of AlpacaEval's instructions: a model with n verdicts uses the first n.
        totals: Each model's verdicts.
    """
    if weights and not difficulty:
        raise DataError(
            "published coefficients need the instructions' difficulties",
            where="--length-weights",
            do="give --difficulty",
        )
    return [{**row, "alpaca_eval": _published(row, weights, difficulty, totals)} for row in rows]


def _published(
    row: JsonMapping, weights: Weights, difficulty: Mapping[str, float], totals: Mapping[str, int]
) -> dict[str, float] | None:
    model = row["model"]
    if model not in weights or row["controlled"]["value"] is None:
        return None
    base, hard = weights[model]
    theirs = published_length_controlled(base, hard, [*difficulty.values()][: totals[model]])
    return {"length_controlled_winrate": theirs, "difference": 100 * row["controlled"]["value"] - theirs}


def length_findings(rows: Sequence[JsonMapping], leaderboard: Sequence[JsonMapping], difficulty: bool) -> list[str]:
    """Return how far the length control of AlpacaEval's judges is from AlpacaEval's own."""
    compared = {(row["model"], row["judge"]) for row in leaderboard}
    found = []
    for row in rows:
        if (row["model"], row["judge"]) not in compared:
            continue
        begin, theirs = f"length control of {row['model']} by {row['judge']}", row["alpaca_eval"]
        other = "not AlpacaEval's fit; on its published models they are"
        if theirs is not None:
            found.append(f"{begin}: {theirs['difference']:+.1f} points from AlpacaEval's published coefficients")
        elif difficulty:
            found.append(
                f"{begin}: not AlpacaEval's fit; on its published models they are {WITH_DIFFICULTY} points apart"
            )
        else:
            found.append(
                f"{begin}: {other} {ALONE} ({WITH_DIFFICULTY} with --difficulty); --length-weights shows theirs"
            )
    return found
