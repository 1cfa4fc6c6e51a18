"""Strengths that a run finds: what they belong to, what is refused, and the recipe once they are known."""

from __future__ import annotations

import pytest
from pipeline.pipeline_toys import recipe

from sacpo.errors import RecipeError
from sacpo.recipe.auto import constraints_of, scored_by, settled
from sacpo.recipe.auto_merges import settled as merges_settled
from sacpo.recipe.models import StepModel, model_graph

AUTO = ("steps.H-S.beta=auto", "merge.P.models=[H, H-S]", "merge.D.models=[H, H-S]", "merge.T.models=[H, H-S]")


def test_a_settled_recipe_is_a_sweep_whose_name_means_the_kept_strength() -> None:
    found = settled(recipe(*AUTO, "steps.S-H.from=H-S", "evaluate.models=[H-S, D]"), 2, (0.3, 0.12), 0.12)
    nodes = model_graph(found)
    assert [name for name in nodes if name.startswith("H-S")] == ["H-S@0.3", "H-S@0.12"]
    assert found.merge[0].models == ("H", "H-S@0.12")
    assert found.evaluate.models == ("H-S@0.12", "D")
    node = nodes["S-H"]
    assert isinstance(node, StepModel)
    assert node.parent == "H-S@0.12"
    assert node.strengths == (("helpfulness", 0.2), ("harmlessness", 0.12), ("helpfulness", 0.2))
    assert found.written()["steps"][2]["beta"] == [0.3, 0.12]


def test_the_step_after_an_unsettled_one_starts_from_the_kept_model() -> None:
    """`S-H` names no start, so it starts from the step before."""
    given = recipe(*AUTO, "steps.S-H.from=null", "steps.S-H.name=T2")
    assert model_graph(given)["T2"].parent == "H-S"  # type: ignore[union-attr]
    assert model_graph(settled(given, 2, (0.3, 0.1), 0.3))["T2"].parent == "H-S@0.3"  # type: ignore[union-attr]


def test_a_constraint_belongs_to_the_criterion_that_can_push_it() -> None:
    given = recipe(
        *AUTO,
        "evaluate.judges.refusal={kind: oracle}",
        "constraints=[{metric: unsafe_rate, prompts: tuning, at_most: 0.1}, "
        "{metric: over_refusal_rate, prompts: tuning, at_most: 0.2}, "
        "{metric: mean_score, criterion: harmlessness, prompts: tuning, at_least: 0.4}, "
        "{metric: win_rate, criterion: helpfulness, prompts: tuning, at_least: 0.5}]",
    )
    step = given.steps[2]
    assert [c.metric for c in constraints_of(given, step)] == ["unsafe_rate", "mean_score"]
    assert [c.metric for c in constraints_of(given, given.steps[0])] == ["win_rate"]
    third = step.model_copy(update={"criterion": "over_refusal"})
    assert [c.metric for c in constraints_of(given, third)] == ["over_refusal_rate"]
    assert scored_by(given, step, "tuning", "harmlessness", "helpfulness") == ["harmlessness", "helpfulness", "refusal"]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("constraints=[]",), "nothing says what the strength of criterion 'harmlessness' must reach"),
        (("constraints.0={metric: unsafe_rate, prompts: tuning, at_least: 0.1}",), "can only be bounded there"),
        (("constraints.0.at_most=0",), "no number of prompts shows that a rate is 0 or 1"),
        (("evaluate.baseline=H-S",), "which is made after it"),
        (("steps.H.beta=[0.2, 0.1]", "merge=[]"), "found for one model to start from"),
        (("steps.H-S.search={trainings: 0}",), "outside its range"),
        (("steps.H.search={trainings: 2}",), "'search' has no effect here"),
        (
            (
                "constraints=[{metric: unsafe_rate, prompts: tuning, at_most: 0.1}, "
                "{metric: mean_score, criterion: harmlessness, prompts: tuning, at_least: 0.9}, "
                "{metric: mean_score, criterion: harmlessness, prompts: tuning, at_most: 0.5}]",
            ),
            "contradict each other",
        ),
    ],
)
def test_what_cannot_be_searched_for_is_refused_before_anything_runs(overrides: tuple[str, ...], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        recipe(*AUTO, *overrides)


def test_a_candidate_for_a_certificate_may_be_found_by_the_run() -> None:
    """The step's name means the kept strength; a searched merge's name means all q that were tried."""
    certify = "certify={prompts: spare, candidates: [H-S, P, H]}"
    given = recipe(*AUTO, certify, "merge=[{name: P, models: [H, H-S], q: auto}]")
    found = settled(given, 2, (0.3, 0.12), 0.12)
    assert found.certify is not None
    assert found.certify.candidates == ("H-S@0.12", "P", "H")
    merged = merges_settled(found, 0, (0.5, 0.25))
    assert merged.certify is not None
    assert merged.certify.candidates == ("H-S@0.12", "P@q0.25", "P@q0.5", "H")
