"""Judged folders as certificates read them: who was judged on what, then the verdicts, and the files' hashes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sacpo.data.records import Kind, Verdict, iter_jsonl
from sacpo.errors import DataError, RunError
from sacpo.system.files import file_hash

VERDICTS = "verdicts.jsonl"
FINISHED = ("measures.json", "manifest.json")
"""One of these stands beside verdicts when none is missing."""
STORES = (".sqlite", ".sqlite-wal", ".sqlite-shm")
"""Files of a judged folder that hold paid replies, not results."""


@dataclass(frozen=True, slots=True, order=True)
class Asked:
    """What was judged, without what was said of it."""

    model: str
    criterion: str
    prompt_id: str
    cluster: str
    kind: Kind
    category: str
    question: tuple[int, str, int]
    """The answer's sample, the order and the repeat."""


def folders_of(paths: Sequence[str | Path], role: str) -> list[Path]:
    """Return folders of `judge`.

    Raises:
        RunError: There is none, or one is not finished.
    """
    if not paths:
        raise RunError(f"no {role} folders", where=role, do="give folders that 'judge' wrote")
    folders = [Path(path) for path in paths]
    for folder in folders:
        if not (folder / VERDICTS).is_file() or not any((folder / name).is_file() for name in FINISHED):
            raise RunError(
                "no finished verdicts in this folder",
                where=folder,
                do="give folders that 'judge' wrote, or stages/judge/MODEL/PROMPTS of a run",
            )
    return folders


def asked_in(folders: Sequence[Path], unit: str) -> set[Asked]:
    """Return what was judged; what was said is not looked at.

    Raises:
        DataError: A line is no verdict, or there is none.
    """
    found = {
        Asked(v.model, v.criterion, v.prompt_id, v.cluster, v.kind, v.category, (v.sample, v.order, v.repeat))
        for folder in folders
        for v in _verdicts(folder, unit)
    }
    if not found:
        raise DataError("there are no verdicts", where=", ".join(map(str, folders)), do="judge some answers first")
    return found


def verdicts_by_model(folders: Sequence[Path], unit: str) -> dict[str, list[Verdict]]:
    """Return every model's verdicts."""
    found: dict[str, list[Verdict]] = defaultdict(list)
    for folder in folders:
        for verdict in _verdicts(folder, unit):
            found[verdict.model].append(verdict)
    return found


def _verdicts(folder: Path, unit: str) -> Iterator[Verdict]:
    """Give verdicts; where prompts are the independent units, each is a cluster of its own."""
    for verdict in iter_jsonl(folder / VERDICTS, Verdict):
        yield verdict if unit == "cluster" else replace(verdict, cluster=verdict.prompt_id)


def hashes(paths: Sequence[Path]) -> dict[str, str]:
    """Return the SHA-256 of every file by its path; of folders all files, without stores of paid replies.

    Raises:
        DataError: A path does not exist.
    """
    found: dict[str, str] = {}
    for path in paths:
        if not path.exists():
            raise DataError("no such file or folder", where=path, do="give a file or a folder that exists")
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and not file.name.endswith(STORES):
                found[str(file.resolve())] = file_hash(file)
    return found
