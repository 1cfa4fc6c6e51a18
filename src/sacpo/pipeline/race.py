"""The race: models that clearly violate a constraint are dropped after few tuning prompts.

What the models that are left answered and were judged by in their races is used again by the evaluation. Models that a
search (`auto`) has measured already do not race.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sacpo.pipeline.stages.race import Race
from sacpo.recipe.race import judges_of, never_dropped, race_on, raced

if TYPE_CHECKING:
    from sacpo.pipeline.order import Order


def race_models(run: Order) -> None:
    """Let the models race, one prompt set after the other, where the recipe wants it.

    Args:
        run: The run; all models are named, and searched ones measured.
    """
    if run.recipe.evaluate.race is None:
        return
    kept = never_dropped(run.recipe)
    names = [name for name in run.evaluated if name not in kept and name not in run.answers]
    for prompts in raced(run.recipe):
        run.answer(run.recipe.evaluate.baseline, prompts)
        races = {name: run.do(_race(run, name, prompts)) for name in names if name not in run.dropped}
        with run.do.following("models that the race does not drop are measured, then everything behind it"):
            run.dropped += [name for name, race in races.items() if run.do.read(race)["dropped"]]
        for name, race in races.items():
            run.races.setdefault(name, {})[prompts] = race


def _race(run: Order, name: str, prompts: str) -> Race:
    constraints = raced(run.recipe)[prompts]
    return Race(
        **run.answer_options(name, prompts),
        baseline=run.answers[run.recipe.evaluate.baseline][prompts],
        judges=tuple(run.judge(criterion) for criterion in judges_of(run.recipe, constraints, prompts)),
        constraints=constraints,
        race=race_on(run.recipe, prompts),
        order=run.seed("race", prompts),
    )
