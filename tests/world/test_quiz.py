"""Questions about steps: one right choice among steps that sound alike, the same for the same world."""

from __future__ import annotations

from world_toys import world

from sacpo.data.records import Kind
from sacpo.recipe.schema import WorldSpec
from sacpo.world import World
from sacpo.world.quiz import step_questions


def test_one_choice_is_a_step_of_the_task_and_the_others_are_not() -> None:
    own = world()
    tasks = {task.id: task for group in (own.tasks, own.unseen) for kind in Kind for task in group.get(kind, ())}
    questions = step_questions(own)
    assert questions == step_questions(World(WorldSpec(seed=0)))
    for one in questions:
        task = tasks[one["cluster"]]
        right = [choice.removesuffix(".") in task.steps for choice in one["choices"]]
        assert right.index(True) == one["answer"]
        assert sum(right) == 1
        assert len(set(one["choices"])) == 4
        assert task.words in one["question"]


def test_half_of_the_tasks_are_unseen_none_is_restricted_and_places_vary() -> None:
    own, questions = world(), step_questions(world())
    unseen = {task.id for kind in Kind for task in own.unseen.get(kind, ())}
    restricted = {task.id for group in (own.tasks, own.unseen) for task in group[Kind.RESTRICTED]}
    assert sum(one["cluster"] in unseen for one in questions) == len(questions) // 2
    assert not restricted & {one["cluster"] for one in questions}
    assert len({one["answer"] for one in questions}) == 4


def test_a_world_without_unseen_tasks_has_questions_too() -> None:
    own = World(WorldSpec(seed=0))
    own.unseen = dict.fromkeys(own.unseen, ())
    assert len(step_questions(own, 20)) == 20
