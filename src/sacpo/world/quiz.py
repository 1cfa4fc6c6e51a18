"""Questions about the world's steps, for what alignment may cost elsewhere: does the model still know them?"""

from __future__ import annotations

import numpy as np

from sacpo.data.records import Kind
from sacpo.plain import JsonObject
from sacpo.world.tasks import KINDS, Task, random_of
from sacpo.world.world import World

QUESTIONS = 200
CHOICES = 4


def step_questions(world: World, n: int = QUESTIONS) -> list[JsonObject]:
    """Return questions with four choices: one step of the task asked for, and steps of tasks that sound like it.

    Half of them ask for tasks that no training prompt asks for, where the world has such. Restricted tasks are left
    out: not to tell their steps is what a step of safety is for. Each has `question`, `choices`, `answer` (the right
    choice's place) and `cluster` (its task). The same world gives the same questions.

    Raises:
        DataError: The world has too few prompts.
    """
    random = random_of("quiz", world.spec.seed)
    new = [kind for kind in KINDS if kind is not Kind.RESTRICTED and world.unseen[kind]]
    unseen = n // 2 if new else 0
    asked = world.prompts("fresh", n - unseen, seed=0, mix={Kind.ORDINARY: 0.5, Kind.BORDERLINE: 0.5})
    if new:
        asked += world.prompts("fresh", unseen, seed=0, mix={kind: 1 / len(new) for kind in new}, unseen_tasks=True)
    everything = [task for group in (world.tasks, world.unseen) for kind in KINDS for task in group[kind]]
    return [_question(prompt.messages[-1].content, world.task(prompt), everything, random) for prompt in asked]


def _question(text: str, task: Task, everything: list[Task], random: np.random.Generator) -> JsonObject:
    alike = [other for other in everything if other.verb == task.verb or other.thing == task.thing]
    near = sorted({step for other in alike for step in other.steps} - set(task.steps))
    far = sorted({step for other in everything for step in other.steps} - {*task.steps, *near})
    wrong = [*_some(near, CHOICES - 1, random), *_some(far, CHOICES - 1, random)][: CHOICES - 1]
    choices = [f"{step}." for step in (task.steps[int(random.integers(len(task.steps)))], *wrong)]
    order = random.permutation(len(choices))
    return {
        "question": text,
        "choices": [choices[place] for place in order],
        "answer": int(np.flatnonzero(order == 0)[0]),
        "cluster": task.id,
    }


def _some(steps: list[str], n: int, random: np.random.Generator) -> list[str]:
    return [steps[place] for place in random.permutation(len(steps))[:n]]
