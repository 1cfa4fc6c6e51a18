"""Weights of constraints that a run finds (`dual`): what a step must say, and the recipe once they are known."""

from __future__ import annotations

from collections.abc import Sequence

from sacpo.errors import RecipeError
from sacpo.recipe.auto import renamed
from sacpo.recipe.schema import Recipe, SampledSpec, StepSpec

LEAST = 0.01
"""No weight is smaller: a label without the constraint is another label."""


def dual_step(weight: float, gain: float, wanted: float, rate: float) -> float:
    """Return the next weight of a constraint, `max(LEAST, weight - rate (gain - wanted))`.

    Source: the dual subgradient step of CAID, arXiv 2505.19387, eq. 6; there its least weight is 0.
    """
    return max(LEAST, weight - rate * (gain - wanted))


def member(step: StepSpec, place: int) -> str:
    """Return the name of the model of a dual step's training."""
    return f"{step.name}-{place + 1}"


def unrolled(recipe: Recipe, index: int, weights: Sequence[float]) -> Recipe:
    """Return the recipe with one step for each weight; the dual step's name means the last one elsewhere."""
    step = recipe.steps[index]
    assert isinstance(step.dataset, SampledSpec) and step.dual is not None
    steps = []
    for place, weight in enumerate(weights):
        dataset = step.dataset.model_copy(update={"judge": {**step.dataset.weights, step.dual.judge: weight}})
        steps.append(step.model_copy(update={"name": member(step, place), "dataset": dataset, "dual": None}))
    return renamed(recipe, index, steps, steps[-1].name)


def check_dual(recipe: Recipe) -> None:
    """Check that the names of a dual step's models are free.

    Raises:
        RecipeError: One is not.
    """
    taken = {*(step.name for step in recipe.steps), *(merge.name for merge in recipe.merge)}
    for index, step in enumerate(recipe.steps):
        names = [member(step, place) for place in range(step.dual.trainings)] if step.dual else []
        wrong = next((name for name in names if name in taken), None)
        if wrong is not None:
            raise RecipeError(
                "two models have the same name: one is of a dual step's trainings",
                where=f"steps.{index}.name",
                value=wrong,
                do="rename one of the steps",
            )
