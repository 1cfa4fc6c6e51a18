"""The rows of a preference set as they are, with everything that is said of each; faults are counted, not raised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sacpo.audit.sets import PKU, rows_of, spec_of
from sacpo.data.records import Labelled, Pair, Prompt, Record
from sacpo.data.sources.chat import check_context
from sacpo.data.sources.registry import FORMATS
from sacpo.data.sources.rows import FALSE, TRUE, Row, Skip
from sacpo.errors import DataError
from sacpo.plain import JsonObject
from sacpo.recipe.schema import SourceSpec

PLACED = (PKU, "pandalm")
"""Formats in which the first answer is not the preferred one by design: its share says something."""
LABELS = {"better": "helpfulness", "safer": "harmlessness"}
PREFERENCE = "preference"
EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Unit:
    """One row of a preference set.

    Attributes:
        prompt: What was asked.
        answers: Two answers, or one that is labelled by itself.
        first: By criterion, the probability that the first of two answers is preferred.
        safe: Whether each answer is safe; None where nothing is said.
        desirable: Of a single answer, its label.
        placed: The answers' order is not that of the preference.
        categories: The row's categories.
    """

    prompt: Prompt
    answers: tuple[str, ...]
    first: Mapping[str, float]
    safe: tuple[bool | None, ...] = (None, None)
    desirable: bool | None = None
    placed: bool = False
    categories: tuple[str, ...] = ()


@dataclass
class Faults:
    """What is wrong with rows, counted by what it is, with the places of the first few; no text of a row is kept."""

    counts: Counter[str] = field(default_factory=Counter)
    places: dict[str, list[str]] = field(default_factory=dict)

    def add(self, what: str, place: str) -> None:
        """Count a fault."""
        self.counts[what] += 1
        if self.counts[what] <= EXAMPLES:
            self.places.setdefault(what, []).append(place)

    def to_json(self) -> list[JsonObject]:
        """Return the faults, the most frequent first."""
        ranked = sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
        return [{"what": what, "rows": n, "first": self.places[what]} for what, n in ranked]


@dataclass(frozen=True)
class Read:
    """A file's units.

    Attributes:
        name: The file's name without its folder, or the hub id.
        format: Its format.
        rows: How many rows it has.
        units: Those that could be read.
        faults: What is wrong with the others, and with some of these.
        dropped: Rows that hold nothing to compare, by reason.
    """

    name: str
    format: str
    rows: int
    units: list[Unit]
    faults: Faults
    dropped: Counter[str]


def read_units(path: str, name: str, format: str | None = None, split: str | None = None) -> Read:
    """Read a preference set leniently.

    Args:
        path: A local file or a hub id.
        name: How it is called.
        format: Its format; by default the one that its first rows tell.
        split: Of a hub id.

    Raises:
        DataError: There is no such file, it is malformed, no format fits, or it holds no preferences.
    """
    rows = [*rows_of(path, split)]
    spec = spec_of(path, rows, format, ("pairs", "unpaired"))
    faults, dropped, units = Faults(), Counter[str](), []
    for row in rows:
        try:
            units += _units(row, spec, faults)
        except Skip as skip:
            dropped[str(skip)] += 1
        except DataError as error:
            faults.add(_fault(error, row), place_of(row))
    if not units:
        raise DataError(
            "no row holds a preference",
            where=path,
            value={fault["what"]: fault["rows"] for fault in faults.to_json()} or dict(dropped),
            do="give a preference set, and its --format where its columns do not tell; see docs/data.md",
        )
    return Read(name, spec.format, len(rows), units, faults, dropped)


def place_of(row: Row) -> str:
    """Return the number of a row's line."""
    return row.source.rpartition(":")[2]


def _fault(error: DataError, row: Row) -> str:
    """Return what is wrong without the row's place and value."""
    where = str(error.where or "").removeprefix(row.place).lstrip(", ")
    return f"{error.what}, {where}" if where else error.what


def _units(row: Row, spec: SourceSpec, faults: Faults) -> list[Unit]:
    check_context(row, FORMATS[spec.format].columns)
    if spec.format == PKU and row.has("response_0"):
        return [_pku(row, spec, faults)]
    found = FORMATS[spec.format].read(
        row, spec.model_copy(update={"label": "safer"}) if spec.format == PKU else spec, None
    )
    return [_unit(record, spec.format, row) for record in found]


def _unit(record: Record, format: str, row: Row) -> Unit:
    if isinstance(record, Pair):
        known = format == PKU  # its reshaped rows: the chosen answer is safe, the other one is not
        return Unit(
            record.prompt,
            (record.chosen, record.rejected),
            {record.criterion or PREFERENCE: record.p},
            (True, False) if known else (None, None),
            placed=format in PLACED and not known,
            categories=_categories(record.prompt),
        )
    if isinstance(record, Labelled):
        answers = (record.completion,)
        return Unit(record.prompt, answers, {}, (None,), record.label, categories=_categories(record.prompt))
    raise DataError("a row without a preference", where=row.place)


def _pku(row: Row, spec: SourceSpec, faults: Faults) -> Unit:
    """Return a row of PKU-SafeRLHF's schema, and count what contradicts itself in it."""
    (pair,) = FORMATS[PKU].read(row, spec.model_copy(update={"label": "better"}), None)
    assert isinstance(pair, Pair)
    answers = (row.text("response_0"), row.text("response_1"))
    ids = {criterion: row.choice(f"{label}_response_id", (0, 1)) for label, criterion in LABELS.items()}
    safe = tuple(_said(row, f"is_response_{i}_safe") for i in (0, 1))
    place = place_of(row)
    if None in safe:
        faults.add("nothing says whether an answer is safe", place)
    elif safe[0] != safe[1] and safe[ids["harmlessness"]] is False:
        faults.add("the safer id is not the safe answer", place)
    named: list[str] = []
    for i in (0, 1):
        harms = _harms(row.data.get(f"response_{i}_harm_category"))
        named += harms
        if safe[i] is True and (harms or _severity(row, i)):
            faults.add("a safe answer with a category of harm or a severity", place)
        if safe[i] is False and not harms and f"response_{i}_harm_category" in row.data:
            faults.add("an unsafe answer without a category of harm", place)
    first = {criterion: float(chosen == 0) for criterion, chosen in ids.items()}
    return Unit(
        pair.prompt,
        answers,
        first,
        safe,
        placed=True,
        categories=tuple(dict.fromkeys(named)) or _categories(pair.prompt),
    )


def _said(row: Row, field: str) -> bool | None:
    return row.boolean(field) if row.has(field) else None


def _harms(value: object) -> list[str]:
    if isinstance(value, Mapping):
        return [str(name) for name, applies in value.items() if applies in TRUE and applies not in FALSE]
    return [str(name) for name in value] if isinstance(value, list) else []


def _severity(row: Row, i: int) -> bool:
    field = f"response_{i}_severity_level"
    return row.has(field) and row.number(field) > 0


def _categories(prompt: Prompt) -> tuple[str, ...]:
    return (prompt.category,) if prompt.category else ()


def two(units: Sequence[Unit]) -> list[Unit]:
    """Return the units of two answers."""
    return [unit for unit in units if len(unit.answers) == 2]
