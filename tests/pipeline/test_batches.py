"""Pairs that a closed form has labelled for its scores: which prompts, which answers, and in which order."""

from __future__ import annotations

import copy
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from pipeline_toys import RECIPE, stages
from pipeline_toys import recipe as toy_recipe

from sacpo.data.records import Answer, Prompt
from sacpo.errors import RecipeError
from sacpo.judging.scored import Score
from sacpo.pipeline.run import plan
from sacpo.pipeline.sizes import judgings
from sacpo.pipeline.stages import batch
from sacpo.pipeline.stages.bank import Resampled
from sacpo.pipeline.stages.batch import Batch, Weigher
from sacpo.pipeline.stages.heads import Head
from sacpo.pipeline.tools import Tools
from sacpo.recipe import parse_recipe
from sacpo.theory.draws import contrasted

PROMPTS = [Prompt.from_text(f"ask {i}", id=str(i)) for i in range(10)]
LABEL = {
    name: {"prompts": "asked", "judge": name, "ties": "keep", "max_new_tokens": 8}
    for name in ("helpfulness", "harmlessness")
}


def labelled(**options: Any) -> dict[str, Any]:
    """A step that has pairs labelled for both of its scores."""
    resample = {
        "judge": {"helpfulness": 1.0, "harmlessness": 2.0},
        "label": copy.deepcopy(LABEL),
        "batches": 2,
        **options,
    }
    return {"name": "W", "criterion": "joint", "algorithm": "rwr", "from": "sft", "beta": 0.5, "dataset": "asked",
            "resample": resample}  # fmt: skip


def with_step(*overrides: str, **options: Any) -> Any:
    return toy_recipe(*overrides, steps=[*RECIPE["steps"], labelled(**options)])


def batches(*overrides: str, **options: Any) -> list[Batch]:
    found = stages(*overrides, steps=[*RECIPE["steps"], labelled(**options)])
    return [stage for stage in found if isinstance(stage, Batch)]


def test_one_answer_is_drawn_by_its_weight_and_one_at_random_that_says_something_else() -> None:
    rng, weights = random.Random(0), np.array([0.7, 0.3, 0.0, 0.0])
    drawn = [contrasted(weights, ["a", "b", "a", "c"], rng) for _ in range(4000)]
    pairs = Counter(frozenset(pair) for pair in drawn)
    # a by .7: b or c at random; b by .3: one of the two a, or c
    expected = {(0, 1): 0.35 + 0.1, (0, 3): 0.35, (1, 2): 0.1, (1, 3): 0.1}
    assert {tuple(sorted(pair)) for pair in pairs} == expected.keys()
    for pair, share in expected.items():
        assert pairs[frozenset(pair)] / 4000 == pytest.approx(share, abs=0.03)
    first = sum(one < other for one, other in drawn)
    assert first / 4000 == pytest.approx(0.5, abs=0.03), "the weighed one is not always the first"
    assert contrasted(np.array([0.5, 0.5]), ["a", "a"], rng) in ((0, 0), (1, 1)), "an equal pair is dropped later"


class Read:
    """Tools that have read ten prompts, two of them held out."""

    def read(self, stage: object) -> Any:
        class Records:
            train, heldout = PROMPTS[:8], PROMPTS[8:]

        return Records()


def test_batches_share_out_the_prompts_and_leave_held_out_ones_alone() -> None:
    parts = [one for one in batches(batches=3) if one.name.startswith("pairs/W/helpfulness")]
    assert [one.name for one in parts] == [f"pairs/W/helpfulness-{n}" for n in (1, 2, 3)]
    asked = [one.asked(cast(Tools, Read())) for one in parts]
    assert sorted(prompt.id for prompts, _ in asked for prompt in prompts) == [str(i) for i in range(8)]
    assert [len(prompts) for prompts, _ in asked] == [3, 2, 3]
    assert all(held == [] for _, held in asked)
    assert asked[0][0] != PROMPTS[:3], "a file may be sorted by the kind of prompt"


def test_behind_the_first_batch_answers_are_drawn_by_what_is_learned_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of four answers the second has all the weight, of the last prompt no answer has any: two at random."""
    second = next(one for one in batches(candidates=4) if one.number == 1)
    answers = [
        Answer(prompt, "sft", f"a{s}", truncated=prompt.id == "9" or s == 3, sample=s)
        for prompt in PROMPTS
        for s in range(4)
    ]
    monkeypatch.setattr(Batch, "answers", lambda *_: answers)
    scores = {"helpfulness": [0.0, 30.0, 0.0, 99.0] * 10, "harmlessness": [0.0, 0.0, 20.0, 0.0] * 10}
    monkeypatch.setattr(
        batch, "scores_of", lambda *_: {name: [Score(value) for value in each] for name, each in scores.items()}
    )
    weigher = Weigher({"helpfulness": 2.0, "harmlessness": 1.0}, (), (), 4)
    drawn = replace(second, weigher=weigher).drawn(PROMPTS, {}, random.Random(0), Path(), cast(Tools, None))
    assert [one.prompt.id for one, _ in drawn] == [prompt.id for prompt in PROMPTS]
    assert all({"a1"} < {one.text, other.text} for one, other in drawn[:9]), "30 x 2 nats beat 20"
    assert len({frozenset((one.text, other.text)) for one, other in drawn[:9]}) > 1
    assert drawn[9][0].text != drawn[9][1].text


def test_each_batch_is_weighed_by_scores_of_those_before_it() -> None:
    found = plan(with_step(batches=3), runs="nowhere").statuses
    names = [status.stage.name for status in found]
    order = [
        *(f"pairs/W/{name}-1" for name in LABEL),
        *(f"head/W/{name}-1" for name in sorted(LABEL)),
        *(f"pairs/W/{name}-2" for name in LABEL),
        *(f"head/W/{name}-2" for name in sorted(LABEL)),
        *(f"pairs/W/{name}-3" for name in LABEL),
        *(f"head/W/{name}" for name in sorted(LABEL)),
        "samples/W",
        "bank/W",
        "resampled/W",
        "align/W",
    ]
    assert [name for name in names if name in order] == sorted(order, key=names.index)
    assert {*order} <= {*names}
    assert [name for name in names if name.startswith(("pairs/W", "samples/W"))] == [
        name for name in order if name.startswith(("pairs/W", "samples/W"))
    ]
    by_name = {status.stage.name: status.stage for status in found}
    second, last = by_name["pairs/W/harmlessness-2"], by_name["head/W/harmlessness"]
    assert isinstance(second, Batch) and second.weigher is not None and isinstance(last, Head)
    assert second.weigher.tilts == {"helpfulness": 2.0, "harmlessness": 4.0}
    assert {scorer.head.name for scorer in second.weigher.learned} == {f"head/W/{name}-1" for name in LABEL}  # type: ignore[union-attr]
    assert [one.name for one in last.records] == [f"pairs/W/harmlessness-{n}" for n in (1, 2, 3)]


def test_with_one_batch_all_pairs_are_two_answers_at_random() -> None:
    assert [(one.of, one.weigher) for one in batches(batches=1)] == [(1, None), (1, None)]


def test_pairs_that_are_there_already_weigh_the_first_batch() -> None:
    """H and S have learned from pairs: nothing has to be drawn at random."""
    found = batches(learn={"helpfulness": "H", "harmlessness": "S"})
    assert len(found) == 4 and all(one.weigher is not None for one in found)
    half = batches(learn={"helpfulness": "H"})
    assert [one.weigher is not None for one in half] == [False, False, True, True]
    one = batches(learn={"helpfulness": "H"}, label={"harmlessness": LABEL["harmlessness"]})
    assert [(each.name, each.weigher is not None) for each in one] == [
        ("pairs/W/harmlessness-1", False),
        ("pairs/W/harmlessness-2", True),
    ]


def test_scores_of_pairs_that_are_there_and_of_all_pairs_are_two_stages() -> None:
    """Both would lie in one folder, and be made anew by every command, if they had one name."""
    every = stages(steps=[*RECIPE["steps"], labelled(learn={"helpfulness": "H", "harmlessness": "S"})])
    names = [stage.name for stage in every]
    assert len({*names}) == len(names)
    heads = [name for name in names if name.startswith("head/W/helpfulness")]
    assert heads == ["head/W/helpfulness-0", "head/W/helpfulness-1", "head/W/helpfulness"]


def test_a_judges_scores_weigh_beside_learned_ones() -> None:
    """A user with a reward model has labels for safety alone."""
    (_, second) = batches(label={"harmlessness": LABEL["harmlessness"]})
    assert second.weigher is not None
    assert [judge.criterion for judge in second.weigher.judges] == ["helpfulness"]


def test_steps_that_ask_for_the_same_labels_share_them() -> None:
    other = {**labelled(), "name": "V", "dataset": "asked"}
    found = stages(steps=[*RECIPE["steps"], labelled(), other])
    assert len([stage for stage in found if isinstance(stage, Batch)]) == 4
    weights = {"helpfulness": 2.0, "harmlessness": 2.0}
    heavier = {**other, "resample": {**labelled()["resample"], "judge": weights}}
    found = stages(steps=[*RECIPE["steps"], labelled(), heavier])
    assert len([stage for stage in found if isinstance(stage, Batch)]) == 6, "the first batch is shared"


def test_labels_are_not_asked_again_when_factors_are_chosen() -> None:
    """The factors multiply the weights; what was labelled by the weights before stays."""
    found = plan(with_step(factors={"helpfulness": [2.0]}), runs="nowhere").statuses
    names = [status.stage.name for status in found if isinstance(status.stage, Batch)]
    assert len(names) == len({*names}) == 4


def test_the_report_and_the_plan_know_of_the_labels() -> None:
    asked = with_step()
    resampled = [status.stage for status in plan(asked, runs="nowhere").statuses if isinstance(status.stage, Resampled)]
    report = next(s.stage for s in plan(asked, runs="nowhere").statuses if s.stage.name == "report")
    named = {stage.name for stage in cast(Any, report).pairs}
    assert {f"pairs/W/{name}-{n}" for name in LABEL for n in (1, 2)} < named
    assert resampled[0].name in named


def test_a_dry_run_counts_the_comparisons_of_language_models_once() -> None:
    """Eight prompts, half of them in each of two batches, compared in both orders."""
    judges = {
        "helpfulness": {"kind": "oracle"},
        "harmlessness": {"kind": "llm", "rubric": "harmlessness", "panel": {"model": "m", "api_key_env": ""}},
    }
    given = {name: RECIPE[name] for name in ("name", "world", "base", "data", "sft")}
    asked = parse_recipe({**given, "steps": [labelled()], "evaluate": {"judges": judges}})
    (found,) = judgings(asked, plan(asked, runs="nowhere"))
    assert found.requests == 8 * 2


def test_a_dry_run_counts_the_ratings_that_candidates_are_weighed_by() -> None:
    """Eight prompts with 16 samples in the bank; of the second batch's four prompts five candidates each."""
    judges = {
        "helpfulness": {"kind": "oracle"},
        "harmlessness": {"kind": "llm", "rubric": "harmlessness-rating", "panel": {"model": "m", "api_key_env": ""}},
    }
    given = {name: RECIPE[name] for name in ("name", "world", "base", "data", "sft")}
    step = labelled(label={"helpfulness": LABEL["helpfulness"]}, candidates=5)
    asked = parse_recipe({**given, "steps": [step], "evaluate": {"judges": judges}})
    (found,) = judgings(asked, plan(asked, runs="nowhere"))
    assert found.requests == 8 * 16 + 4 * 5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"batches": 1, "label": {"helpfulness": {**LABEL["helpfulness"], "pairs": 2}}}, "one pair"),
        ({"batches": 3, "label": {}, "learn": {"helpfulness": "H", "harmlessness": "S"}}, "no pairs are labelled"),
        ({"batches": 1, "candidates": 4}, "pairs of one batch"),
        ({"label": {**LABEL, "style": LABEL["helpfulness"]}}, "'label' has 'style', which has no weight"),
        ({"implicit": {"helpfulness": "H"}}, "'label' and 'implicit' both"),
    ],
)
def test_options_that_do_nothing_and_contradictions_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        with_step(**options)


@pytest.mark.parametrize(
    ("change", "said", "where"),
    [
        ({"sample_from": {"reference": 1.0}}, "sample_from", "label.helpfulness"),
        ({"offset": {"harmlessness": 1.0}}, "offset", "label.helpfulness"),
        ({"prompts": "nowhere"}, "data source", "label.helpfulness.prompts"),
        ({"judge": "nobody"}, "judge", "label.helpfulness.judge"),
    ],
)
def test_what_is_labelled_is_checked_before_anything_is_done(change: dict[str, Any], said: str, where: str) -> None:
    label = {**LABEL, "helpfulness": {**LABEL["helpfulness"], **change}}
    with pytest.raises(RecipeError, match=said) as failed:
        with_step(label=label)
    assert where in str(failed.value)
