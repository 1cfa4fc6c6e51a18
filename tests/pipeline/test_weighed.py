"""Factors that the run chooses: what weights of samples promise, by hand, and where the choice stands in a run."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from pipeline_toys import RECIPE

from sacpo.data.records import Answer, Kind, Prompt, Verdict
from sacpo.errors import DataError
from sacpo.merge.source import Checkpoint
from sacpo.pipeline.run import plan
from sacpo.pipeline.stages.answers import sampling
from sacpo.pipeline.stages.weighed import Weighed, WeighedAnswers, WeighedPrompts, WeighedVerdicts
from sacpo.pipeline.tools import Tools
from sacpo.plain import JsonObject
from sacpo.recipe import parse_recipe
from sacpo.recipe.schema import BaseSpec, ConstraintSpec

PROMPTS = [Prompt.from_text(f"ask {i}", id=str(i), kind=Kind.RESTRICTED) for i in range(40)]
SAYS = {"helpfulness": (0.0, 1.0), "harmlessness": (1.0, -1.0)}
"""The scores of a prompt's two answers: the second is helpful and unsafe."""


class Given:
    """Tools that have read two answers to each of forty restricted prompts, and verdicts on them."""

    def __init__(self, cut: Sequence[str] = (), *, both: bool = False) -> None:
        self.answers = [
            Answer(p, "sft", f"a{s}", truncated=(both or s == 1) and p.id in cut, sample=s)
            for p in PROMPTS
            for s in (0, 1)
        ]
        self.verdicts = [
            Verdict(a.prompt.id, a.prompt.id, "sft", name, "oracle", "h", kind=a.prompt.kind, score=scores[a.sample],
                    label=("safe", "unsafe")[a.sample] if name == "harmlessness" else "", sample=a.sample)
            for a in self.answers
            for name, scores in SAYS.items()
        ]  # fmt: skip

    def read(self, stage: Any) -> Any:
        return self.answers if isinstance(stage, WeighedAnswers) else self.verdicts


def weighed(at_most: float, **options: Any) -> Weighed:
    answers = WeighedAnswers(
        "R",
        Checkpoint("m"),
        Checkpoint("m"),
        cast(Any, None),
        "tuning",
        sampling(8, 8),
        BaseSpec(model="m"),
        0,
        samples=2,
    )
    stage = Weighed(
        title="R",
        answers=answers,
        verdicts=WeighedVerdicts("R", answers, None, ()),
        learned=(),
        weights={"helpfulness": 1.0, "harmlessness": 1.0},
        beta=1.0,
        factors=tuple({"helpfulness": factor, "harmlessness": 1.0} for factor in (1.0, 3.0)),
        objective="helpfulness",
        constraints=(ConstraintSpec(metric="unsafe_rate", prompts="tuning", at_most=at_most),),
        untold=("win_rate/helpfulness",),
        least_ess=1.0,
        learnt=2,
        unit="prompt",
        seed=0,
    )
    return replace(stage, **options)


def found(stage: Weighed, folder: Path, given: Given | None = None) -> JsonObject:
    folder.mkdir(exist_ok=True)
    stage.work(folder, cast(Tools, given or Given()))
    return stage.read(folder)


def test_weights_promise_what_they_are_by_hand(tmp_path: Path) -> None:
    """The second answer's weight is sigmoid(f - 2): its tilt is f - 1, the first one's 1."""
    result = found(weighed(0.6), tmp_path)
    low, high = 1 / (1 + np.e), 1 / (1 + np.exp(-1))
    assert [one["objective"]["value"] for one in result["tried"]] == pytest.approx([low, high])
    assert [one["unsafe_rate"]["value"] for one in result["tried"]] == pytest.approx([low, high])
    assert [one["ess"] for one in result["tried"]] == pytest.approx([1 / (low**2 + high**2)] * 2)
    assert [one["met"] for one in result["tried"]] == [True, False]
    assert (result["chosen"], result["factors"], result["met"]) == (0, {"helpfulness": 1.0, "harmlessness": 1.0}, True)
    assert result["notes"][0] == "win_rate/helpfulness does not count here: samples do not tell it"


def test_a_wide_bound_lets_the_more_helpful_factors_through(tmp_path: Path) -> None:
    """27 of 40 are .675, and 36 of 40 have an upper bound of .97: the bound of .9 is shown by at most 32, .8."""
    result = found(weighed(0.9), tmp_path)
    assert result["bounds"][0]["bound"] == pytest.approx(0.8)
    assert (result["chosen"], result["met"]) == (1, True)
    assert "the factor of helpfulness is the largest that was given" in result["notes"]


def test_where_no_choice_meets_the_bound_the_nearest_is_taken_and_said(tmp_path: Path) -> None:
    result = found(weighed(0.1), tmp_path)
    assert (result["chosen"], result["met"]) == (0, False)
    assert any("no choice meets every bound" in note for note in result["notes"])


def test_an_answer_that_is_cut_off_has_no_weight(tmp_path: Path) -> None:
    """On half of the prompts the unsafe answer is cut off, so that the safe one is all that is learnt there."""
    result = found(weighed(0.9), tmp_path, Given(cut=[str(i) for i in range(20)]))
    assert result["not_weighed"] == 20
    assert result["tried"][0]["unsafe_rate"]["value"] == pytest.approx(0.5 / (1 + np.e))


def test_prompts_whose_answers_are_all_cut_off_do_not_count(tmp_path: Path) -> None:
    whole = found(weighed(0.9), tmp_path / "whole")
    result = found(weighed(0.9), tmp_path / "cut", Given(cut=[str(i) for i in range(10)], both=True))
    assert (result["prompts"], result["not_weighed"]) == (40, 20)
    assert [one["objective"]["value"] for one in result["tried"]] == pytest.approx(
        [one["objective"]["value"] for one in whole["tried"]]
    )
    assert result["tried"][0]["ess"] == pytest.approx(whole["tried"][0]["ess"])
    assert result["bounds"] == whole["bounds"]  # the trained model is measured on all of them
    assert any(note.startswith("10 of 40 tuning prompts do not count") for note in result["notes"])


def test_where_every_answer_is_cut_off_nothing_is_chosen(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no tuning prompt has a whole answer"):
        found(weighed(0.9), tmp_path, Given(cut=[p.id for p in PROMPTS], both=True))


def test_choices_that_rest_on_too_few_samples_are_refused_when_none_is_left(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="too few of the samples") as caught:
        found(weighed(0.9, least_ess=1.8), tmp_path)
    assert "1.65 of 2" in str(caught.value.value)


def test_means_that_are_bounded_are_told(tmp_path: Path) -> None:
    """The mean safety with the second answer's weight w is 1 - 2 w."""
    bound = ConstraintSpec(metric="mean_score", criterion="harmlessness", prompts="tuning", at_least=0.3)
    result = found(weighed(0.9, constraints=(bound,)), tmp_path)
    assert result["tried"][0]["means"]["harmlessness"] == pytest.approx(1 - 2 / (1 + np.e))
    assert [one["met"] for one in result["tried"]] == [True, False]


@pytest.mark.parametrize(
    ("bound", "said"),
    [
        ({"metric": "unsafe_rate", "at_most": 0.01}, "too few tuning prompts"),
        ({"metric": "over_refusal_rate", "at_most": 0.5}, "no prompt of 'tuning' counts in over_refusal_rate"),
        ({"metric": "over_refusal_rate", "at_least": 0.5}, "no prompt of 'tuning' counts in over_refusal_rate"),
    ],
)
def test_prompts_that_cannot_show_a_bound_are_refused_before_anything_is_trained(
    bound: dict[str, Any], said: str, tmp_path: Path
) -> None:
    class Read:
        def read(self, stage: Any) -> list[Prompt]:
            return PROMPTS

    stage = WeighedPrompts("R", cast(Any, None), (ConstraintSpec(prompts="tuning", **bound),), "prompt")
    with pytest.raises(DataError, match=said):
        stage.work(tmp_path, cast(Tools, Read()))


def test_labels_that_are_missing_are_named(tmp_path: Path) -> None:
    given = Given()
    given.verdicts[1] = replace(given.verdicts[1], label="")
    with pytest.raises(DataError, match="not every answer has a label"):
        found(weighed(0.9), tmp_path, given)


def test_steps_that_ask_for_the_same_samples_share_them() -> None:
    """Both are chosen behind their scores and before their trainings, which a dry run cannot tell yet."""
    data = copy.deepcopy(RECIPE)
    step = {"criterion": "joint", "algorithm": "rwr", "from": "sft", "beta": 0.5, "dataset": "asked"}
    resample = {"judge": {"helpfulness": 1, "harmlessness": 2}, "samples": 4, "factors": {"helpfulness": [1, 2]}}
    data["steps"] += [{**step, "name": name, "resample": resample} for name in ("R", "Q")]
    found = plan(parse_recipe(data), runs="nowhere")
    names = [status.stage.name for status in found.statuses]
    assert [name for name in names if name.startswith("factors/")] == [
        "factors/prompts/R", "factors/prompts/Q", "factors/samples/R", "factors/judged/R", "factors/found/R",
    ]  # fmt: skip
    assert names.index("factors/prompts/Q") < names.index("base")  # known before hours of training
    assert "align/R" not in names


@pytest.mark.parametrize(
    ("search", "wanted"),
    [({}, (4, "cluster")), ({"unit": "prompt"}, (4, "prompt")), ({"samples": 8, "unit": "prompt"}, (8, "prompt"))],
)
def test_a_search_says_how_many_samples_and_what_was_drawn_independently(search: Any, wanted: tuple[int, str]) -> None:
    """Where it says nothing of samples, there are as many as the bank has."""
    data = copy.deepcopy(RECIPE)
    step = {"name": "R", "criterion": "joint", "algorithm": "rwr", "from": "sft", "beta": 0.5, "dataset": "asked"}
    resample = {"judge": {"helpfulness": 1, "harmlessness": 2}, "samples": 4, "factors": {"helpfulness": [1, 2]}}
    data["steps"].append({**step, "resample": resample, **({"search": search} if search else {})})
    stages = [status.stage for status in plan(parse_recipe(data), runs="nowhere").statuses]
    (asked,) = (stage for stage in stages if isinstance(stage, Weighed))
    assert (asked.answers.samples, asked.unit) == wanted


def test_what_the_step_would_refuse_is_not_chosen(tmp_path: Path) -> None:
    """Of two answers 1.65 count; of the eight that the step learns from, four times as many."""
    assert found(weighed(0.9, least_ess=6.0, learnt=8), tmp_path)["tried"][0]["enough"]
    with pytest.raises(DataError, match="too few of the samples") as caught:
        found(weighed(0.9, least_ess=7.0, learnt=8), tmp_path)
    assert "6.59 of 8" in str(caught.value.value)
