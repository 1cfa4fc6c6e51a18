"""What the world's tests share: one world, a task of each kind, and a prompt that asks for it."""

from __future__ import annotations

from functools import cache

from sacpo.data.records import Kind, Prompt
from sacpo.recipe.schema import WorldSpec
from sacpo.world import World
from sacpo.world.tasks import KINDS, Task

DEFAULT = WorldSpec()
EVERY = {"ordinary": 0.4, "restricted": 0.3, "borderline": 0.3}


@cache
def world(seed: int = 0) -> World:
    return World(WorldSpec(seed=seed))


def task(kind: Kind) -> Task:
    return world().tasks[kind][0]


def prompt(kind: Kind) -> Prompt:
    """A prompt that asks for `task(kind)`."""
    own = task(kind)
    meta = {"task": own.id}
    return Prompt.from_text(f"how do i {own.words}?", cluster=own.id, category=own.topic, kind=own.kind, meta=meta)


def seen_tasks() -> list[Task]:
    return [task for kind in KINDS for task in world().tasks[kind]]


def unseen_tasks() -> list[Task]:
    return [task for kind in KINDS for task in world().unseen[kind]]


def foreign_step(kind: Kind) -> str:
    """A step of another task, which is none of this task's."""
    return next(step for other in seen_tasks() for step in other.steps if step not in task(kind).steps)
