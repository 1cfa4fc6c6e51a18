"""From what a source holds to training records: no duplicates, labels as the recipe wants them, prompts held out."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from sacpo.data.records import Demonstration, Labelled, Pair, Prompt, Record, text_hash
from sacpo.data.splits import prompt_key, prompt_of
from sacpo.errors import DataError
from sacpo.recipe.schema import DataSpec

R = TypeVar("R", bound=Record)

DUPLICATE = "exact duplicate"
EQUAL = "chosen and rejected are equal"
TIE = "tie"


@dataclass(frozen=True)
class Prepared(Generic[R]):
    """A data source's records, ready for training.

    Attributes:
        train: Records to train on, in the source's order.
        heldout: Records of the prompts held out; no prompt or cluster is on both sides.
        dropped: How many records were left out, by reason.
    """

    train: list[R]
    heldout: list[R]
    dropped: dict[str, int] = field(default_factory=dict)


def prepare(records: Sequence[R], spec: DataSpec, *, name: str, seed: int) -> Prepared[R]:
    """Harden labels, drop what cannot teach anything, and hold prompts out, as the recipe's data source says.

    Hardened labels put the more probable answer first with p = 1; ties stay at one half.

    Raises:
        DataError: Nothing is left to train on.
    """
    dropped: Counter[str] = Counter()
    kept: list[R] = []
    seen: set[Hashable] = set()
    for original in records:
        record = _hardened(original) if spec.soft_labels == "harden" else original
        reason = _useless(record, spec.ties) or (DUPLICATE if _identity(record) in seen else "")
        if reason:
            dropped[reason] += 1
            continue
        seen.add(_identity(record))
        kept.append(record)
    if not kept:
        raise _nothing_left(name, len(records), dropped)
    held = heldout_prompts([prompt_of(record) for record in kept], spec.holdout, seed)
    train = [record for record in kept if split_key(prompt_of(record)) not in held]
    if not train and spec.holdout < 1:
        raise DataError(
            "every prompt is held out; nothing is left to train on",
            where=f"data source '{name}', field 'holdout'",
            value=spec.holdout,
            do="lower 'holdout', or give more prompts",
        )
    heldout = [record for record in kept if split_key(prompt_of(record)) in held]
    return Prepared(train, heldout, dict(sorted(dropped.items())))


def heldout_prompts(prompts: Sequence[Prompt], share: float, seed: int) -> set[str]:
    """Return the split keys of the prompts to hold out.

    A prompt's side depends on its key, the share and the seed alone: it is on the same side in every source of a
    recipe, and other prompts added to a source move none. So the share is met on average, not exactly. At least one
    key is held out where the share is not 0 and there are two.
    """
    keys = {split_key(prompt) for prompt in prompts}
    if share == 0 or len(keys) < 2:
        return set(keys) if share == 1 else set()
    draws = {key: int(text_hash("holdout", str(seed), key), 16) / 16**16 for key in keys}
    return {key for key, draw in draws.items() if draw < share} or {min(keys, key=lambda key: (draws[key], key))}


def split_key(prompt: Prompt) -> str:
    """Return what a prompt is split by: its cluster, or its normalised text where it has none of its own."""
    return prompt.cluster if prompt.cluster != prompt.id else prompt_key(prompt)


def _hardened(record: R) -> R:
    if not isinstance(record, Pair) or record.p in (0.5, 1.0):
        return record
    if record.p > 0.5:
        return dataclasses.replace(record, p=1.0)
    return dataclasses.replace(record, p=1.0, chosen=record.rejected, rejected=record.chosen, offset=-record.offset)


def _useless(record: Record, ties: str) -> str:
    """Return why a pair teaches nothing, or ""."""
    if not isinstance(record, Pair):
        return ""
    if record.chosen == record.rejected:
        return EQUAL
    return TIE if record.p == 0.5 and ties == "drop" else ""


def _identity(record: Record) -> Hashable:
    """Return what two records share only when one is a copy of the other."""
    if isinstance(record, Pair):
        return record.id, record.p, record.criterion
    if isinstance(record, Labelled):
        return record.id, record.criterion
    return record.id if isinstance(record, Demonstration | Prompt) else record


def _nothing_left(name: str, n: int, dropped: Counter[str]) -> DataError:
    what = "every pair has equal answers" if dropped[EQUAL] == n else "no record is left to train on"
    return DataError(
        what,
        where=f"data source '{name}'",
        value=f"{n} records; dropped: {dict(sorted(dropped.items()))}",
        do="check the source's format and columns" if dropped[EQUAL] else "check 'ties', or give more records",
    )
