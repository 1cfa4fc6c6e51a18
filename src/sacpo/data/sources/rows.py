"""One row of a source: its fields, where it stands, and typed access with errors that say what to mend."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sacpo.errors import DataError
from sacpo.plain import JsonObject

EMPTY = "empty text"
NOT_UNICODE = "text that is not valid Unicode"
PRINTED = re.compile(r"\s*\[\s*\{\s*'(role|content|from|value)'\s*:")
"""The beginning of a list of messages as Python prints it, which is how tables are written of such a column."""
TRUE, FALSE = (True, 1, "true", "1"), (False, 0, "false", "0")


class Skip(Exception):
    """Leaves one row out of a source; it is counted under this reason."""


class MissingColumnError(DataError):
    """A row does not have a column of its format."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row's fields and its place.

    Attributes:
        data: The fields, under canonical names where the recipe maps columns.
        place: For messages: the file's path and line, or the hub id and row (counted from 1).
        source: For records: the source's name with the file's name and line; it names no folder.
        published: The row comes from a hub. Nobody can mend it there, so empty texts are left out and counted; in a
            local file they are errors.
        table: The row comes from a CSV or TSV file, whose fields are texts.
    """

    data: JsonObject
    place: str
    source: str
    published: bool = False
    table: bool = False

    def has(self, field: str) -> bool:
        """Return whether the field is there and neither null nor "", as a table spells null."""
        return self.data.get(field) not in (None, "")

    def value(self, field: str) -> Any:
        """Return a field's value.

        Raises:
            DataError: There is no such column.
        """
        if field not in self.data:
            raise missing_column(self.place, field, list(self.data))
        return self.data[field]

    def text(self, field: str, *, empty: bool = False) -> str:
        """Return a field that must be a text, and not an empty one unless `empty`.

        Raises:
            DataError: The column is missing, or it is not such a text.
        """
        return self.checked_text(self.value(field), field, empty=empty)

    def optional_text(self, field: str) -> str:
        """Return a field's text, "" where the row does not have it."""
        return self.text(field, empty=True) if self.has(field) else ""

    def checked_text(self, value: object, field: str, *, empty: bool = False) -> str:
        """Return the value if it is a usable text; errors as in `text`."""
        if not isinstance(value, str):
            raise self.error(f"'{field}' is not a text", field, value, "a text")
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            if self.published:
                raise Skip(NOT_UNICODE) from error
            raise self.error(f"'{field}' holds half of a surrogate pair", field, value, "valid Unicode") from error
        if not empty and not value.strip():
            if self.published:
                raise Skip(EMPTY)
            raise self.error(f"'{field}' is empty", field, value, "a text that is not empty")
        if self.table and PRINTED.match(value):
            what = f"'{field}' holds messages as Python prints them, which a table cannot hold"
            do = "write the rows as JSON lines or Parquet (datasets: to_json, to_parquet)"
            raise self.error(what, field, value[:60], "a text", do)
        return value

    def boolean(self, field: str) -> bool:
        """Return a field that must be true or false; CSV files spell them true, false, 1 or 0.

        Raises:
            DataError: The column is missing, or it is neither.
        """
        value = self.value(field)
        plain = value.strip().lower() if isinstance(value, str) else value
        if isinstance(plain, bool | int | str):
            if plain in TRUE:
                return True
            if plain in FALSE:
                return False
        raise self.error(f"bad label in '{field}'", field, value, ("true", "false"))

    def choice(self, field: str, allowed: Sequence[int]) -> int:
        """Return a field that must be one of a few whole numbers.

        Raises:
            DataError: The column is missing, or it is another value.
        """
        value = self.value(field)
        plain = int(value) if isinstance(value, str) and value.strip().isdecimal() else value
        if isinstance(plain, int) and not isinstance(plain, bool) and plain in allowed:
            return plain
        raise self.error(f"bad label in '{field}'", field, value, allowed)

    def number(self, field: str, low: float = -math.inf, high: float = math.inf) -> float:
        """Return a field that must be a finite number in [low, high].

        Raises:
            DataError: The column is missing, or it is no such number.
        """
        value = self.value(field)
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not (math.isfinite(number) and low <= number <= high):
            allowed = "a number" if math.isinf(low) else f"a number in [{low:g}, {high:g}]"
            raise self.error(f"bad number in '{field}'", field, value, allowed)
        return number

    def error(self, what: str, field: str, value: object, allowed: object, do: str | None = None) -> DataError:
        """Return an error about one field of this row."""
        return DataError(
            what,
            where=f"{self.place}, field '{field}'",
            value="null" if value is None else value,
            allowed=allowed,
            do=do or ("choose another source" if self.published else "correct or remove this row"),
        )


def missing_column(place: str, field: str, columns: Sequence[str]) -> DataError:
    """Return the error about a column that a row does not have; the nearest existing one is named."""
    if field == "label" and {"chosen", "rejected"} <= set(columns):
        return DataError(
            "these are pairs, not labelled completions",
            where=place,
            value=sorted(columns),
            do="read them in format 'preference', which KTO takes as well as DPO",
        )
    near = nearest(field, columns)
    own = repr(near) if near != near.strip() else near or "NAME"
    return MissingColumnError(
        f"no column '{field}'" + (f"; the nearest is '{near}'" if near else ""),
        where=place,
        value=sorted(columns),
        do=f"rename it in the file, or name it in a recipe under 'columns', as in columns: {{{field}: {own}}}",
    )


def nearest(word: str, words: Sequence[str]) -> str:
    """Return the most similar of the words, or "" where none is similar."""
    lowered = {other.lower(): other for other in sorted(words, reverse=True)}
    found = difflib.get_close_matches(word.lower(), sorted(lowered), n=1, cutoff=0.5)
    return lowered[found[0]] if found else ""
