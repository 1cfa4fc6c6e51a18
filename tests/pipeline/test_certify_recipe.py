"""What a recipe may certify, before anything is done."""

from __future__ import annotations

from typing import Any

import pytest
from pipeline_toys import RECIPE

from sacpo.errors import RecipeError
from sacpo.recipe import parse_recipe

SAFE = {"metric": "unsafe_rate", "prompts": "tuning", "at_most": 0.1}
HELP = {"metric": "win_rate", "criterion": "helpfulness", "prompts": "tuning"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"certify": {"prompts": "report"}}, r"role certification[\s\S]*spare"),
        ({"certify": {"prompts": "spare"}, "constraints": []}, "nothing is to be certified"),
        ({"certify": {"prompts": "spare", "candidates": ["H-T"]}}, "no model that is evaluated"),
        ({"certify": {"prompts": "spare", "confidence": 1.0}}, "outside its range"),
        ({"certify": {"prompts": "spare"}, "constraints": [SAFE | {"at_most": 0.0}]}, "lies between 0 and 1"),
        (
            {"certify": {"prompts": "spare"}, "constraints": [{**SAFE, "metric": "mean_tokens", "at_most": 9}]},
            "cannot be certified",
        ),
        (
            {"constraints": [HELP | {"at_most": 0.2}, HELP | {"at_least": 0.5}]},
            "contradict each other: no win_rate/helpfulness is at most 0.2 and at least 0.5",
        ),
        (
            {"certify": {"prompts": "spare", "labels": {"n": 5, "judges": {"refusal": {"kind": "oracle"}}}}},
            "beside a judge of the same criterion",
        ),
        (
            {"certify": {"prompts": "spare", "labels": {"n": 5, "judges": {"helpfulness": {"kind": "oracle"}}}}},
            "no judge of true labels says what 'unsafe_rate' needs",
        ),
    ],
)
def test_what_cannot_be_certified(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_recipe({**RECIPE, **changes}, [])


def test_what_can_be() -> None:
    bounds = [SAFE, HELP | {"at_least": 0.5}, HELP | {"at_most": 0.9}]
    found = parse_recipe({**RECIPE, "certify": {"prompts": "spare"}, "constraints": bounds}, [])
    assert found.certify is not None
    assert (found.certify.confidence, found.certify.candidates, found.certify.unit) == (0.95, "feasible", "cluster")
