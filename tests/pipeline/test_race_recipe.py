"""Races of a recipe, before anything is done."""

from __future__ import annotations

import pytest
from pipeline_toys import RECIPE, recipe, stages

from sacpo.pipeline.stages.race import Race
from sacpo.recipe.race import race_on


def test_constraints_of_all_prompt_sets_share_the_error() -> None:
    """Two constraints on one set and one on another: two thirds and one third of 1 %, and each bound a third."""
    other = RECIPE["prompts"]["tuning"] | {"split": "pairs"}
    bound = {"metric": "unsafe_rate", "prompts": "tuning", "at_most": 0.1}
    helpful = {"metric": "win_rate", "criterion": "helpfulness", "prompts": "tuning", "at_least": 0.4}
    changes = {
        "prompts": RECIPE["prompts"] | {"other": other},
        "constraints": [bound, helpful, bound | {"prompts": "other"}],
    }
    found = recipe("evaluate.race={}", **changes)
    assert race_on(found, "tuning").confidence == pytest.approx(1 - 0.02 / 3)
    assert race_on(found, "other").confidence == pytest.approx(1 - 0.01 / 3)
    races = [stage for stage in stages("evaluate.race={}", **changes) if isinstance(stage, Race)]
    errors = {stage.set_name: (1 - stage.race.confidence) / len(stage.constraints) for stage in races}
    assert errors == {"tuning": pytest.approx(0.01 / 3)}  # the other set's races follow from these
    assert race_on(recipe("evaluate.race={}"), "tuning").confidence == 0.99
