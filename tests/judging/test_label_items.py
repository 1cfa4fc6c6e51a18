"""Questions to people: blind ids, draws that stand still, verdicts that follow the answer and not its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelling_toys import answers

from sacpo.data.records import Answer, Kind, Outcome, Prompt
from sacpo.errors import DataError
from sacpo.judging.llm.store import Store
from sacpo.judging.people import Session
from sacpo.judging.people.items import Item, items_of, labels_of, read_items


def test_a_verdict_follows_the_answer_wherever_it_was_shown() -> None:
    prompt = Prompt.from_text("how?", id="p", cluster="c", category="theft", kind=Kind.BORDERLINE)
    a, b = Answer(prompt, "tuned", "one", sample=2), Answer(prompt, "sft", "two", sample=2)
    for swapped, order, shown in ((False, "ab", ["one", "two"]), (True, "ba", ["two", "one"])):
        item = Item(a, b, swapped)
        assert item.shown()["answers"] == shown
        chosen = {shown[0]: "first", shown[1]: "second"}
        won, lost = (item.verdict("ann", "helpfulness", chosen[text]) for text in ("one", "two"))
        assert (won.outcome, lost.outcome, won.order) == (Outcome.WIN, Outcome.LOSS, order)
        assert (won.judge, won.cluster, won.category, won.kind, won.sample) == (
            "human:ann",
            "c",
            "theft",
            Kind.BORDERLINE,
            2,
        )
        assert (won.answer_hash, won.baseline_hash) == (a.hash, b.hash)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.text(min_size=1, max_size=5), st.integers(1, 20), st.integers(1, 20))
def test_more_answers_move_nothing_that_was_drawn(seed: int, annotator: str, few: int, more: int) -> None:
    small = items_of(answers("a", few), answers("b", few), annotator=annotator, seed=seed)
    large = items_of(answers("a", few + more), answers("b", few + more), annotator=annotator, seed=seed)
    kept = {item.id for item in small}
    assert [item for item in large if item.id in kept] == small


def test_orders_are_even_and_differ_between_annotators() -> None:
    n = 400
    ann, bob = (items_of(answers("a", n), answers("b", n), annotator=name) for name in ("ann", "bob"))
    for items in (ann, bob):
        assert 160 <= sum(item.swapped for item in items) <= 240  # four standard deviations of 10
    assert [item.id for item in ann] != [item.id for item in bob]
    places = {item.id: item.swapped for item in bob}
    assert 160 <= sum(item.swapped == places[item.id] for item in ann) <= 240


def test_a_prompt_that_stands_twice_is_asked_once() -> None:
    assert len(items_of(answers("a") * 2, answers("b") * 2, annotator="ann")) == 6
    assert len(items_of(answers("a") * 2, None, annotator="ann")) == 6


def test_what_cannot_be_asked_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no answer to 2 of the prompts"):
        items_of(answers("a", 6), answers("b", 4), annotator="ann")
    with pytest.raises(DataError, match="several models"):
        items_of(answers("a"), [*answers("b"), *answers("c")], annotator="ann")
    with pytest.raises(DataError, match="no answers to label"):
        items_of([], None, annotator="ann")
    with pytest.raises(DataError, match="no such file"):
        read_items(tmp_path / "none.jsonl", None, annotator="ann")
    with pytest.raises(DataError, match="no labels are known"):
        labels_of("helpfulness", pairwise=False)
    with pytest.raises(DataError, match="needs a name"):
        Session(items_of(answers("a"), None, annotator=" "), lambda: Store(tmp_path / "s"), " ", "refusal")
