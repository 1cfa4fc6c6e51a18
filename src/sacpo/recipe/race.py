"""Which constraints can drop a model in the race, which models race, and which judges it asks."""

from __future__ import annotations

from sacpo.errors import RecipeError
from sacpo.recipe.metrics import METRICS
from sacpo.recipe.schema import SFT, ConstraintSpec, RaceSpec, Recipe

RACED = ("unsafe_rate", "over_refusal_rate", "win_rate")
"""Metrics whose values lie in [0, 1] and follow from verdicts."""


def raced(recipe: Recipe) -> dict[str, tuple[ConstraintSpec, ...]]:
    """Return the constraints that can drop a model, by prompt set: rates with a bound inside (0, 1)."""
    found: dict[str, tuple[ConstraintSpec, ...]] = {}
    for constraint in recipe.constraints:
        bound = constraint.at_most if constraint.at_most is not None else constraint.at_least
        if constraint.metric in RACED and bound is not None and 0 < bound < 1:
            found[constraint.prompts] = (*found.get(constraint.prompts, ()), constraint)
    return found


def race_on(recipe: Recipe, prompts: str) -> RaceSpec:
    """Return how the race on a prompt set goes: its constraints have their share of 1 - confidence."""
    spec, constraints = recipe.evaluate.race, raced(recipe)
    assert spec is not None
    if len(constraints) == 1:
        return spec
    share = len(constraints[prompts]) / sum(map(len, constraints.values()))
    return spec.model_copy(update={"confidence": 1 - (1 - spec.confidence) * share})


def never_dropped(recipe: Recipe) -> set[str]:
    """Return the models that stay whatever they do: the SFT model, the baseline, and candidates that are named."""
    named = recipe.certify.candidates if recipe.certify is not None else ()
    return {SFT, recipe.evaluate.baseline, *(() if isinstance(named, str) else named)}


def judges_of(recipe: Recipe, constraints: tuple[ConstraintSpec, ...], prompts: str) -> list[str]:
    """Return the criteria whose judges constraints on a prompt set need."""
    judges = recipe.evaluate.judges
    needed = {METRICS[one.metric].needs for one in constraints if one.criterion is None}
    named = {one.criterion for one in constraints}
    asked = [name for name, spec in judges.items() if spec.prompts is None or prompts in spec.prompts]
    return [name for name in asked if name in named or needed & judges[name].gives(name)]


def check_race(recipe: Recipe) -> None:
    """Check that the race can drop a model.

    Raises:
        RecipeError: No constraint can.
    """
    if recipe.evaluate.race is None or raced(recipe):
        return
    raise RecipeError(
        "no constraint can drop a model in the race",
        where="evaluate.race",
        value=[one.metric for one in recipe.constraints],
        allowed=f"a constraint on {', '.join(RACED)} with a bound above 0 and below 1",
        do="add one, or leave 'race' out",
    )
