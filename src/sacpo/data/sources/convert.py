"""Using records of one kind as another, where this makes sense."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sacpo.data.records import Demonstration, Labelled, Pair, Prompt, Record
from sacpo.data.sources.rows import Skip

KIND_NAMES: dict[type[Record], str] = {
    Pair: "pairs",
    Labelled: "unpaired",
    Demonstration: "demonstrations",
    Prompt: "prompts",
}
TIE = "tie: neither answer is preferred"
UNDESIRABLE = "undesirable answer"
DUPLICATE_PROMPT = "duplicate prompt"


def _pair_unpaired(pair: Pair) -> list[Record]:
    best, worst = _ranked(pair)
    return [
        Labelled(pair.prompt, best, True, pair.source, pair.criterion),
        Labelled(pair.prompt, worst, False, pair.source, pair.criterion),
    ]


def _pair_demonstration(pair: Pair) -> list[Record]:
    return [Demonstration(pair.prompt, _ranked(pair)[0], pair.source)]


def _ranked(pair: Pair) -> tuple[str, str]:
    """Return the more probable answer and the other one."""
    if pair.p == 0.5:
        raise Skip(TIE)
    return (pair.chosen, pair.rejected) if pair.p > 0.5 else (pair.rejected, pair.chosen)


def _labelled_demonstration(record: Labelled) -> list[Record]:
    if not record.label:
        raise Skip(UNDESIRABLE)
    return [Demonstration(record.prompt, record.completion, record.source)]


def _prompt(record: Pair | Labelled | Demonstration) -> list[Record]:
    return [record.prompt]


CONVERSIONS: dict[tuple[type[Record], str], Callable[..., list[Record]]] = {
    (Pair, "unpaired"): _pair_unpaired,
    (Pair, "demonstrations"): _pair_demonstration,
    (Pair, "prompts"): _prompt,
    (Labelled, "demonstrations"): _labelled_demonstration,
    (Labelled, "prompts"): _prompt,
    (Demonstration, "prompts"): _prompt,
}


def usable_as(kind: type[Record]) -> list[str]:
    """Return what records of a kind can be used as, their own kind first."""
    return [KIND_NAMES[kind], *(name for origin, name in CONVERSIONS if origin is kind)]


def convert(record: Record, as_: str) -> list[Record]:
    """Return a record as records of another kind; itself where it is of that kind.

    A pair becomes a desirable and an undesirable answer, or a demonstration of the more probable one.

    Raises:
        Skip: This record cannot be used so: a tie, or an undesirable answer as a demonstration.
    """
    if KIND_NAMES[type(record)] == as_:
        return [record]
    return CONVERSIONS[type(record), as_](record)


def unique_prompts(prompts: Iterable[Record], drop: Callable[[str], None]) -> list[Record]:
    """Return each prompt once, in order of first appearance; `drop` is told of the others."""
    seen: set[str] = set()
    unique: list[Record] = []
    for prompt in prompts:
        if isinstance(prompt, Prompt) and prompt.id in seen:
            drop(DUPLICATE_PROMPT)
            continue
        if isinstance(prompt, Prompt):
            seen.add(prompt.id)
        unique.append(prompt)
    return unique
