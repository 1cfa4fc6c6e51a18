"""Merges in a recipe: by q, by weights, on a grid, or left to the run."""

from __future__ import annotations

from typing import Any

import pytest

from sacpo.errors import RecipeError
from sacpo.recipe import model_graph, parse_recipe
from sacpo.recipe.auto_merges import ends_of, settled
from sacpo.recipe.models import MergedModel
from sacpo.recipe.schema import Recipe

STEP = {"criterion": "h", "from": "sft", "dataset": "p"}
TUNING = {"role": "tuning", "format": "prompts", "path": "t.jsonl"}
BOUND = {"metric": "mean_tokens", "prompts": "t", "at_most": 9}


def recipe(*merges: dict[str, Any], **changes: Any) -> Recipe:
    data = {"p": {"format": "preference", "path": "p.jsonl"}}
    steps = [{**STEP, "name": "A", "beta": 1}, {**STEP, "name": "B", "beta": [1, 0.5]}]
    base: dict[str, Any] = {"name": "r", "base": {"model": "x"}, "data": data, "steps": steps, "prompts": {"t": TUNING}}
    return parse_recipe({**base, "constraints": [BOUND], "merge": [*merges], **changes})


def merged(found: Recipe) -> dict[str, MergedModel]:
    return {name: node for name, node in model_graph(found).items() if isinstance(node, MergedModel)}


def test_two_models_are_the_case_of_two_weights() -> None:
    found = merged(recipe({"name": "P", "models": ["A", "B@0.5"], "q": [0.25, 1]}))
    assert {name: (node.weights, node.q) for name, node in found.items()} == {
        "P@q0.25": ((0.75, 0.25), 0.25),
        "P@q1": ((0.0, 1.0), 1.0),
    }


def test_weights_and_grids_of_three_models() -> None:
    """Multiples of 1/3 on three models: 10 points, without the three corners 7."""
    three = ["sft", "A", "B@1"]
    rows = merged(recipe({"name": "T", "models": three, "weights": [[0.5, 0.3, 0.2]]}))
    assert {name: node.weights for name, node in rows.items()} == {"T@0.5-0.3-0.2": (0.5, 0.3, 0.2)}
    assert rows["T@0.5-0.3-0.2"].q is None
    grid = merged(recipe({"name": "T", "models": three, "grid": 3}))
    assert len(grid) == 7
    assert all(sum(node.weights) == pytest.approx(1) and max(node.weights) < 1 for node in grid.values())


@pytest.mark.parametrize(
    ("merge", "message"),
    [
        ({"models": ["A", "B@1", "sft"], "q": 0.5}, "'q' is the weight of the later of two models"),
        ({"models": ["A", "B@1"]}, "exactly one of 'q', 'weights' and 'grid'"),
        ({"models": ["A", "B@1"], "q": 0.5, "grid": 2}, "exactly one of 'q', 'weights' and 'grid'"),
        ({"models": ["A", "B@1", "sft"], "weights": [[0.5, 0.5]]}, "2 numbers in a row for 3 models"),
        ({"models": ["A", "B@1"], "weights": [[0.5, 0.4]]}, "must add up to 1"),
        ({"models": ["A", "A"], "q": 0.5}, "between two models"),
        ({"models": ["A", "B"], "q": "auto"}, "stands for several models"),
        ({"models": ["A", "B@1"], "q": "auto", "method": "task-vectors"}, "not the later model"),
        ({"models": ["A", "B@1"], "q": 0.5, "search": {"evaluations": 2}}, "nothing is searched for"),
    ],
)
def test_what_is_no_merge_is_refused(merge: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe({"name": "M", **merge})


def test_auto_needs_something_to_meet() -> None:
    with pytest.raises(RecipeError, match="nothing says what q must reach"):
        recipe({"name": "P", "models": ["A", "B@1"], "q": "auto"}, constraints=[])


def test_a_settled_recipe_has_the_tried_q_in_order_and_evaluates_what_was_measured() -> None:
    auto = {"name": "P", "models": ["A", "B@1"], "q": "auto"}
    found = recipe(auto, evaluate={"models": ["A"]})
    assert [*merged(found)] == []
    assert ends_of(found, 0) == ("A", "B@1")
    after = settled(found, 0, (0.5, 0.25))
    assert [*merged(after)] == ["P@q0.25", "P@q0.5"]
    assert after.evaluate.models == ("A", "B@1", "P@q0.25", "P@q0.5")
    assert settled(recipe(auto), 0, ()).merge[0].q == "auto"
