"""Options that take something away: whatever is left can be planned, or the recipe is refused."""

from __future__ import annotations

from itertools import combinations

import pytest
from pipeline_toys import recipe

from sacpo.errors import UserError
from sacpo.pipeline.run import plan

TAKEN_AWAY = (
    "evaluate.kl_prompts=0",
    "theory=null",
    "objective=null",
    "constraints=[]",
    "constraints=[{metric: kl, prompts: spare, at_most: 1.0}]",
    "prompts={}",
    "prompts={tuning: {role: tuning, format: world, split: tuning, limit: 8}}",
    "merge=[]",
    "steps=[]",
    "sft=null",
    "evaluate.models=[H]",
    "evaluate.baseline=H",
    "evaluate.judges={}",
    "evaluate.judges.harmlessness.prompts=[report]",
    "report.max_answers=0",
    "data.asked.holdout=0.5",
)


@pytest.mark.parametrize("first", TAKEN_AWAY)
def test_what_is_left_can_be_planned_or_is_refused(first: str) -> None:
    """A stage that another one needs cannot go missing: the error would be a KeyError."""
    for overrides in [(first,), *((first, other) for other in TAKEN_AWAY if other != first)]:
        try:
            names = {status.stage.name for status in plan(recipe(*overrides), runs="nowhere").statuses}
        except UserError:
            continue
        assert "base" in names, overrides


def test_not_all_of_it_is_refused() -> None:
    planned = 0
    for overrides in combinations(("theory=null", "objective=null", "constraints=[]", "merge=[]"), 2):
        planned += len(plan(recipe(*overrides), runs="nowhere").statuses) > 20
    assert planned >= 4


def test_theory_without_samples_is_refused() -> None:
    with pytest.raises(UserError, match="theory needs samples of every model"):
        recipe("evaluate.kl_prompts=0")
