"""Pairs of a step's own samples: which answers, in which order, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from pipeline_toys import RECIPE, stages
from pipeline_toys import recipe as toy_recipe

from sacpo.data.records import Answer, Prompt
from sacpo.errors import DataError, RecipeError
from sacpo.judging.scored import Score
from sacpo.pipeline.run import plan
from sacpo.pipeline.sizes import judgings
from sacpo.pipeline.stages.enough import EnoughPrompts
from sacpo.pipeline.stages.heads import Head
from sacpo.pipeline.stages.pairs import scored
from sacpo.pipeline.stages.sample_pairs import ALONE
from sacpo.pipeline.tools import Tools
from sacpo.recipe import parse_recipe
from sacpo.system.files import read_json

PROMPTS = [Prompt.from_text(f"ask {i}", id=str(i)) for i in range(10)]
OWN = {name: {"judge": name, "ties": "keep", "pairs": 3} for name in ("helpfulness", "harmlessness")}


def labelled(**options: Any) -> dict[str, Any]:
    """A step that has pairs of its samples labelled for both of its scores."""
    resample = {"judge": {"helpfulness": 1.0, "harmlessness": 2.0}, "label": OWN, **options}
    return {"name": "W", "criterion": "joint", "algorithm": "rwr", "from": "sft", "beta": 0.5, "dataset": "asked",
            "resample": resample}  # fmt: skip


def with_step(**options: Any) -> Any:
    return toy_recipe(steps=[*RECIPE["steps"], labelled(**options)])


def own_stages(**options: Any) -> list[Any]:
    return stages(steps=[*RECIPE["steps"], labelled(**options)])


def test_pairs_of_samples_are_labelled_behind_them_and_before_anything_is_learned() -> None:
    found = own_stages(samples=4)
    names = [stage.name for stage in found]
    order = [
        "samples/W",
        "traits/W",
        *(f"pairs/W/own/{name}" for name in OWN),
        *(f"head/W/{name}" for name in OWN),
        "bank/W",
        "resampled/W",
    ]
    assert [name for name in names if name in order] == order
    head = next(stage for stage in found if isinstance(stage, Head))
    assert head.traits is not None and [one.name for one in head.records] == ["pairs/W/own/helpfulness"]


def test_steps_with_other_weights_share_labels_and_traits_of_their_samples() -> None:
    other = {**labelled(judge={"helpfulness": 2.0, "harmlessness": 2.0}), "name": "V"}
    found = stages(steps=[*RECIPE["steps"], labelled(), other])
    names = [
        stage.name for stage in found if stage.name.startswith(("samples", "traits", "pairs/W", "pairs/V", "head"))
    ]
    assert len(names) == 6 and all("/W" in name for name in names)


def test_labels_of_samples_join_those_of_a_step() -> None:
    found = own_stages(learn={"helpfulness": "H"})
    records = {stage.name: [one.name for one in stage.records] for stage in found if isinstance(stage, Head)}
    assert records["head/W/helpfulness"][1:] == ["pairs/W/own/helpfulness"] and len(records["head/W/helpfulness"]) == 2
    assert len({stage.traits.key for stage in found if isinstance(stage, Head) and stage.traits is not None}) == 1


def test_a_listwise_loss_takes_the_sft_model_as_its_reference() -> None:
    """Its log-probs are known from the samples' traits where there are any; a step from another model has it beside."""
    step = {**labelled(draw="all", samples=4), "listwise": 1.0}
    other = {**labelled(draw="all", samples=4, label={}, learn={}), "name": "V", "from": "H", "listwise": 1.0}
    found = {stage.name: stage for stage in stages(steps=[*RECIPE["steps"], step, other])}
    assert found["resampled/W"].listwise and found["resampled/W"].traits.name == "traits/W"
    assert found["resampled/V"].listwise and found["resampled/V"].traits is None
    assert found["align/W"].reference is None
    assert found["align/V"].reference is not None and found["align/V"].reference.place.name == "sft"
    without = stages(steps=[*RECIPE["steps"], {**other, "listwise": 0.0}])
    assert next(stage for stage in without if stage.name == "align/V").reference is None


@pytest.mark.parametrize("resample", [{"draw": "thinned", "keep": 2}, {"draw": "weights"}, {"draw": "best"}, None])
def test_a_listwise_loss_is_of_all_samples(resample: Any) -> None:
    step = {**labelled(samples=8, **(resample or {})), "listwise": 1.0}
    if resample is None:
        step["resample"] = None
    with pytest.raises(RecipeError, match="'listwise' compares all of a prompt's samples"):
        toy_recipe(steps=[*RECIPE["steps"], step])


@pytest.mark.parametrize(
    "options", [{"train_sampling_strategy": "group_by_length"}, {"per_device_train_batch_size": 1}]
)
def test_a_listwise_loss_needs_batches_with_several_answers_to_a_prompt(options: Any) -> None:
    step = {**labelled(draw="all", samples=8), "listwise": 1.0, "training": options}
    with pytest.raises(RecipeError, match="do not meet in such batches"):
        toy_recipe(steps=[*RECIPE["steps"], step])
    assert toy_recipe(steps=[*RECIPE["steps"], {**step, "listwise": 0.0}])


class Sampled:
    """Tools that have read samples, whose traits are known but for those of one prompt."""

    def __init__(self, answers: list[Answer], unknown: str = "") -> None:
        self.answers = answers
        self.places = {(one.prompt, one.text): (0, 0) for one in answers if one.prompt.id != unknown}

    def read(self, _: object) -> Any:
        return self


def drawn_of(answers: list[Answer], out: Path, unknown: str = "") -> tuple[list[Any], Any]:
    """Return the pairs that are labelled, and what is written down."""
    stage = next(one for one in own_stages(samples=4) if one.name == "pairs/W/own/helpfulness")
    asked: list[Any] = []

    def label(sides: Any, out: Path) -> list[float]:
        asked.extend(sides)
        return [0.9] * len(sides)

    object.__setattr__(stage, "labeller", lambda tools: label)
    stage.work(out, cast(Tools, Sampled(answers, unknown)))
    return asked, stage.read(out)


def sampled(cut: str = "c", alone: str = "") -> list[Answer]:
    """Four answers to each prompt, two of which say the same; only the first prompt's last one is whole."""
    return [
        Answer(prompt, "sft", "b" if prompt.id == alone else text, truncated=text == cut and prompt.id != "0", sample=s)
        for prompt in PROMPTS
        for s, text in enumerate(("a", "b", "b", "c"))
    ]


def test_pairs_of_samples_hold_different_whole_answers_to_one_prompt(tmp_path: Path) -> None:
    """Of three pairs that are asked for one is left where an answer is cut off, and none where all say the same."""
    asked, found = drawn_of(sampled(alone="4"), tmp_path)
    assert len(asked) == 3 + 8 and len(found.train) == 11
    assert all(one.prompt == other.prompt and one.text != other.text for one, other in asked)
    assert {one.text for pair in asked[3:] for one in pair} == {"a", "b"}
    assert "4" not in {one.prompt.id for one, _ in asked}
    assert read_json(tmp_path / "report.json")["dropped"] == {ALONE: 1}


def test_no_label_is_asked_for_of_prompts_that_fill_max_length(tmp_path: Path) -> None:
    asked, found = drawn_of(sampled(), tmp_path, unknown="3")
    assert "3" not in {one.prompt.id for one, _ in asked} and len(found.train) == 3 + 8
    with pytest.raises(DataError, match="two whole answers that differ"):
        drawn_of([replace(answer, truncated=True) for answer in sampled()], tmp_path)


def test_an_answer_in_several_pairs_is_scored_once() -> None:
    """Also by a model that is no language model."""
    asked: list[str] = []

    def score(texts: Any) -> list[Score]:
        asked.extend(text for _, text in texts)
        return [Score(float(len(text))) for _, text in texts]

    one, two, three = (Answer(PROMPTS[0], "sft", text) for text in ("a", "bb", "cccc"))
    found = scored(score, 1.0, [(one, two), (three, one), (one, two)], Path())
    assert asked == ["a", "bb", "cccc"]
    assert found == pytest.approx([1 / (1 + np.e), 1 / (1 + np.exp(-3)), 1 / (1 + np.e)])


def test_a_dry_run_counts_the_comparisons_of_samples() -> None:
    """Eight prompts with three pairs each, in both orders."""
    judges = {
        "helpfulness": {"kind": "oracle"},
        "harmlessness": {"kind": "llm", "rubric": "harmlessness", "panel": {"model": "m", "api_key_env": ""}},
    }
    given = {name: RECIPE[name] for name in ("name", "world", "base", "data", "sft")}
    step = labelled()
    asked = parse_recipe({**given, "steps": [step], "evaluate": {"judges": judges}})
    (found,) = judgings(asked, plan(asked, runs="nowhere"))
    assert found.requests == 8 * 3 * 2


def test_a_dry_run_counts_each_answer_that_is_rated_once() -> None:
    """Three pairs have six sides, of four samples."""
    panel = {"kind": "llm", "rubric": "harmlessness-rating", "panel": {"model": "m", "api_key_env": ""}}
    given = {name: RECIPE[name] for name in ("name", "world", "base", "data", "sft")}
    judges = {"helpfulness": {"kind": "oracle"}, "harmlessness": panel}
    step = labelled(samples=4)
    asked = parse_recipe({**given, "steps": [step], "evaluate": {"judges": judges}})
    (found,) = judgings(asked, plan(asked, runs="nowhere"))
    assert found.requests == 8 * 4


def test_factors_are_chosen_by_scores_of_labelled_samples() -> None:
    found = plan(with_step(factors={"helpfulness": [2.0]}), runs="nowhere").statuses
    names = [status.stage.name for status in found]
    assert names.index("samples/W") < names.index("head/W/helpfulness") and len(names) == len({*names})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"batches": 2}, "has pairs of the step's own samples: leave 'batches' out"),
        ({"samples": 2}, "'label.helpfulness.pairs' is 3, and 2 'samples' make 1 pairs"),
        ({"label": {"helpfulness": {**OWN["helpfulness"], "temperature": 2.0}}}, "step's own samples"),
        ({"sample_from": {"sft": 0.5, "policy": 0.5}}, "'policy' in 'sample_from' gives others"),
    ],
)
def test_options_that_do_nothing_and_contradictions_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        with_step(**options)


def test_few_samples_make_as_many_pairs_as_there_are() -> None:
    """Who asks for no number is told of none."""
    one = {name: {"judge": name} for name in OWN}
    assert with_step(samples=2, label=one).steps[-1].resample.label["helpfulness"].pairs == 4


class Asked:
    """Tools whose sources hold so many prompts, each in two records."""

    def __init__(self, n: int) -> None:
        self.train = [Prompt.from_text(f"ask {i % n}", id=str(i % n)) for i in range(2 * n)]

    def read(self, source: Any) -> Any:
        return self


@pytest.mark.parametrize(
    ("prompts", "each", "value"),
    [
        (19, 3.0, "at most 57 pairs, of 19 prompts"),
        (118, 0.5, "at most 59 pairs, of 118 prompts, 59 of them in the first batch"),
        (2, 30.0, "at most 60 pairs, of 2 prompts"),
    ],
)
def test_prompts_too_few_for_a_score_are_refused_before_anything_is_trained(
    prompts: int, each: float, value: str, tmp_path: Path
) -> None:
    enough = EnoughPrompts("W", "helpfulness", (cast(Any, "asked"),), each)
    with pytest.raises(DataError, match="too few pairs can be labelled") as told:
        enough.work(tmp_path, cast(Tools, Asked(prompts)))
    assert value in str(told.value)
    assert "steps.W.resample.label.helpfulness" in str(told.value)
    enough.work(tmp_path, cast(Tools, Asked(120)))
    assert enough.read(tmp_path) == {"prompts": 120, "pairs": round(120 * each)}


def test_a_first_batch_is_counted_and_other_pairs_make_up_for_few() -> None:
    names = [stage.name for stage in own_stages(samples=4)]
    assert names.index("enough/W/helpfulness") < names.index("sft")
    learnt = own_stages(samples=4, learn={"helpfulness": "H"})
    assert [stage.name for stage in learnt if isinstance(stage, EnoughPrompts)] == ["enough/W/harmlessness"]
    few = [
        stage
        for stage in own_stages(samples=2, label={n: {"judge": n} for n in OWN})
        if isinstance(stage, EnoughPrompts)
    ]
    assert [stage.each for stage in few] == [1.0, 1.0]  # two samples are one pair, whatever the default asks for
    batched = {name: {"prompts": "asked", "judge": name} for name in OWN}
    found = [stage for stage in own_stages(label=batched, batches=2) if isinstance(stage, EnoughPrompts)]
    assert [stage.each for stage in found] == [0.5, 0.5]
