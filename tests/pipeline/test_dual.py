"""The iterated dual: its step, its loop, and what it leaves of the recipe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pipeline_toys import recipe

from sacpo.errors import DataError, RecipeError
from sacpo.merge.source import Checkpoint
from sacpo.pipeline.dual import find_weight
from sacpo.pipeline.run import plan
from sacpo.pipeline.stages.bank import Bank
from sacpo.recipe import Recipe, model_graph
from sacpo.recipe.dual import LEAST, dual_step
from sacpo.recipe.schema import SampledSpec

DATASET = "{prompts: asked, judge: {helpfulness: 1, harmlessness: 1.5}, max_new_tokens: 8}"
DUAL = (f"steps.S.dataset={DATASET}", "steps.S.dual={judge: harmlessness, gain: 0.5, rate: 2, trainings: 3}")


def test_a_dual_step_raises_the_weight_where_the_gain_is_too_small() -> None:
    """.3 below: 1.5 + 2 x .3 = 2.1; .5 above: 1.5 - 1 = .5; far above: no weight below the least one."""
    assert dual_step(1.5, 0.2, 0.5, 2.0) == pytest.approx(2.1)
    assert dual_step(1.5, 1.0, 0.5, 2.0) == pytest.approx(0.5)
    assert dual_step(1.5, 9.0, 0.5, 2.0) == LEAST


class Loop:
    """A run whose models have these mean scores, one after the other; their start has a mean score of 3."""

    def __init__(self, given: Recipe, means: list[float]) -> None:
        self.recipe, self.means, self.trained = given, dict(enumerate(means, 1)), []
        self.data = {"asked": SimpleNamespace(key="asked")}
        self.do = self

    def __call__(self, stage: Any) -> Any:
        return stage

    def settle(self, found: Recipe) -> None:
        self.recipe = found

    def train(self, names: list[str]) -> None:
        self.trained += names

    def checkpoint(self, name: str) -> Checkpoint:
        return Checkpoint(name)

    def judge(self, criterion: str) -> Any:
        return SimpleNamespace(criterion=criterion)

    def seed(self, *parts: str) -> int:
        return 0

    def read(self, stage: Bank) -> Any:
        started = stage.title == "S-0"
        assert stage.samples.reference == Checkpoint("sft" if started else self.trained[-1])
        mean = 3.0 if started else self.means[len(self.trained)]
        return SimpleNamespace(scores={"harmlessness": np.array([[mean - 1], [mean + 1], [np.nan]])})

    @contextmanager
    def following(self, said: str) -> Iterator[None]:
        yield


def test_each_training_has_the_weight_that_the_one_before_asks_for() -> None:
    """1.5, then 1.5 - 2 (.2 - .5) = 2.1, then 2.1 - 2 (.6 - .5) = 1.9; the step's name means the last one."""
    given = recipe(*DUAL, "evaluate.models=[S, naive]", "certify={prompts: spare, candidates: [S]}")
    run: Any = Loop(given, [3.2, 3.6])
    find_weight(run, model_graph(given)["S"])  # type: ignore[arg-type]
    assert run.trained == ["S-1", "S-2", "S-3"]
    steps = {step.name: step for step in run.recipe.steps}
    weights = [step.dataset.weights for name, step in steps.items() if name.startswith("S-") and name != "S-H"]
    assert weights == [{"helpfulness": 1.0, "harmlessness": pytest.approx(w)} for w in (1.5, 2.1, 1.9)]
    assert {steps[name].from_ for name in run.trained} == {"sft"} and steps["S-H"].from_ == "S-3"
    assert all(step.dual is None for step in steps.values())
    assert run.recipe.evaluate.models == ("S-3", "naive") and run.recipe.merge[2].models == ("H", "S-3")
    assert run.recipe.certify.candidates == ("S-3",)
    assert isinstance(steps["S-1"].dataset, SampledSpec) and "S" not in model_graph(run.recipe)


def test_a_judge_that_scores_no_answer_is_an_error_and_not_the_least_weight() -> None:
    given = recipe(*DUAL)
    run: Any = Loop(given, [float("nan")])
    with pytest.raises(DataError, match="none of the answers has a score of harmlessness") as caught:
        find_weight(run, model_graph(given)["S"])  # type: ignore[arg-type]
    assert caught.value.where == "bank/S-1" and "0 of 3 answers" in str(caught.value)
    assert run.trained == ["S-1"]


def test_a_plan_ends_at_the_first_measure() -> None:
    found = plan(recipe(*DUAL), runs="nowhere")
    names = [status.stage.name for status in found.statuses]
    assert "align/S-1" in names and names[-1] == "bank/S-1" and "bank/S-0" in names and "align/S-2" not in names
    assert found.later == ["then, by what bank/S-1 finds: S is trained at up to 2 more weights of harmlessness"]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("steps.S.dual={judge: helpfulness, gain: 0}",), "'dual' names none of the judges"),
        ((*DUAL, "steps.S.beta=[0.1, 0.2]"), "'dual' finds one weight beside others, at one 'beta'"),
        ((*DUAL, "steps.S-H.name=S-2"), "two models have the same name"),
    ],
)
def test_what_cannot_be_is_refused(overrides: tuple[str, ...], said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe(*overrides)
    assert said in str(caught.value)
