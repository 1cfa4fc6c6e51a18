"""What is refused of recipes that judge by language models, before any work is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from sacpo.errors import DataError, RecipeError
from sacpo.judging import Budget, LlmJudgeConfig, Price
from sacpo.judging.llm.budget import Usage
from sacpo.judging.llm.specs import budget_of, check_judges
from sacpo.recipe import parse_recipe
from sacpo.recipe.llm import BudgetSpec, LlmSpec

RECIPE = Path(__file__).with_name("judged.yaml")
ONE = {"model": "m", "base_url": "http://localhost:1/v1", "api_key_env": ""}


def changed(**judges: Any) -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(RECIPE.read_text())
    data["evaluate"]["judges"] |= judges
    return data


def test_the_rubric_is_the_criterions_unless_another_is_named_and_its_verdicts_are_filed_under_the_criterion() -> None:
    rubrics = check_judges(parse_recipe(changed(refusal={"kind": "llm", "panel": ONE, "rubric": "safety"})))
    assert [(name, rubric.name, rubric.criterion) for name, rubric in rubrics.items()] == [
        ("helpfulness", "helpfulness", "helpfulness"),
        ("safety", "safety", "safety"),
        ("refusal", "safety", "refusal"),
    ]


@pytest.mark.parametrize(
    ("judges", "message"),
    [
        ({"safety": {"kind": "llm", "panel": ONE, "rubric": "harmlessness"}}, "no judge of these prompts measures"),
        ({"safety": {"kind": "llm", "panel": ONE, "prompts": ["report"]}}, "no judge of these prompts measures"),
        ({"helpfulness": {"kind": "llm", "panel": ONE, "rubric": "safety"}}, "a win rate needs comparisons"),
        ({"helpfulness": {"kind": "llm", "panel": [ONE, ONE]}}, "have one name"),
        ({"helpfulness": {"kind": "llm", "panel": [ONE, {**ONE, "name": "x"}]}}, "the same but for their names"),
        ({"tone": {"kind": "llm", "panel": ONE}}, "no such rubric"),
        ({"helpfulness": {"kind": "llm"}}, "needs a 'panel'"),
        ({"helpfulness": {"kind": "llm", "panel": {**ONE, "api_key": "sk-1"}}}, "unknown key 'api_key'"),
        ({"helpfulness": {"kind": "llm", "panel": {**ONE, "api_key_env": "sk-1"}}}, "does not name an environment"),
        ({"helpfulness": {"kind": "oracle", "panel": ONE}}, "other kinds take no such keys"),
    ],
)
def test_what_cannot_judge_is_refused(judges: dict[str, Any], message: str) -> None:
    with pytest.raises((RecipeError, DataError), match=message) as refused:
        check_judges(parse_recipe(changed(**judges)))
    assert "sk-1" not in str(refused.value)


def test_a_comparison_gives_no_scores_to_label_pairs_or_to_average() -> None:
    data = changed()
    data["objective"]["metric"] = "mean_score"
    with pytest.raises(RecipeError, match="gives comparisons, not scores"):
        parse_recipe(data)


def test_a_judge_has_the_settings_and_no_price_and_the_budget_has_the_prices() -> None:
    spec = LlmSpec.model_validate({**ONE, "seed": 3, "price": {"prompt": 1, "completion": 2}})
    rubric = check_judges(parse_recipe(changed()))["helpfulness"]
    judge = LlmJudgeConfig(spec, rubric)
    assert (judge.name, judge.address, judge.settings()["seed"]) == ("m", "http://localhost:1/v1", 3)
    budget = budget_of(BudgetSpec(max_requests=9, max_cost=1.0), [spec])
    assert budget == Budget(9, None, 1.0, {"m": Price(1, 2)})
    left = budget.after([Usage(4, 10, 20, 0.25), Usage(7, 1, 1, None)])
    assert (left.max_requests, left.max_tokens, left.max_cost) == (0, None, 0.75)
