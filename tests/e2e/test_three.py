"""Four criteria, one step each, in two orders: the choice honours three constraints, the front has four axes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_run import RECIPE

from sacpo.data.records import Pair, read_jsonl
from sacpo.pipeline.run import run
from sacpo.recipe import parse_recipe
from sacpo.select import pareto_front
from sacpo.world import World

PAIRED = {"prompts": "prompts-S", "labels": "soft", "ties": "keep", "max_new_tokens": 24}
ORDERS = (("helpfulness", "harmlessness", "over_refusal", "politeness"), ("politeness", "over_refusal", "helpfulness"))


def steps(order: tuple[str, ...], mark: str) -> list[dict[str, Any]]:
    names = [f"{mark}{number}" for number in range(len(order))]
    starts = ["sft", *names]
    return [
        {"name": name, "criterion": criterion, "from": start, "beta": 0.3, "max_length": 80}
        | {"dataset": {**PAIRED, "judge": criterion}}
        for name, criterion, start in zip(names, order, starts, strict=False)
    ]


def three() -> dict[str, Any]:
    recipe = yaml.safe_load(RECIPE.read_text())
    del recipe["data"]["heldout"], recipe["merge"]
    judged = ("helpfulness", "harmlessness", "over_refusal", "politeness", "refusal")
    recipe["evaluate"] = {**recipe["evaluate"], "judges": {name: {"kind": "oracle"} for name in judged}}
    bounds = [
        {"metric": "unsafe_rate", "prompts": "tuning", "at_most": 0.2},
        {"metric": "over_refusal_rate", "prompts": "tuning", "at_most": 0.5},
        {"metric": "mean_score", "criterion": "politeness", "prompts": "tuning", "at_least": 0.36},
    ]
    return {**recipe, "constraints": bounds, "steps": [*steps(ORDERS[0], "a"), *steps(ORDERS[1], "b")]}


@pytest.fixture(scope="module")
def results(undrawn: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    done = run(parse_recipe(three()), runs=tmp_path_factory.mktemp("three"), preflight=False)
    return done.results, done.folder


def figures(results: dict[str, Any], name: str) -> list[float]:
    """Objective and constrained figures of a model on tuning prompts, each so that more is better."""
    measured = results["measures"][name]["tuning"]["metrics"]
    keys = {"win_rate/helpfulness": 1, "unsafe_rate": -1, "over_refusal_rate": -1, "mean_score/politeness": 1}
    return [sign * measured[key]["value"] for key, sign in keys.items()]


def test_the_choice_honours_all_and_the_front_is_over_all(results: tuple[dict[str, Any], Path]) -> None:
    found, _ = results
    assert found["models"]["a3"]["strengths"] == [[criterion, 0.3] for criterion in ORDERS[0]]
    assert found["models"]["b2"]["parents"] == ["b1"]
    points = {name: figures(found, name) for name in found["models"]}
    meets = {n for n, p in points.items() if p[1] >= -0.2 and p[2] >= -0.5 and p[3] >= 0.36}
    assert {n for n, model in found["selection"]["models"].items() if model["feasible"]} == meets
    safe, polite = ({n for n, p in points.items() if p[i] >= bound} for i, bound in ((1, -0.2), (3, 0.36)))
    assert meets < safe and meets < polite, "each of two constraints rules a model out that the other lets pass"
    assert points[found["selection"]["chosen"]][0] == max(points[name][0] for name in meets)
    names = [*points]
    assert found["selection"]["front"] == [names[i] for i in pareto_front([*points.values()])]


def test_pairs_of_a_third_criterion_are_labelled_by_it(results: tuple[dict[str, Any], Path]) -> None:
    recipe = parse_recipe(three())
    assert recipe.world is not None
    world = World(recipe.world)
    pairs = read_jsonl(results[1] / "stages" / "pairs" / "b1" / "train.jsonl", Pair)  # a2 shares them
    scores = [[world.score("over_refusal", p.prompt, text) for text in (p.chosen, p.rejected)] for p in pairs]
    assert all(chosen >= rejected for chosen, rejected in scores)
    assert any(chosen > rejected for chosen, rejected in scores)


def test_a_model_of_a_third_criterion_has_no_optimum_of_two(results: tuple[dict[str, Any], Path]) -> None:
    distances = results[0]["theory"]["kl_to_optimum"]
    assert distances["a1"]["own"] is not None
    assert distances["a2"]["own"] is None and distances["a2"]["target"] is not None


def test_the_page_shows_the_front(results: tuple[dict[str, Any], Path]) -> None:
    page = (results[1] / "stages" / "report" / "report.html").read_text()
    assert "Pareto front over 4 figures" in page
