"""Rows of verdict files, read as data sources are, and verdict records from them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sacpo.data.records import Kind, Outcome, Verdict
from sacpo.data.sources.files import READERS, SUFFIXES, file_text, read_file, suffix
from sacpo.data.sources.rows import Row
from sacpo.errors import DataError
from sacpo.plain import JsonObject

LARGEST = sys.float_info.max
DO = "give a file that sacpo wrote, or make it again"
OPTIONAL = ("category", "baseline", "baseline_hash", "label", "order", "reason")
KINDS = {kind.value: kind for kind in Kind}
OUTCOMES = {outcome.value: outcome for outcome in Outcome}
REQUIRED = ("prompt_id", "cluster", "model", "criterion", "judge", "answer_hash")
TEXTS = {*REQUIRED, *OPTIONAL}


def read_rows(path: Path, own: str) -> Iterator[Row]:
    """Yield a file's rows as those of a data source, read by its suffix, or by `own` where it has none that is known.

    Raises:
        DataError: See `sacpo.data.sources.files.read_file`.
    """
    if suffix(path) in SUFFIXES or not path.is_file():
        yield from read_file(path, path.name)
        return
    for number, data in READERS[own](file_text(path), path):
        yield Row(data, f"{path}, line {number}", f"{path.name}:{number}")


def verdict_of(row: Row) -> Verdict:
    """Return the verdict in a row; a null is as good as no field, and a number that stands for an id is its text.

    Raises:
        DataError: A field is missing, unknown, or not of its type.
    """
    given: JsonObject = {}
    for name, value in row.data.items():
        if type(value) is str and name in TEXTS and value.isascii():  # nearly all of them
            given[name] = sys.intern(value)  # most texts stand in many rows
        elif value is not None:
            given[name] = _checked(row, name, value)
    lacking = [name for name in REQUIRED if name not in given]
    if lacking:
        raise DataError(
            f"not a record of the kind Verdict: no {', '.join(lacking)}", where=row.place, value=sorted(given), do=DO
        )
    return Verdict(**given)


def _checked(row: Row, name: str, value: object) -> object:
    check = CHECKS.get(name)
    if check is None:
        raise DataError(
            f"not a record of the kind Verdict: unknown field '{name}'", where=row.place, allowed=sorted(CHECKS), do=DO
        )
    found = check(value)
    if found is None:
        what = f"not a record of the kind Verdict: bad value of '{name}'"
        raise row.error(what, name, value, ALLOWED[check], DO)
    return found


def _text(value: object) -> str | None:
    """Return a text, or None where it is none, or none that can be written."""
    if type(value) is not str or not (value.isascii() or value.encode("utf-8", "replace").decode() == value):
        return None
    return value


def _name(value: object) -> str | None:
    return str(value) if type(value) is int else _text(value)


def _number(value: Any) -> float | None:
    return value if type(value) in (int, float) and abs(value) <= LARGEST else None


def _count(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _kind(value: object) -> Kind | None:
    return KINDS.get(value) if type(value) is str else None


def _outcome(value: object) -> Outcome | None:
    return OUTCOMES.get(value) if type(value) is str else None


CHECKS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(REQUIRED, _name),
    **dict.fromkeys(OPTIONAL, _text),
    **dict.fromkeys(("score", "probability"), _number),
    **dict.fromkeys(("repeat", "sample"), _count),
    "kind": _kind,
    "outcome": _outcome,
}
ALLOWED: dict[Callable[[Any], Any], Any] = {
    _name: "a text, or a whole number for an id",
    _text: "a text",
    _number: "a finite number",
    _count: "a whole number of at least 0",
    _kind: [kind.value for kind in Kind],
    _outcome: [outcome.value for outcome in Outcome],
}
