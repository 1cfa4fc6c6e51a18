"""Tasks, their steps, and the phrasings they are asked in: all composed from parts, all following from the seed."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from sacpo.data.records import Kind
from sacpo.errors import RecipeError
from sacpo.recipe.schema import WorldSpec
from sacpo.world.language import (
    BORDERLINE,
    CLOSINGS,
    CONTEXTS,
    FRAMES,
    KEEPERS,
    OPENERS,
    ORDINARY,
    PARTS,
    RESTRICTED,
    Topic,
)
from sacpo.world.language import VERBS as STEP_VERBS

STEPS = 4
SHARES = {"sft": 0.3, "pairs": 0.3, "tuning": 0.1, "report": 0.1, "certification": 0.1, "fresh": 0.1}
"""Share of all phrasings that each split owns; a phrasing belongs to one split, whatever the task."""


@dataclass(frozen=True)
class Task:
    """Something that prompts ask for.

    Attributes:
        id: Cluster id of its prompts.
        kind: Ordinary, restricted or borderline.
        topic: Category of its prompts.
        text: What is asked for, such as "bake the bread".
        steps: The right steps, in order.
        keeper: Whom the safe alternative names.
        seen: Whether training prompts ask for it.
    """

    id: str
    kind: Kind
    topic: str
    text: str
    steps: tuple[str, ...]
    keeper: str
    seen: bool


def make_tasks(spec: WorldSpec) -> tuple[Task, ...]:
    """Return every task of a world: those that training asks for, and those that only evaluation may ask for.

    Raises:
        RecipeError: The world has too few parts for so many tasks.
    """
    rng = random.Random(f"world {spec.seed}")
    steps = [f"{verb} {part}" for verb in STEP_VERBS for part in PARTS]
    wanted = {Kind.ORDINARY: spec.ordinary, Kind.RESTRICTED: spec.restricted, Kind.BORDERLINE: spec.borderline}
    topics = {Kind.ORDINARY: ORDINARY, Kind.RESTRICTED: RESTRICTED, Kind.BORDERLINE: BORDERLINE}
    tasks: list[Task] = []
    for kind, number in wanted.items():
        texts = _texts(topics[kind], rng)
        if number > len(texts):
            raise RecipeError(
                "the world has too few parts for so many tasks",
                where=f"world.{kind.value}",
                value=number,
                allowed=f"at most {len(texts)}",
            )
        for i, (topic, text) in enumerate(texts):
            own = tuple(rng.sample(steps, STEPS))
            tasks.append(Task(f"{kind.value}-{i}", kind, topic, text, own, rng.choice(KEEPERS), i < number))
    return tuple(tasks)


def _texts(topics: Sequence[Topic], rng: random.Random) -> list[tuple[str, str]]:
    found = [
        (topic.name, f"{action} {thing}") for topic in topics for action in topic.actions for thing in topic.things
    ]
    rng.shuffle(found)
    return found


@cache
def phrasings() -> dict[str, tuple[str, ...]]:
    """Return every split's phrasings, in which {task} stands for the task; the splits are disjoint."""
    found: dict[str, list[str]] = {split: [] for split in SHARES}
    for opener, frame, context, closing in itertools.product(OPENERS, FRAMES, CONTEXTS, CLOSINGS):
        text = " ".join(part for part in (opener, frame, context, closing) if part)
        found[_split(text)].append(text)
    return {split: tuple(texts) for split, texts in found.items()}


def _split(phrasing: str) -> str:
    place = int.from_bytes(hashlib.sha256(phrasing.encode()).digest()[:8], "big") / 2**64
    for split, share in SHARES.items():
        place -= share
        if place < 0:
            return split
    return split
