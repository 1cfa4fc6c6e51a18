"""Messages about a recipe name the step that they are about, and the figures."""

from __future__ import annotations

import pytest

from sacpo.errors import DataError, RecipeError
from sacpo.judging.llm.specs import check_judges
from sacpo.recipe.explain import with_name
from sacpo.recipe.load import DEMO, load_recipe

SHARES = "{prompts: ordinary, judge: helpfulness, sample_from: {sft: 0.5, policy: 0.3}}"
THINNED = "{judge: helpfulness, samples: 4, keep: 9, draw: thinned}"


@pytest.mark.parametrize(
    ("overrides", "where", "value"),
    [
        (("steps.S.beta=-1",), "steps.1.beta (S)", -1),
        (("steps.S.from=nobody",), "steps.1.from (S)", "nobody"),
        ((f"steps.S.dataset={SHARES}",), "steps.1.dataset.sample_from (S)", {"sft": 0.5, "policy": 0.3}),
        (("steps.H.algorithm=rwr", f"steps.H.resample={THINNED}"), "steps.0.resample (H)", {"keep": 9, "samples": 4}),
        (("steps.H.rounds=2",), "steps.0 (H)", {"rounds": 2}),
        (("steps.0.name=a b",), "steps.0.name", "a b"),
    ],
)
def test_a_message_names_the_step_and_the_figures(overrides: tuple[str, ...], where: str, value: object) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(DEMO, overrides)
    assert (caught.value.where, caught.value.value) == (f"{DEMO}, {where}", value)


def test_a_place_without_a_name_is_as_it_is() -> None:
    recipe = {"steps": [{"name": "H"}, {"beta": 1}], "merge": [{"name": "P"}]}
    places = ["steps.0.beta", "steps.1.beta", "steps.2", "merge.0.q", "data.x", "stepsize"]
    shown = ["steps.0.beta (H)", "steps.1.beta", "steps.2", "merge.0.q (P)", "data.x", "stepsize"]
    assert [with_name(place, recipe) for place in places] == shown


def test_an_unknown_rubric_has_a_place() -> None:
    judge = "{kind: llm, rubric: nice, panel: {model: m}}"
    with pytest.raises(DataError) as caught:
        check_judges(load_recipe(DEMO, [f"evaluate.judges.tone={judge}"]))
    assert caught.value.where == "evaluate.judges.tone.rubric"
