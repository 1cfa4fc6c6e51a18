"""Checkpoints that are whole or absent: written aside, hashed, flushed to the disk, then renamed into place."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from transformers import TrainerState
from transformers.trainer import TRAINER_STATE_NAME

from sacpo.errors import RunError
from sacpo.system.files import file_hash, sync

NAME = re.compile(r"checkpoint-(\d+)")
STAGING = "unfinished"
HASHES = "files.json"


def newest(folder: Path) -> Path | None:
    """Return the newest checkpoint of a folder, or None; one that was being written when its process died is none."""
    found = _sorted(folder)
    return found[-1] if found else None


def chosen(folder: Path, wanted: str | bool) -> Path:
    """Return the checkpoint to resume from: the one named, or a folder's newest.

    Raises:
        RunError: There is no such checkpoint, or this package has not written it.
    """
    found = newest(folder) if wanted is True else Path(str(wanted))
    if found is None or not (found / HASHES).is_file():
        raise RunError(
            "no checkpoint of this package to resume from",
            where=folder if found is None else found,
            do="give the folder of a checkpoint, or leave resume_from_checkpoint out",
        )
    return found


def check(checkpoint: Path) -> None:
    """Compare a checkpoint's files with the hashes noted when it was written.

    Raises:
        RunError: A file is missing or differs, or the hashes cannot be read; the message names the file.
    """
    for name, noted in _noted(checkpoint).items():
        path = checkpoint / name
        if not path.is_file() or file_hash(path) != noted:
            raise RunError(
                "a file of a checkpoint is missing or corrupted",
                where=path,
                do=f"delete {checkpoint}; the training then resumes from an older one or starts again",
            )


@contextlib.contextmanager
def fitting(checkpoint: str | None) -> Iterator[None]:
    """Load an optimiser's state within it, if any.

    Raises:
        RunError: The state has other groups of weights than the optimiser has.
    """
    try:
        yield
    except ValueError as error:
        if "parameter group" not in str(error):
            raise
        raise RunError(
            "the checkpoint's optimiser has other groups of weights",
            where=checkpoint,
            value=str(error),
            do="resume with the options that the training was begun with (optim, weight_decay, head_learning_rate), or "
            "begin it anew in another folder",
        ) from error


def _noted(checkpoint: Path) -> dict[str, str]:
    """Return the hashes of a checkpoint's files; a checkpoint that has none is not whole."""
    path = checkpoint / HASHES
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not found or not all(isinstance(value, str) for value in found.values()):
        raise RunError(
            "the hashes of a checkpoint's files cannot be read",
            where=path,
            do=f"delete {checkpoint}; the training then resumes from an older one or starts again",
        )
    return found


def forget_best(state: TrainerState, folder: Path, *, write: bool) -> None:
    """Take out of a checkpoint's state which checkpoint is the best: the best weights are in every one."""
    if state.best_model_checkpoint is None:
        return
    state.best_model_checkpoint = None
    if write:
        state.save_to_json(str(folder / TRAINER_STATE_NAME))


def clear_staging(folder: Path) -> None:
    """Remove what a killed process left half written."""
    shutil.rmtree(folder / STAGING, ignore_errors=True)


def publish(folder: Path, step: int, keep: int | None) -> None:
    """Move the checkpoint of a step from staging into place and remove those beyond the newest `keep`.

    Checkpoints of later steps belong to another training, from which no one must resume: they count as the oldest,
    and those that stay are renamed to `superseded-checkpoint-STEP`. One of the same step is replaced.
    """
    source, target = folder / STAGING / f"checkpoint-{step}", folder / f"checkpoint-{step}"
    files = sorted(path for path in source.rglob("*") if path.is_file())
    (source / HASHES).write_text(json.dumps({str(path.relative_to(source)): file_hash(path) for path in files}))
    for path in source.rglob("*"):
        sync(path)
    sync(source)
    replaced = folder / STAGING / f"old-{target.name}"
    if target.exists():
        target.rename(replaced)
    source.rename(target)
    sync(folder)
    shutil.rmtree(replaced, ignore_errors=True)
    found = _sorted(folder)
    place = found.index(target) + 1
    own, later = found[:place], found[place:]
    for old in [*later, *own][: -keep if keep else 0]:
        # renamed first, so that a kill during the removal leaves no half-removed checkpoint under its name
        doomed = folder / STAGING / f"old-{old.name}"
        old.rename(doomed)
        shutil.rmtree(doomed)
    for old in later:
        aside = folder / f"superseded-{old.name}"
        if old.exists():
            shutil.rmtree(aside, ignore_errors=True)
            old.rename(aside)
    if not any((folder / STAGING).iterdir()):
        (folder / STAGING).rmdir()


def _sorted(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    steps = {path: match for path in folder.iterdir() if (match := NAME.fullmatch(path.name))}
    return sorted(steps, key=lambda path: int(steps[path][1]))
