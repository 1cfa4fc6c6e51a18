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
        (
            {"certify": {"prompts": "spare"}, "theory": {**RECIPE["theory"], "prompts": "spare"}},
            r"answered by its candidates alone[\s\S]*theory.prompts",
        ),
        ({"certify": {"prompts": "spare"}, "constraints": [SAFE | {"at_most": 0.0}]}, "lies between 0 and 1"),
        (
            {"certify": {"prompts": "spare"}, "constraints": [{**SAFE, "metric": "mean_tokens", "at_most": 9}]},
            "cannot be certified",
        ),
        (
            {
                "certify": {
                    "prompts": "spare",
                    "per": "category",
                    "labels": {"n": 5, "judges": {"harmlessness": {"kind": "oracle"}}},
                }
            },
            "not those of each category",
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
            {
                "certify": {
                    "prompts": "spare",
                    "labels": {"n": 5, "judges": {"harmlessness": {"kind": "oracle", "prompts": ["tuning"]}}},
                }
            },
            "whatever prompt sets the judge names",
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


def test_scores_need_their_range() -> None:
    """A mean with a range and a tail are certified; without the section a range says nothing."""
    mean = {"metric": "mean_score", "criterion": "harmlessness", "prompts": "tuning", "at_least": 0.0}
    ranged = mean | {"range": [-9, 9]}
    tail = ranged | {"metric": "cvar_score", "tail": 0.1}
    spec = {"prompts": "spare", "tails": [tail]}
    found = parse_recipe({**RECIPE, "certify": spec, "constraints": [ranged]}, [])
    assert found.certify is not None
    assert found.certify.tails[0].range == found.constraints[0].range == (-9, 9)
    for changes, message in (
        ({"certify": spec, "constraints": [mean]}, "within a range that is declared"),
        ({"constraints": [ranged]}, "has no section 'certify'"),
        ({"certify": spec | {"tails": [tail | {"prompts": "report"}]}}, "role tuning"),
        ({"certify": spec | {"tails": [tail | {"criterion": "x"}]}}, "judge"),
        ({"certify": spec | {"tails": [tail, tail]}}, "given twice"),
    ):
        with pytest.raises(RecipeError, match=message):
            parse_recipe({**RECIPE, **changes}, [])


def test_what_can_be() -> None:
    bounds = [SAFE, HELP | {"at_least": 0.5}, HELP | {"at_most": 0.9}]
    found = parse_recipe({**RECIPE, "certify": {"prompts": "spare"}, "constraints": bounds}, [])
    assert found.certify is not None
    assert (found.certify.confidence, found.certify.candidates, found.certify.unit) == (0.95, "feasible", "cluster")
