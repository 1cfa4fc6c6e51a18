"""Which format a file of records is in: the first whose reader makes a record of the file's first rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sacpo.data.records import Record
from sacpo.data.sources.chat import check_context
from sacpo.data.sources.convert import KIND_NAMES, usable_as
from sacpo.data.sources.files import read_file
from sacpo.data.sources.registry import FORMATS
from sacpo.data.sources.rows import Row, Skip
from sacpo.data.splits import prompt_of
from sacpo.errors import DataError
from sacpo.recipe.formats import KIND_OF_FORMAT, FormatName, RecordKind
from sacpo.recipe.schema import SourceSpec

TOLD_BY: tuple[tuple[FormatName, str], ...] = (
    ("pandalm", "annotator1"),
    ("pku-safe-rlhf", "response_0"),
    ("ultrafeedback", "score_chosen"),
    ("hh-rlhf", "chosen"),
    ("sharegpt", "conversations"),
    ("sharegpt", "messages"),
    ("preference", "chosen"),
    ("unpaired", "label"),
    ("alpaca", "output"),
    ("demonstrations", "completion"),
    ("xstest", "type"),
    ("prompts", "prompt"),
    ("prompts", "instruction"),
    ("prompts", "question"),
    ("prompts", "Behavior"),
)
"""Formats, the most demanding first, each with a column without which it is not tried."""
NAMES = {
    "pairs": "preference pairs",
    "unpaired": "labelled completions",
    "demonstrations": "demonstrations",
    "prompts": "prompts",
}


_CHOICES: tuple[Literal["better"], Literal["safer"]] = ("better", "safer")


@dataclass(frozen=True)
class Found:
    """A file's format and what is in it.

    Attributes:
        path: The file.
        spec: How it is read.
        rows: Its rows that hold a record, each with its records.
        dropped: How many rows hold none, by reason.
    """

    path: Path
    spec: SourceSpec
    rows: list[tuple[Row, list[Record]]]
    dropped: Counter[str] = field(default_factory=Counter)

    @property
    def records(self) -> list[Record]:
        """All records, in the file's order."""
        return [record for _, records in self.rows for record in records]

    @property
    def kind(self) -> RecordKind:
        """What its records are."""
        return KIND_NAMES[type(self.records[0])]  # type: ignore[return-value]

    def said(self) -> str:
        """Return one line for the user."""
        chats = any(len(prompt_of(record).messages) > 1 for record in self.records)
        whole = any(isinstance(row.data.get(key), list) for row, _ in self.rows[:1] for key in row.data)
        prompts = "chats of several turns" if chats else "chat messages" if whole else "texts"
        left = "".join(f"; {n:,} left out: {reason}" for reason, n in sorted(self.dropped.items()))
        named = self.spec.format + (f", label {self.spec.label}" if self.spec.label else "")
        return f"{self.path}: {NAMES[self.kind]}, {len(self.rows):,} rows (format {named}); prompts as {prompts}{left}"


def detect(path: Path, *, usable: Sequence[RecordKind], label: Literal["better", "safer"] | None = None) -> Found:
    """Read a file in the format that its first rows tell.

    Args:
        path: A local file.
        usable: What the records may be.
        label: Which of PKU-SafeRLHF's two preferences is meant.

    Raises:
        DataError: The file is missing, no format or one of another kind fits, or a later row is not of the format.
    """
    rows = [*read_file(path, path.name)]
    spec = format_of(path, rows, usable, label)
    found = Found(path, spec, [])
    for row in rows:
        try:
            found.rows.append((row, _read(row, spec)))
        except Skip as skip:
            found.dropped[str(skip)] += 1
    kinds = sorted({KIND_NAMES[type(record)] for record in found.records})
    if len(kinds) > 1:
        raise DataError("a file with several kinds of records", where=path, value=kinds, do="make a file of each")
    if found.kind not in usable:
        raise DataError(
            f"this file holds {NAMES[found.kind]}",
            where=path,
            value=f"format {spec.format}",
            allowed=_formats(usable),
            do="give a file of one of these formats, see docs/data.md",
        )
    return found


def format_of(
    path: Path, rows: Sequence[Row], usable: Sequence[RecordKind], label: Literal["better", "safer"] | None = None
) -> SourceSpec:
    """Return how to read the file: the first format that makes a record of its first row that holds one.

    Formats of other records are tried where no wanted one comes near, so that the message can say what the file holds.
    """
    near: tuple[FormatName, DataError] | None = None
    wanted = _formats(usable)
    for form, column in sorted(TOLD_BY, key=lambda told: told[0] not in wanted):
        if near is not None and form not in wanted:
            break
        spec = SourceSpec(format=form, path=str(path), label=label if form == "pku-safe-rlhf" else None)
        for row in rows:
            if column not in row.data:
                break
            try:
                if _read(row, spec):
                    return spec
            except Skip:
                continue
            except DataError as error:
                near = (form, error)  # of the least demanding format
                break
    do = "write its rows as {prompt, chosen, rejected}, or see docs/data.md for every format"
    raise DataError(
        "no format fits the first rows of this file",
        where=path,
        value=sorted(rows[0].data),
        allowed=wanted,
        do=do if near is None else f"as format '{near[0]}' this is wrong: {near[1].what} ({near[1].where})",
    )


def other_format(row: Row, spec: SourceSpec, wanted: str | None) -> DataError | None:
    """Return the error about a row whose columns are those of another format than it is read in; None: they are not.

    Args:
        row: A row that lacks a column of its format.
        spec: How it is read.
        wanted: The kind of records that is needed; None: whatever the rows hold.
    """
    if spec.columns:
        return None
    asked = {*FORMATS[spec.format].columns} & row.data.keys()
    for form, column in TOLD_BY:
        known = {*FORMATS[form].columns}
        whole = KIND_OF_FORMAT[form] == "prompts" and not row.data.keys() <= known  # most files have a prompt
        if column not in row.data or form == spec.format or not asked <= known or whole:
            continue
        label = _CHOICES[0] if form == "pku-safe-rlhf" else None
        try:
            records = _read(row, SourceSpec(format=form, path="row", label=label))
        except (DataError, Skip):
            continue
        return _mistaken(row, spec, form, records[0], wanted)
    return None


def _mistaken(row: Row, spec: SourceSpec, form: FormatName, record: Record, wanted: str | None) -> DataError:
    kind, usable = KIND_NAMES[type(record)], usable_as(type(record))
    do = f"name their format: --format {form}, or in a recipe format: {form}"
    if form == "pku-safe-rlhf":
        do += f"; and the preference that is meant: --label {' or '.join(_CHOICES)}, in a recipe label: {_CHOICES[0]}"
    elif wanted == "pairs" and kind == "unpaired":
        do += "; algorithm kto learns from them"
    elif wanted is not None and wanted not in usable:
        do = f"give {NAMES[wanted]}: {NAMES[kind]} are none"
        do += "; sacpo sft learns from them" if kind == "demonstrations" else ""
    return DataError(
        f"this looks like '{form}' ({NAMES[kind]}), not '{spec.format}'",
        where=row.place,
        value=sorted(row.data),
        do=do,
    )


def _read(row: Row, spec: SourceSpec) -> list[Record]:
    form = FORMATS[spec.format]
    check_context(row, form.columns)
    return form.read(row, spec, None)


def _formats(usable: Sequence[RecordKind]) -> list[str]:
    """Return the formats of files that hold what is wanted, by name."""
    return [name for name, kind in KIND_OF_FORMAT.items() if name in FORMATS and (kind is None or kind in usable)]
