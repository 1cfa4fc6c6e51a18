"""TRL's columns as records: data sets and lists of rows in memory, in the preference and the unpaired format.

Source: https://huggingface.co/docs/trl/dataset_formats
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sacpo.data.records import Labelled, Pair, Record
from sacpo.data.sources.chat import check_context
from sacpo.data.sources.registry import FORMATS
from sacpo.data.sources.rows import Row, Skip
from sacpo.errors import DataError
from sacpo.recipe.schema import SourceSpec

REFUSED = {
    "prompt_ids": "rows are tokenised here",
    "ref_chosen_logps": "reference log-probs are computed here",
    "ref_logps": "reference log-probs are computed here",
}

PAIRED, UNPAIRED = ("chosen", "rejected"), ("prompt", "completion", "label")


def read_columns(rows: object, name: str) -> tuple[list[Pair] | list[Labelled], bool, dict[str, int]]:
    """Return the records of a data set's rows, whether they are chats (messages) and not texts, and rows left out.

    Args:
        rows: A `datasets.Dataset` or a sequence of dictionaries with `prompt`, `chosen`, `rejected` (and `p`, the
            probability that `chosen` is preferred), or `prompt`, `completion`, `label`.
        name: What the rows are, for messages.

    Returns:
        Records, whether they are chats, and how many rows were left out for which reason.

    Raises:
        DataError: A row or the data set is not of this form.
    """
    if isinstance(rows, Mapping | str) or not isinstance(rows, Iterable) or not hasattr(rows, "__len__"):
        advice = "load the data set without streaming"
        if isinstance(rows, Mapping):
            advice = f"choose one of its splits: {', '.join(map(str, rows))}"
        elif isinstance(rows, str):
            advice = "load it: datasets.load_dataset"
        raise DataError(
            "these are no rows that can be counted",
            where=name,
            value=type(rows).__name__,
            allowed="a datasets.Dataset, or a list of dictionaries",
            do=advice,
        )
    records: list[Any] = []
    chats: set[bool] = set()
    dropped: Counter[str] = Counter()
    for number, row in enumerate(rows, 1):
        try:
            record, chat = _record(row, f"{name}, row {number}")
        except Skip as skip:
            dropped[str(skip)] += 1
            continue
        records.append(record)
        chats.add(chat)
    if len({type(record) for record in records}) > 1 or len(chats) > 1:
        raise DataError(
            "rows of different kinds are mixed", where=name, do="give pairs or labelled rows, texts or chats"
        )
    if not records:
        raise DataError("there are no rows to use", where=name, value=dict(dropped), do="give at least one")
    return records, chats == {True}, dict(dropped)


def _record(row: object, place: str) -> tuple[Record, bool]:
    if not isinstance(row, Mapping):
        raise DataError("a row is no dictionary", where=place, value=type(row).__name__, do="give columns by name")
    row = {column: value for column, value in row.items() if value is not None}  # null: the column of another row
    for column, reason in REFUSED.items():
        if column in row:
            raise DataError(f"{reason}: column '{column}'", where=place, do="remove the column")
    paired = "chosen" in row or "rejected" in row
    if missing := [column for column in (PAIRED if paired else UNPAIRED) if column not in row]:
        raise DataError(
            f"no column '{missing[0]}'",
            where=place,
            value=[*row],
            allowed=f"{', '.join(('prompt', *PAIRED))} (pairs), or {', '.join(UNPAIRED)} (labelled completions)",
            do="rename the data set's columns",
        )
    data = _with_prompt(row) if paired else row
    texts = [data.get("prompt", ""), *(data[column] for column in (PAIRED if paired else UNPAIRED[1:2]))]
    chat = not all(isinstance(text, str) for text in texts)
    format = "preference" if paired else "unpaired"
    found = Row(data, place, place)
    check_context(found, FORMATS[format].columns)
    (record,) = FORMATS[format].read(found, SourceSpec(format=format, path="rows"), None)
    return record, chat


def _with_prompt(row: dict[str, object]) -> dict[str, object]:
    """Return the row with the prompt that two texts share as TRL finds it, where it has no prompt column."""
    chosen, rejected = row.get("chosen"), row.get("rejected")
    if "prompt" in row or not isinstance(chosen, str) or not isinstance(rejected, str):
        return row
    length = _shared(chosen, rejected)
    if 0 < length < min(len(chosen), len(rejected)) and chosen[length - 1] == " ":
        length -= 1  # the space belongs to the completions
    return {**row, "prompt": chosen[:length], "chosen": chosen[length:], "rejected": rejected[length:]}


def _shared(first: Sequence[object], second: Sequence[object]) -> int:
    for place, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return place
    return min(len(first), len(second))
