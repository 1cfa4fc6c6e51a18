"""Merges whose weight the run finds (`q: auto`): what they must meet, and the recipe once it is known."""

from __future__ import annotations

from collections.abc import Sequence

from sacpo.errors import RecipeError
from sacpo.recipe.auto import with_candidates
from sacpo.recipe.models import MergedModel, model_graph
from sacpo.recipe.schema import SFT, Recipe


def auto_merges(recipe: Recipe) -> list[int]:
    """Return the positions of the merges whose q the run finds."""
    return [index for index, spec in enumerate(recipe.merge) if spec.q == "auto"]


def ends_of(recipe: Recipe, index: int) -> tuple[str, str]:
    """Return the names of the two models that a merge is between, of a sweep's member by its whole name."""
    nodes = model_graph(with_qs(recipe, index, (0.5,))).values()
    name = recipe.merge[index].name
    first, later = next(node.models for node in nodes if isinstance(node, MergedModel) and node.line == name)
    return first, later


def merged_name(recipe: Recipe, index: int, q: float) -> str:
    """Return the name of a merged model at one q."""
    return f"{recipe.merge[index].name}@q{q:g}"


def with_qs(recipe: Recipe, index: int, qs: Sequence[float]) -> Recipe:
    """Return the recipe with numbers in the place of a merge's `auto`; without any q it stays as it is."""
    if not qs:
        return recipe
    spec = recipe.merge[index].model_copy(update={"q": tuple(sorted(qs)), "search": None})
    return recipe.model_copy(update={"merge": (*recipe.merge[:index], spec, *recipe.merge[index + 1 :])})


def settled(recipe: Recipe, index: int, qs: Sequence[float]) -> Recipe:
    """Return the recipe with the q that were tried, and evaluation of all that the search has measured."""
    found = with_qs(recipe, index, qs)
    named = tuple(merged_name(recipe, index, q) for q in sorted(qs))
    found = found.model_copy(update={"certify": with_candidates(recipe.certify, recipe.merge[index].name, named)})
    models = recipe.evaluate.models
    if models is None:
        return found
    measured = [*ends_of(recipe, index), *named]
    evaluate = recipe.evaluate.model_copy(update={"models": (*dict.fromkeys((*models, *measured)),)})
    return found.model_copy(update={"evaluate": evaluate})


def check_auto_merges(recipe: Recipe) -> None:
    """Check that every `q: auto` has something to meet, the baseline when it is looked for, and fidelity its prompts.

    Raises:
        RecipeError: It has not; the baseline is a merged model; or no prompts are sampled.
    """
    for index, spec in enumerate(recipe.merge):
        if spec.fidelity and not recipe.evaluate.kl_prompts:
            raise RecipeError(
                "fidelity needs samples of the merged models, and 'kl_prompts' asks for none",
                where=f"merge.{index}.fidelity",
                value=True,
                do="set evaluate.kl_prompts to how many prompts are sampled, or leave 'fidelity' out",
            )
    for index in auto_merges(recipe):
        where = f"merge.{index}.q"
        if not recipe.constraints:
            raise RecipeError(
                "nothing says what q must reach",
                where=where,
                value="auto",
                do="add constraints on tuning prompts, or give q as a number",
            )
        node = model_graph(recipe)[recipe.evaluate.baseline]
        if isinstance(node, MergedModel):
            raise RecipeError(
                "the search compares answers with the baseline, and a merged model is made after it",
                where="evaluate.baseline",
                value=recipe.evaluate.baseline,
                do=f"name '{SFT}' or the model of a step, or give {where} as a number",
            )
