"""Pairs with offsets: of another criterion's scores (MODPO), and of safe answers beside unsafe ones (SafeDPO)."""

from __future__ import annotations

from typing import Any

import pytest
from pipeline_toys import recipe, stages

from sacpo.data.records import Pair, Prompt
from sacpo.errors import DataError, RecipeError
from sacpo.judging.scored import Score
from sacpo.pipeline.stages.offsets import safe_first, with_offsets
from sacpo.pipeline.stages.pairs import Pairs
from sacpo.recipe.schema import SafetySpec

ASKED = "{prompts: asked, judge: helpfulness, max_new_tokens: 8"
SAFE = SafetySpec(judge="harmlessness", offset=1.5)


def pair(chosen: str, rejected: str, p: float = 1.0, offset: float = 0.0) -> Pair:
    return Pair(Prompt.from_text("q"), chosen, rejected, p, "pairs, pair 0", offset=offset)


def labelled(pairs: Any) -> list[Score]:
    return [Score(0.0, "unsafe" if text.startswith("bad") else "safe") for _, text in pairs]


def test_of_two_answers_the_safe_one_is_preferred_for_certain() -> None:
    """Kept with its label and no offset; kept; turned round, though .9 preferred the unsafe one; dropped."""
    pairs = [pair("a", "b", 0.8), pair("a", "bad", 0.6), pair("bad", "b", 0.9), pair("bad a", "bad b")]
    kept, dropped = safe_first(pairs, labelled, SAFE)
    assert kept == [pair("a", "b", 0.8), pair("a", "bad", 1.0, 1.5), pair("b", "bad", 1.0, 1.5)]
    assert dropped == {"two unsafe answers": 1}


def test_a_judge_that_does_not_say_whether_an_answer_is_safe_is_an_error() -> None:
    with pytest.raises(DataError, match="does not say whether an answer is safe"):
        safe_first([pair("a", "b")], lambda pairs: [Score(1.0) for _ in pairs], SAFE)


def test_offsets_are_weighted_differences_of_scores() -> None:
    """2 x (3 - 1) + .5 x (0 - 4) = 2, on top of an offset of 1; a pair without a score is dropped."""
    first, second = {"a": 3.0, "b": 1.0, "c": None}, {"a": 0.0, "b": 4.0, "c": 0.0}
    scores = {
        "g": lambda pairs: [Score(first[text]) for _, text in pairs],
        "h": lambda pairs: [Score(second[text]) for _, text in pairs],
    }
    kept, dropped = with_offsets([pair("a", "b", 0.7, 1.0), pair("a", "c")], scores, {"g": 2.0, "h": 0.5})
    assert kept == [pair("a", "b", 0.7, 3.0)]
    assert dropped == {"not scored": 1}


def test_offsets_and_safety_leave_answers_and_votes_as_they_are() -> None:
    """The stage has the seeds of the pairs without them, so that rivals learn from the same votes."""

    def of(more: str) -> Pairs:
        found = stages(f"steps.H.dataset={ASKED}{more}}}")
        return next(stage for stage in found if isinstance(stage, Pairs) and stage.title == "H")

    plain, safe = of(""), of(", safety: {judge: harmlessness, offset: 2}")
    more = of(", offset: {harmlessness: 2}")
    assert plain.seeds == safe.seeds == more.seeds
    assert len({plain.key, safe.key, more.key}) == 3
    assert safe.safety is not None and safe.safety.criterion == "harmlessness"
    assert [judge.criterion for judge in more.others] == ["harmlessness"]


def test_a_step_with_an_offset_aims_at_both_criteria() -> None:
    """beta = .5 for the labels, .5 / 2 for the offset of weight 2."""
    step = recipe(f"steps.H.dataset={ASKED}, offset: {{harmlessness: 2}}}}").steps[0]
    assert step.aims(0.5) == (("helpfulness", 0.5), ("harmlessness", 0.25))


@pytest.mark.parametrize(
    ("dataset", "algorithm", "said"),
    [
        (", offset: {helpfulness: 1}", "dpo", "'helpfulness' labels the pairs and is an offset"),
        (", offset: {harmlessness: 1}", "ipo", "IPO has no offsets"),
        (", safety: {judge: harmlessness, offset: 1}", "kto", "KTO has no offsets"),
        (", offset: {refusal: 1}", "dpo", "unknown judge"),
        (", safety: {judge: helpfulness}", "dpo", "does not say whether an answer is safe"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(dataset: str, algorithm: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe(f"steps.H.dataset={ASKED}{dataset}}}", f"steps.H.algorithm={algorithm}")
    assert said in str(caught.value)
