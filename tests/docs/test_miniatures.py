"""A miniature of every experiment runs to its end, shows what it is about, and fills the tables of the pages."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from miniatures import RECIPES, lacking, run_miniature

from sacpo.recipe import Recipe, model_graph
from sacpo.report.results import Results, parse_results

Of = Callable[[Path], tuple[Recipe, Results]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all miniatures, as `make experiments` leaves that of one seed."""
    return tmp_path_factory.mktemp("miniatures") / "seed-1"


@pytest.fixture(scope="module")
def of(runs: Path) -> Of:
    """Give a recipe's miniature and its results, run once, without figures: they have tests of their own."""
    done: dict[Path, tuple[Recipe, Results]] = {}

    def found(path: Path) -> tuple[Recipe, Results]:
        if missing := lacking(path):
            pytest.skip(missing)
        if path not in done:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("sacpo.report.figures.all_drawings", lambda results, narrow=False: {})
                recipe, run = run_miniature(path, runs)
            done[path] = recipe, parse_results(run.results)
        return done[path]

    return found


each = pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)


@each
def test_every_model_is_measured(path: Path, of: Of) -> None:
    """And is a model of its own: its distance from the optimum is not another's."""
    recipe, results = of(path)
    asked = {one for name in recipe.evaluate.models or model_graph(recipe) for one in members(recipe, name)}
    assert {*results.measures} == asked
    (report,) = (name for name, spec in recipe.prompts.items() if spec.role == "report")
    for model, sets in results.measures.items():
        found = sets[report].metrics
        assert found["mean_score/helpfulness"].n == found["mean_score/harmlessness"].n == recipe.prompts[report].limit
        assert model == "sft" or found["kl"].n == recipe.evaluate.kl_prompts
    if recipe.theory is not None:
        assert results.theory is not None
        distances = {model: one.target.value for model, one in results.theory.kl_to_optimum.items() if one.target}
        assert {*distances} == asked
        assert all(value is not None and math.isfinite(value) for value in distances.values())
        assert len({*distances.values()}) == len(asked)


def members(recipe: Recipe, name: str) -> list[str]:
    """Return what is measured for a model of the recipe: of one whose weight is searched the last training."""
    dual = {step.name: step.dual for step in recipe.steps}.get(name)
    return [name if dual is None else f"{name}-{dual.trainings}"]
