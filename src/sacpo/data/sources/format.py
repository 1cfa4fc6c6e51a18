"""What a module of this package says of a format: its kind of records, how a row is read, its columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sacpo.data.records import Record
from sacpo.data.sources.rows import Row
from sacpo.recipe.formats import RecordKind
from sacpo.recipe.schema import SourceSpec


@dataclass(frozen=True)
class Format:
    """A format of data files.

    Attributes:
        kind: What its records are where the recipe does not say 'as'; None where the rows of a file tell.
        read: Turns a row into records; it is told what they will be used as (None: the format's own kind).
        columns: The canonical columns, which a recipe's `columns` may map to a file's own.
    """

    kind: RecordKind | None
    read: Callable[[Row, SourceSpec, str | None], list[Record]]
    columns: tuple[str, ...]
