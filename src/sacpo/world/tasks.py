"""Tasks: an action on an object, with the four steps that do it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from sacpo.data.records import Kind, text_hash
from sacpo.errors import RecipeError
from sacpo.recipe.schema import WorldSpec
from sacpo.world.lexicon import ACTIONS, THINGS, Action, Thing

KINDS = (Kind.ORDINARY, Kind.RESTRICTED, Kind.BORDERLINE)


@dataclass(frozen=True, slots=True)
class Task:
    """Something to be done.

    Attributes:
        id: Its words joined by hyphens, such as "borrow-wizard-broom".
        words: As a prompt says it, such as "borrow the wizard broom".
        steps: The four steps that do it, in their order, without full stops.
        kind: What asking for it means.
        topic: Such as kitchen or castle.
        verb, thing: Its parts.
    """

    id: str
    words: str
    steps: tuple[str, ...]
    kind: Kind
    topic: str
    verb: str
    thing: str


def random_of(*parts: object) -> np.random.Generator:
    """Return a generator of random numbers that follows from these values alone."""
    return np.random.default_rng(int(text_hash(*map(str, parts)), 16))


@cache
def all_tasks(kind: Kind) -> tuple[Task, ...]:
    """Return every task of a kind that the lexicon can say."""
    return tuple(
        _task(kind, action, thing)
        for thing in THINGS[kind]
        for action in ACTIONS[kind]
        if not thing.verbs or action.verb in thing.verbs
    )


def choose_tasks(spec: WorldSpec) -> tuple[dict[Kind, tuple[Task, ...]], dict[Kind, tuple[Task, ...]]]:
    """Return the tasks that training asks for, and the unseen ones: other combinations of the same parts.

    Raises:
        RecipeError: The world has fewer tasks of a kind than asked for.
    """
    seen: dict[Kind, tuple[Task, ...]] = {}
    unseen: dict[Kind, tuple[Task, ...]] = {}
    for kind in KINDS:
        n, possible = getattr(spec, kind.value), all_tasks(kind)
        if n > len(possible):
            raise RecipeError(
                "the world has fewer tasks of this kind",
                where=f"world.{kind.value}",
                value=n,
                allowed=f"1 to {len(possible)}",
            )
        seen[kind], unseen[kind] = _split(kind, spec.seed, n)
    return seen, unseen


@cache  # a run makes the same world hundreds of times: each stage's key counts with it
def _split(kind: Kind, seed: int, n: int) -> tuple[tuple[Task, ...], tuple[Task, ...]]:
    """Return n tasks of a kind, and the other combinations of their parts."""
    possible = all_tasks(kind)
    order = random_of("tasks", seed, kind.value).permutation(len(possible))
    tasks = _covering([possible[i] for i in order])
    verbs, things, taken = ({getattr(task, part) for task in tasks[:n]} for part in ("verb", "thing", "id"))
    rest = (possible[i] for i in order if possible[i].id not in taken)
    return (*tasks[:n],), tuple(task for task in rest if task.verb in verbs and task.thing in things)


def _covering(tasks: Sequence[Task]) -> list[Task]:
    """Return the tasks, those first that bring an action or an object not there before."""
    parts: set[str] = set()
    first: list[Task] = []
    later: list[Task] = []
    for task in tasks:
        brings = not {task.verb, task.thing} <= parts
        (first if brings else later).append(task)
        parts |= {task.verb, task.thing}
    return first + later


def _task(kind: Kind, action: Action, thing: Thing) -> Task:
    steps = (thing.first_step, action.tool_step, action.own_step.format(thing.word), thing.last_step)
    return Task(
        id="-".join((action.verb, *thing.name.split())),
        words=f"{action.verb} the {thing.name}",
        steps=steps,
        kind=kind,
        topic=thing.topic,
        verb=action.verb,
        thing=thing.name,
    )
