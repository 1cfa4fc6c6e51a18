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
    with pytest.raises(RecipeError, match="rubric gives comparisons, and 'mean_score' needs scores of single answers"):
        check_judges(parse_recipe(data))


RATES = {"helpfulness": {"kind": "llm", "panel": ONE, "rubric": "helpfulness-rating"}}
COMPARES = {"tone": {"kind": "llm", "panel": ONE, "rubric": "helpfulness"}}


def rating(step: dict[str, Any] | None = None, resample: Any = "helpfulness", **more: Any) -> dict[str, Any]:
    """A recipe whose judge of helpfulness rates single answers, with a step that resamples by it, or another step."""
    data = changed(**{**RATES, **more.pop("judges", {})})
    data["objective"]["metric"] = "mean_score"
    rwr = {"criterion": "joint", "algorithm": "rwr", "beta": 1, "dataset": "pairs", "resample": {"judge": resample}}
    return {**data, "steps": [{"name": "D", "from": "sft", **rwr, **(step or {})}], **more}


def sampled(**dataset: Any) -> dict[str, Any]:
    """A step of DPO whose pairs are sampled and labelled by the rating judge."""
    own = {"prompts": "pairs", "judge": "helpfulness", **dataset}
    return {"algorithm": "dpo", "dataset": own, "resample": None}


def test_a_rating_gives_scores_to_select_to_resample_and_to_label_by() -> None:
    bound = {"metric": "mean_score", "criterion": "helpfulness", "prompts": "tuning", "at_least": 5}
    assert check_judges(parse_recipe(rating(constraints=[bound])))["helpfulness"].kind == "rating"
    check_judges(parse_recipe(rating(sampled(score_scale=2.0))))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            rating(objective={"metric": "win_rate", "criterion": "helpfulness", "prompts": "tuning"}),
            "scores, and a win",
        ),
        (rating(resample="tone", judges=COMPARES), "gives comparisons, and weights need scores of single answers"),
        (rating(resample="safety"), "gives labels, and weights need scores of single answers"),
        (rating({"beta": "auto"}), "these scores come from language models"),
        (rating(sampled(offset={"tone": 1.0}), judges=COMPARES), "gives comparisons, and offsets need scores"),
        (rating(sampled(judge={"helpfulness": 1, "tone": 1}), judges=COMPARES), "gives comparisons, and a sum needs"),
        (rating(sampled(safety={"judge": "safety"})), "does not say whether an answer is safe"),
        (rating(judges={"helpfulness": {**RATES["helpfulness"], "orders": ["ab"]}}), "'orders' has no effect here"),
    ],
)
def test_what_a_rating_does_not_give_and_what_only_a_rating_gives_is_refused(data: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        check_judges(parse_recipe(data))


@pytest.mark.parametrize(("key", "value"), [("at_least", 10.5), ("at_most", 0.5)])
def test_a_bound_that_no_rating_meets_is_refused(key: str, value: float) -> None:
    bound = {"metric": "mean_score", "criterion": "helpfulness", "prompts": "tuning", key: value}
    with pytest.raises(RecipeError, match=rf"constraints\.0\.{key}(?s:.*)1 to 10"):
        check_judges(parse_recipe(rating(constraints=[bound])))


def test_a_range_that_is_certified_holds_the_rubrics_scale() -> None:
    bound = {"metric": "mean_score", "criterion": "helpfulness", "prompts": "tuning", "at_least": 5, "range": [0, 9]}
    data = rating(constraints=[bound], certify={"prompts": "sealed"})
    data["prompts"]["sealed"] = {"role": "certification", "format": "world", "split": "report", "limit": 6}
    with pytest.raises(RecipeError, match=r"may lie outside this range(?s:.*)1\.0, 10\.0"):
        check_judges(parse_recipe(data))
    bound["range"] = [1, 10]
    check_judges(parse_recipe(data))


def test_a_judge_has_the_settings_and_no_price_and_the_budget_has_the_prices() -> None:
    spec = LlmSpec.model_validate({**ONE, "seed": 3, "price": {"prompt": 1, "completion": 2}})
    rubric = check_judges(parse_recipe(changed()))["helpfulness"]
    judge = LlmJudgeConfig(spec, rubric)
    assert (judge.name, judge.address, judge.settings()["seed"]) == ("m", "http://localhost:1/v1", 3)
    budget = budget_of(BudgetSpec(max_requests=9, max_cost=1.0), [spec])
    assert budget == Budget(9, None, 1.0, {"m": Price(1, 2)})
    left = budget.after([Usage(4, 10, 20, 0.25), Usage(7, 1, 1, None)])
    assert (left.max_requests, left.max_tokens, left.max_cost) == (0, None, 0.75)
