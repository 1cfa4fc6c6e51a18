"""Verdicts of a file or a store, whoever gave them: judges, and people beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sacpo.data.records import Verdict
from sacpo.errors import DataError
from sacpo.judging.llm.store import STORE, Store
from sacpo.judging.people.raters import HUMAN
from sacpo.judging.verdict_rows import read_rows, verdict_of

SQLITE = b"SQLite format 3\0"


def read_verdicts(path: Path) -> list[Verdict]:
    """Read one verdict file or store.

    Raises:
        DataError: It is neither, or a record cannot be read.
        RunError: An SQLite file is no store, or a damaged one.
    """
    try:
        with path.open("rb") as file:
            is_store = file.read(len(SQLITE)) == SQLITE
    except OSError as error:
        raise DataError(f"the file cannot be read: {error.strerror}", where=path, do="check its permissions") from error
    if not is_store:
        found = [verdict_of(row) for row in read_rows(path, ".jsonl")] if path.stat().st_size else []
        return [*found, *_people_on(found, path.with_name(STORE))]
    with Store(path) as store:
        return store.verdicts()


def _people_on(verdicts: Sequence[Verdict], path: Path) -> list[Verdict]:
    """Return what people said, in the store beside a file of verdicts, of the answers that were judged there."""
    if not path.is_file():
        return []
    judged = {(v.prompt_id, v.answer_hash) for v in verdicts}
    with Store(path) as store:
        labels = [v for v in store.verdicts() if v.judge.startswith(HUMAN)]
    return [v for v in labels if (v.prompt_id, v.answer_hash) in judged]
