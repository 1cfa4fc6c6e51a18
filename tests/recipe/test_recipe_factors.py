"""Factors of a step's weights: what they are chosen by, what is refused, and the recipe once they are chosen."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from pipeline.pipeline_toys import RECIPE

from sacpo.errors import RecipeError
from sacpo.recipe import Recipe, parse_recipe
from sacpo.recipe.factors import choice_of, multiplied
from sacpo.recipe.models import StepModel, model_graph

ASKED = "evaluate.judges.brevity={kind: llm, panel: [{model: m, base_url: http://localhost:1}], rubric: helpfulness}"
ELSEWHERE = "evaluate.judges.harmlessness={kind: oracle, prompts: [report]}"
REFUSALS = "constraints=[{metric: over_refusal_rate, prompts: tuning, at_most: 0.5}]"
WEIGHTS = {"helpfulness": 1.0, "harmlessness": 2.0}


def recipe(*overrides: str, **resample: Any) -> Recipe:
    """Return the toy recipe with one more step, a closed form whose factors the run chooses."""
    data = copy.deepcopy(RECIPE)
    own = {"judge": WEIGHTS, "samples": 4, "factors": {"helpfulness": [1, 1.5], "harmlessness": [1, 2, 3]}}
    step = {"name": "R", "criterion": "joint", "algorithm": "rwr", "from": "sft", "beta": 0.5, "dataset": "asked"}
    data["steps"].append({**step, "resample": {**own, **resample}})
    return parse_recipe(data, list(overrides))


def test_every_choice_multiplies_its_weights() -> None:
    given = recipe()
    spec = given.steps[4].resample
    assert spec is not None
    assert len(spec.combinations) == 6
    assert spec.combinations[0] == {"helpfulness": 1, "harmlessness": 1}
    assert spec.combinations[4] == {"helpfulness": 1.5, "harmlessness": 2}
    settled = multiplied(given, 4, spec.combinations[4])
    known = settled.steps[4].resample
    assert known is not None
    assert (known.weights, known.factors) == ({"helpfulness": 1.5, "harmlessness": 4.0}, {})
    assert settled.steps[:4] == given.steps[:4]


def test_a_step_has_no_strengths_before_its_factors_are_chosen() -> None:
    """What it aims at, and so the optimum that it is compared with, is of the weights that were chosen."""
    given = recipe()
    before, after = (
        model_graph(one)["R"] for one in (given, multiplied(given, 4, {"helpfulness": 1.5, "harmlessness": 2}))
    )
    assert isinstance(before, StepModel) and isinstance(after, StepModel)
    assert (before.beta, before.strengths) == (None, ())
    assert after.beta == 0.5
    assert dict(after.strengths) == pytest.approx({"helpfulness": 0.5 / 1.5, "harmlessness": 0.125})


def test_factors_are_chosen_by_what_judged_samples_tell_of_tuning_prompts() -> None:
    given = recipe(
        "evaluate.judges.refusal={kind: oracle}",
        "constraints=[{metric: unsafe_rate, prompts: tuning, at_most: 0.1}, "
        "{metric: mean_score, criterion: harmlessness, prompts: tuning, at_least: 0.4}, "
        "{metric: win_rate, criterion: helpfulness, prompts: tuning, at_least: 0.5}]",
    )
    choice = choice_of(given, given.steps[4])
    assert (choice.objective, choice.prompts) == ("helpfulness", "tuning")
    assert [one.metric for one in choice.constraints] == ["unsafe_rate", "mean_score"]
    assert choice.untold == ("win_rate/helpfulness",)
    assert {*choice.criteria} == {"helpfulness", "harmlessness", "refusal"}


@pytest.mark.parametrize(
    ("overrides", "resample", "said"),
    [
        (("objective=null",), {}, "nothing says what chosen factors are to maximise"),
        (("constraints=[]",), {}, "under constraints on one set of tuning prompts"),
        (("constraints.0={metric: win_rate, criterion: helpfulness, prompts: tuning, at_least: 0.5}",), {}, "tell of"),
        ((ASKED, "objective={criterion: brevity, prompts: tuning}"), {}, "has no judge that gives them at no price"),
        (("steps.R.beta=[0.5, 0.25]",), {}, "one number as 'beta'"),
        (("steps.R.beta=auto",), {}, "one number as 'beta'"),
        (("steps.R.search={trainings: 2}",), {}, "chosen before anything is trained"),
        ((), {"judge": "helpfulness"}, "of one alone that is 'beta'"),
        ((), {"factors": {"brevity": [1, 2]}}, "'factors' has 'brevity', which has no weight"),
        ((), {"factors": {"helpfulness": [1, 1]}}, "the same number twice for 'helpfulness'"),
        ((), {"factors": {name: [1 + i for i in range(30)] for name in WEIGHTS}}, "900 combinations; at most 400"),
        ((), {"factors": {"helpfulness": [1, 1.00000001]}}, "the same number twice for 'helpfulness'"),
        ((), {"factors": {"helpfulness": [0]}}, "outside its range"),
        ((), {"factors": {"helpfulness": [1, 1e7]}}, "outside its range"),
        ((), {"factors": {"helpfulness": [1e-320]}}, "outside its range"),
        (("constraints.0.at_most=0",), {}, "no number of prompts shows that a rate is 0"),
        ((ELSEWHERE, REFUSALS, "evaluate.judges.refusal={kind: oracle}"), {}, "answers to 'tuning'"),
        ((), {"draw": "best", "keep": 2}, "'factors' has no effect here"),
    ],
)
def test_what_cannot_be_chosen_is_refused_before_anything_runs(
    overrides: tuple[str, ...], resample: dict[str, Any], said: str
) -> None:
    with pytest.raises(RecipeError, match=said):
        recipe(*overrides, **resample)


def test_language_models_are_not_asked_for_samples_even_by_the_steps_own_criterion() -> None:
    given = recipe(ASKED.replace("brevity", "joint").replace("rubric: helpfulness", "rubric: safety"))
    assert "joint" not in choice_of(given, given.steps[4]).criteria
