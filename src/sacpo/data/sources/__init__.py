"""Sources of records: one module for each format, read from local files or the hub.

`read_source` reads what a recipe's data source or prompt set describes; `source_key` identifies its content.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from sacpo.data.records import Record, text_hash
from sacpo.data.sources.chat import check_context
from sacpo.data.sources.convert import KIND_NAMES, convert, unique_prompts, usable_as
from sacpo.data.sources.files import local, looks_local, read_file
from sacpo.data.sources.format import Format
from sacpo.data.sources.hub import read_hub
from sacpo.data.sources.key import source_key
from sacpo.data.sources.registry import FORMATS
from sacpo.data.sources.rows import MissingColumnError, Row, Skip, nearest
from sacpo.errors import DataError
from sacpo.recipe.schema import DataSpec, SourceSpec

__all__ = ["ReadResult", "read_source", "source_key"]


@dataclass(frozen=True)
class ReadResult:
    """What was read from a source.

    Attributes:
        records: Records of one kind, in the source's order.
        dropped: How many rows or records were left out, by reason; `limit` leaves nothing out in this sense.
    """

    records: list[Record]
    dropped: dict[str, int] = field(default_factory=dict)


def read_source(spec: SourceSpec, *, name: str, seed: int, as_: str | None = None) -> ReadResult:
    """Read the records of a data source or a prompt set.

    Args:
        spec: What the recipe says of it; its format is not `world`.
        name: Its name in the recipe.
        seed: Draws the records when the source has a `limit`: those of a smaller limit are among those of a larger.
        as_: What the records are used as: pairs, unpaired, demonstrations or prompts; by default what a `DataSpec`
            says, or else the format's own kind. Prompts are returned once each.

    Raises:
        DataError: A file or a row cannot be used; or the records cannot be used as `as_`.
    """
    as_ = as_ or (spec.as_ if isinstance(spec, DataSpec) else None)
    form = _format(spec, name)
    dropped: Counter[str] = Counter()
    records: list[Record] = []
    for row in _rows(spec, name):
        try:
            row = _mapped(row, spec)
            check_context(row, (*form.columns, *spec.columns.values()))
            found = form.read(row, spec, as_)
        except Skip as skip:
            dropped[str(skip)] += 1
            continue
        except MissingColumnError as error:
            from sacpo.data.detect import other_format  # it reads with this package

            raise other_format(row, spec, as_ or form.kind) or error from error
        for record in found:
            _check_kind(record, records, as_, spec, row, name)
            try:
                records += convert(record, as_) if as_ else [record]
            except Skip as skip:
                dropped[str(skip)] += 1
    records = unique_prompts(records, lambda reason: dropped.update([reason]))
    if not records:
        raise DataError(
            "the source holds no usable record",
            where=_where(spec, name),
            value=dict(dropped),
            do="check the source's format, 'as' and columns",
        )
    return ReadResult(_drawn(records, spec.limit, f"{seed}:{name}"), dict(sorted(dropped.items())))


def _format(spec: SourceSpec, name: str) -> Format:
    if spec.format not in FORMATS:
        raise DataError(
            "this format is not read from files", where=_where(spec, name), allowed=[*FORMATS], do="correct 'format'"
        )
    if spec.label is not None and spec.format != "pku-safe-rlhf":
        raise DataError(
            "only format 'pku-safe-rlhf' has a 'label' to choose",
            where=f"{_where(spec, name)}, 'label'",
            value=spec.label,
            do="remove 'label', or correct 'format'",
        )
    form = FORMATS[spec.format]
    for column in spec.columns:
        if column not in form.columns:
            near = nearest(column, form.columns)
            raise DataError(
                f"format '{spec.format}' knows no column '{column}'" + (f"; did you mean '{near}'?" if near else ""),
                where=f"{_where(spec, name)}, 'columns'",
                allowed=form.columns,
                do="write columns: {NAME: the file's own name}, where NAME is one of these",
            )
    return form


def _rows(spec: SourceSpec, name: str) -> Iterator[Row]:
    for path in spec.paths:
        if not looks_local(path):
            yield from read_hub(path, spec, name)
            continue
        if spec.split is not None or spec.revision is not None:
            raise DataError(
                "a local file has no 'split' and no 'revision'",
                where=_where(spec, name),
                value=spec.split or spec.revision,
                do="remove them, and name the file of the split under 'path'",
            )
        yield from read_file(local(path), name)


def _mapped(row: Row, spec: SourceSpec) -> Row:
    """Return the row under canonical column names."""
    if not spec.columns:
        return row
    data = dict(row.data)
    for canonical, column in spec.columns.items():
        if column not in row.data:
            raise DataError(
                f"no column '{column}', which 'columns' names for '{canonical}'",
                where=row.place,
                value=sorted(row.data),
                do=f"correct it, as in columns: {{{canonical}: {nearest(column, list(row.data)) or 'NAME'}}}",
            )
        data[canonical] = row.data[column]
    return Row(data, row.place, row.source, row.published, row.table)


def _check_kind(record: Record, before: list[Record], as_: str | None, spec: SourceSpec, row: Row, name: str) -> None:
    allowed = usable_as(type(record))
    if as_ is not None and as_ not in allowed:
        raise DataError(
            f"{_where(spec, name)} holds {allowed[0]}",
            where=row.place,
            value=f"as: {as_}",
            allowed=allowed,
            do="change 'as', or choose a source that holds what is needed",
        )
    if as_ is None and before and type(before[0]) is not type(record):
        raise DataError(
            f"{_where(spec, name)} mixes {KIND_NAMES[type(before[0])]} with {allowed[0]}",
            where=row.place,
            do="make them two sources",
        )


def _where(spec: SourceSpec, name: str) -> str:
    return f"data source '{name}' (format {spec.format})"


def _drawn(records: list[Record], limit: int | None, seed: str) -> list[Record]:
    """Return `limit` records drawn by the seed, in their order."""
    if limit is None or limit >= len(records):
        return records
    ranked = sorted(range(len(records)), key=lambda index: text_hash(seed, str(index)))
    return [records[index] for index in sorted(ranked[:limit])]
