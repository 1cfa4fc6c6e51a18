"""Where verdicts come from: JSON-lines files, a run's judge folders, stores; grouped by the prompts judged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sacpo.data.answers import ANSWERS, BASELINE, answers_of_models
from sacpo.data.records import Verdict
from sacpo.errors import DataError
from sacpo.judging.read import read_verdicts
from sacpo.judging.verdicts import VERDICTS

BESIDE = (ANSWERS, BASELINE)
"""Answers that 'judge' keeps beside its verdicts."""


@dataclass(frozen=True, slots=True)
class VerdictSet:
    """The verdicts on one prompt set; rates of different sets are never pooled.

    Attributes:
        prompts: The set's name in its run; "" for files that do not say.
        verdicts: As read, duplicates included.
        lengths: Characters of each answer by its hash, as far as answers were found; empty when none were.
    """

    prompts: str
    verdicts: tuple[Verdict, ...]
    lengths: dict[str, int]


def read_sets(paths: Sequence[Path], prompts: str | None = None, answers: Sequence[Path] = ()) -> list[VerdictSet]:
    """Read the verdicts of files, folders and stores.

    A run folder's prompt sets stay apart. Verdicts of a file that names no set, such as a store of human labels, join
    the set that has their prompt.

    Args:
        paths: Verdict files, SQLite stores, run folders or folders with verdict files below them.
        prompts: Only this prompt set.
        answers: Answer files, for the length bias; a run's own are found without them.

    Raises:
        DataError: A path is missing or holds no verdicts; a record cannot be read; no such prompt set.
    """
    files = [(file, _prompts_of(file)) for path in paths for file in verdict_files(path)]
    named: dict[str, list[Verdict]] = defaultdict(list)
    for file, name in files:
        named[name].extend(_verdicts(file))
    if not any(named.values()):
        raise DataError(
            "there are no verdicts and no labels yet",
            where=", ".join(str(file) for file, _ in files),
            allowed="at least one record",
            do="judge answers (sacpo judge ANSWERS ... --out JUDGED), or label some: sacpo label ANSWERS --criterion "
            "safety --store labels.db --annotator NAME",
        )
    sets = _joined(named)
    if prompts is not None and prompts not in sets:
        raise DataError("no such prompt set", value=prompts, allowed=sorted(sets))
    chosen = [prompts] if prompts is not None else sorted(sets)
    own = [file for file, name in files if name]
    beside = [file.with_name(name) for file, _ in files for name in BESIDE if file.with_name(name).is_file()]
    return [
        VerdictSet(name, tuple(sets[name]), _lengths([*answers, *beside, *_answers_of(own, name)])) for name in chosen
    ]


def verdict_files(path: Path) -> list[Path]:
    """Return the verdict files and stores that a path stands for, sorted.

    Raises:
        DataError: There is none.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError("no such file or folder", where=path, do="name a verdict file, a store or a run folder")
    judged = path / "stages" / "judge"
    found = sorted((judged if judged.is_dir() else path).rglob(VERDICTS))
    found = [file for file in found if "partial" not in file.relative_to(path).parts]
    if not found and (path / ANSWERS).is_file():
        raise _not_judged(path)
    if not found:
        raise DataError(
            "this folder holds no verdicts", where=path, allowed=f"{VERDICTS} below it", do="judge some answers first"
        )
    return found


def _verdicts(file: Path) -> list[Verdict]:
    try:
        return read_verdicts(file)
    except DataError as error:
        if _holds_answers(file):
            raise _not_judged(file) from error
        raise


def _holds_answers(file: Path) -> bool:
    try:
        return bool(answers_of_models(file))
    except DataError:
        return False


def _not_judged(place: Path) -> DataError:
    return DataError(
        "these are answers, not verdicts",
        where=place,
        allowed="what 'judge' wrote, or a store of labels",
        do=f"judge them first, as by sacpo judge {place} --criterion refusal --out JUDGED (docs/judges.md has other "
        "judges), then sacpo stats JUDGED",
    )


def _prompts_of(file: Path) -> str:
    """Return the prompt set of a file at judge/MODEL/SET/verdicts.jsonl."""
    parts = file.resolve().parts
    return parts[-2] if len(parts) >= 4 and parts[-4] == "judge" else ""


def _joined(named: dict[str, list[Verdict]]) -> dict[str, list[Verdict]]:
    """Move verdicts that name no set to the set that has their prompt."""
    homes = {verdict.prompt_id: name for name, members in sorted(named.items()) if name for verdict in members}
    sets = {name: list(members) for name, members in named.items() if name}
    for verdict in named.get("", []):
        sets.setdefault(homes.get(verdict.prompt_id, ""), []).append(verdict)
    return sets or {"": []}


def _answers_of(files: Iterable[Path], prompts: str) -> list[Path]:
    """Return the answer files of the runs that these verdict files belong to."""
    stages = {file.resolve().parents[3] for file in files}
    return sorted(path for stage in stages for path in stage.glob(f"generate/*/{prompts}/{ANSWERS}")) if prompts else []


def _lengths(files: Iterable[Path]) -> dict[str, int]:
    lengths: dict[str, int] = {}
    for path in files:
        lengths.update((answer.hash, len(answer.text)) for answer in answers_of_models(path))
    return lengths
