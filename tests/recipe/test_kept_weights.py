"""Which weights a training gives: refused before any work where it cannot be done, and said where it decides."""

from __future__ import annotations

from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import TrainingArguments

from sacpo.errors import RecipeError
from sacpo.pipeline.stages.train import not_independent
from sacpo.recipe import parse_recipe
from sacpo.recipe.schema import Recipe, TrainingSpec
from sacpo.recipe.schema.training import ADDED

BEST = {"eval_strategy": "steps", "eval_steps": 10, "load_best_model_at_end": True}


def recipe(holdout: float = 0.1, **changes: Any) -> Recipe:
    data = {
        "p": {"format": "preference", "path": "p.jsonl", "holdout": holdout},
        "all": {"format": "preference", "path": "a.jsonl"},
    }
    step = {"name": "A", "criterion": "h", "from": "sft", "beta": 1, "dataset": ["all", "p"], "training": BEST}
    return parse_recipe({"name": "r", "base": {"model": "x"}, "data": data, "steps": [step], **changes})


def test_one_source_with_held_out_pairs_is_enough() -> None:
    assert recipe().steps[0].training.options() == BEST


@pytest.mark.parametrize(
    ("changes", "where", "what"),
    [
        ({"holdout": 0.0}, "steps.0.training, eval_strategy", "no held-out pairs to compute the loss on"),
        ({"training": {"average_last": 0.5}}, "steps.0.training, average_last", "the best of them, not both"),
        (
            {"training": BEST, "sft": {"dataset": "d"}, "data": {"d": {"format": "demonstrations", "path": "d.jsonl"}}},
            "sft.training, eval_strategy",
            "SFT has no held-out demonstrations",
        ),
        (
            {"evaluate": {"judges": {"m": {"kind": "reward-model", "dataset": "all", "training": BEST}}}},
            "evaluate.judges.m.training, eval_strategy",
            "no held-out pairs",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_by_validate(changes: dict[str, Any], where: str, what: str) -> None:
    if "data" in changes:
        more = {"p": {"format": "preference", "path": "p.jsonl", "holdout": 0.1}}
        step = {"name": "A", "criterion": "h", "from": "sft", "beta": 1, "dataset": "p"}
        changes = {**changes, "data": {**changes["data"], **more}, "steps": [step]}
    with pytest.raises(RecipeError, match=what) as error:
        recipe(**changes)
    assert where in str(error.value)


def test_options_that_are_not_given_are_no_part_of_what_is_counted() -> None:
    """A training without them keeps its key; one with them has another."""
    assert "average_last" not in TrainingSpec().model_dump() and "eval_steps" not in TrainingSpec().model_dump()
    assert TrainingSpec(average_last=0.5).model_dump()["average_last"] == 0.5
    assert TrainingSpec().model_dump()["learning_rate"] is None


def test_options_that_transformers_lacks_are_known() -> None:
    """Their page does not call their default transformers' own."""
    assert {*ADDED} == TrainingSpec.model_fields.keys() - {field.name for field in fields(TrainingArguments)}


def test_pairs_that_chose_weights_are_named_once_with_all_models() -> None:
    pairs, other = SimpleNamespace(name="pairs/H"), SimpleNamespace(name="pairs/S")
    given = {"A": ({"load_best_model_at_end": True}, (pairs,)), "B": ({}, (other,)), "C": (BEST, (pairs,))}
    trained: Any = {name: SimpleNamespace(training=of, records=records) for name, (of, records) in given.items()}
    (said,) = not_independent(trained)
    assert said.startswith("the held-out pairs of 'pairs/H' chose the weights of A, C (load_best_model_at_end)")
