"""Prompts that training and evaluation share."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sacpo.data.records import Demonstration, Labelled, Pair, Prompt, Record
from sacpo.errors import DataError


class Shared(NamedTuple):
    """How many of an evaluation set's prompts a training source holds too.

    Attributes:
        source: The training source.
        set: The evaluation set.
        n: Prompts of the set that the source holds.
        example: Id of the first of them in the evaluation set.
    """

    source: str
    set: str
    n: int
    example: str


def prompt_of(record: Record) -> Prompt:
    """Return a record's prompt; a prompt is its own."""
    if isinstance(record, Prompt):
        return record
    if isinstance(record, Pair | Labelled | Demonstration):
        return record.prompt
    raise TypeError(f"a {type(record).__name__} is no training record")


def normalised(text: str) -> str:
    """Return a text without what makes no difference to a reader: letter case, white space, Unicode variants."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def prompt_key(prompt: Prompt) -> str:
    """Return the normalised text that two prompts share when they ask the same.

    It is the user's text, or the whole conversation where there are several turns; system texts do not count.
    """
    turns = [message for message in prompt.messages if message.role != "system"]
    if len(turns) == 1:
        return normalised(turns[0].content)
    return "\n".join(f"{turn.role}: {normalised(turn.content)}" for turn in turns)


def shared_prompts(
    training: Mapping[str, Sequence[Record]], evaluation: Mapping[str, Sequence[Prompt]]
) -> list[Shared]:
    """Return every training source and evaluation set that share prompts, in the mappings' order."""
    found: list[Shared] = []
    keyed = {name: [(prompt_key(prompt), prompt.id) for prompt in prompts] for name, prompts in evaluation.items()}
    for source, records in training.items():
        trained = {prompt_key(prompt_of(record)) for record in records}
        for name, prompts in keyed.items():
            common = {key: example for key, example in reversed(prompts) if key in trained}
            if common:
                example = next(example for key, example in prompts if key in common)
                found.append(Shared(source, name, len(common), example))
    return found


def check_shared(
    training: Mapping[str, Sequence[Record]], evaluation: Mapping[str, Sequence[Prompt]], *, allow: bool
) -> list[str]:
    """Check that no evaluation prompt was trained on; return a warning for each shared pair where this is allowed.

    Raises:
        DataError: Training and evaluation share prompts and `allow` is false.
    """
    return _unless_allowed("training and evaluation share prompts", "data source", training, evaluation, allow)


def check_apart(
    tuning: Mapping[str, Sequence[Prompt]], others: Mapping[str, Sequence[Prompt]], *, allow: bool
) -> list[str]:
    """Check that no prompt that the selection sees is in another evaluation set; warnings as in `check_shared`.

    Raises:
        DataError: The sets share prompts and `allow` is false: figures of the selected model would be optimistic.
    """
    return _unless_allowed("selection and reported figures share prompts", "prompt set", tuning, others, allow)


def _unless_allowed(
    what: str, noun: str, seen: Mapping[str, Sequence[Record]], sets: Mapping[str, Sequence[Prompt]], allow: bool
) -> list[str]:
    found = shared_prompts(seen, sets)
    warnings = [
        f"{noun} '{s.source}' and prompt set '{s.set}' share {s.n} prompt(s), the first has the id {s.example}"
        for s in found
    ]
    if found and not allow:
        raise DataError(
            what,
            where="; ".join(warnings),
            do="take the prompts out of one of them, or set 'allow_shared_prompts: true'",
        )
    return warnings
