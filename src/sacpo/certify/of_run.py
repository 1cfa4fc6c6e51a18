"""What a finished run offers to a certificate: its recipe's prompt sets of role `certification`, and its bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sacpo.errors import RecipeError, RunError
from sacpo.recipe import load_recipe
from sacpo.recipe.models import model_graph
from sacpo.recipe.schema import SFT, Recipe

RECIPE, JUDGED = "recipe.yaml", Path("stages") / "judge"


def request_of_run(run: str | Path) -> dict[str, Any]:
    """Return the arguments of `certify` for a run: `tuning`, `certification`, `constraints` and `objective`.

    Candidates are all models that the recipe evaluates. Tuning folders are those of the prompt sets that its
    constraints and its objective name.

    Args:
        run: The folder of a run.

    Raises:
        RunError: It is no run's folder.
        RecipeError: The recipe has no constraints, or no prompt set of role `certification`.
    """
    folder = Path(run)
    if not (folder / RECIPE).is_file():
        raise RunError("no run in this folder", where=folder, do="give runs/NAME, or --tuning and --certification")
    recipe = load_recipe(folder / RECIPE)
    sealed = [name for name, spec in recipe.prompts.items() if spec.role == "certification"]
    if not sealed or not recipe.constraints or recipe.objective is None:
        raise RecipeError(
            "the run's recipe has nothing to certify: it needs constraints, an objective and unseen prompts",
            where=folder / RECIPE,
            value=f"{len(recipe.constraints)} constraints, {len(sealed)} prompt sets of role certification",
            do="add a prompt set with role: certification, and run it again",
        )
    seen = dict.fromkeys([*(bound.prompts for bound in recipe.constraints), recipe.objective.prompts])
    models = _evaluated(recipe)
    return {
        "tuning": [folder / JUDGED / model / prompts for model in models for prompts in seen],
        "certification": [folder / JUDGED / model / prompts for model in models for prompts in sealed],
        "constraints": [bound.model_dump(exclude={"prompts"}, exclude_none=True) for bound in recipe.constraints],
        "objective": recipe.objective.model_dump(exclude={"prompts"}),
    }


def _evaluated(recipe: Recipe) -> list[str]:
    evaluate = recipe.evaluate
    return [*dict.fromkeys([SFT, evaluate.baseline, *(evaluate.models or model_graph(recipe))])]
