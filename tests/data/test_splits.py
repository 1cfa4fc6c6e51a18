"""Prompts that training and evaluation share."""

from __future__ import annotations

from pathlib import Path

import pytest

from sacpo.data.records import Demonstration, Labelled, Message, Pair, Prompt
from sacpo.data.sources import read_source
from sacpo.data.splits import check_apart, check_shared, prompt_key, shared_prompts
from sacpo.errors import DataError
from sacpo.recipe.schema import SourceSpec


def chat(*texts: str) -> Prompt:
    return Prompt(tuple(Message("assistant" if i % 2 else "user", text) for i, text in enumerate(texts)))


TRAINING = {
    "pairs": [Pair(Prompt.from_text("What is  it?"), "A", "B"), Pair(Prompt.from_text("what is it? "), "C", "D")],
    "kto": [Labelled(chat("one", "two", "three"), "A", True)],
    "sft": [Demonstration(Prompt.from_text("three"), "A")],
}
EVALUATION = {
    "tuning": [Prompt.from_text("other"), Prompt.from_text("WHAT IS IT?"), Prompt.from_text("Three")],
    "report": [chat("one", "2", "three"), chat("One", "two", "three")],
}


def test_shared_prompts_are_found_by_what_they_ask() -> None:
    """A conversation is shared as a whole: its last turn alone ("three") is another prompt."""
    tuning, report = EVALUATION["tuning"], EVALUATION["report"]
    assert shared_prompts(TRAINING, EVALUATION) == [
        ("pairs", "tuning", 1, tuning[1].id),
        ("kto", "report", 1, report[1].id),
        ("sft", "tuning", 1, tuning[2].id),
    ]
    assert shared_prompts(TRAINING, {"none": [Prompt.from_text("what is it")]}) == []


def test_selection_and_report_have_prompts_of_their_own() -> None:
    tuning, report = {"tuning": EVALUATION["tuning"]}, {"report": [Prompt.from_text("Other")]}
    with pytest.raises(DataError, match="selection and reported figures share prompts") as caught:
        check_apart(tuning, report, allow=False)
    assert "prompt set 'tuning' and prompt set 'report' share 1 prompt" in str(caught.value)
    assert len(check_apart(tuning, report, allow=True)) == 1
    assert check_apart(tuning, {"report": EVALUATION["report"]}, allow=False) == []


def test_unicode_variants_and_system_texts_make_no_difference() -> None:
    assert prompt_key(Prompt.from_text("Ｃａｆé\u00a0x")) == prompt_key(Prompt.from_text("cafe\u0301 x"))
    with_system = Prompt((Message("system", "S"), Message("user", "Q")))
    assert prompt_key(with_system) == prompt_key(Prompt.from_text("q"))


def test_sharing_is_an_error_unless_allowed() -> None:
    with pytest.raises(DataError) as caught:
        check_shared(TRAINING, EVALUATION, allow=False)
    text = str(caught.value)
    assert "'pairs' and prompt set 'tuning' share 1 prompt" in text and "allow_shared_prompts: true" in text
    assert "it?" not in text  # ids, not texts
    warnings = check_shared(TRAINING, EVALUATION, allow=True)
    assert len(warnings) == 3 and EVALUATION["report"][1].id in warnings[1]
    assert check_shared({"sft": []}, EVALUATION, allow=False) == []


def test_published_splits_are_disjoint(real_data: Path) -> None:
    folder = real_data / "pku_saferlhf"
    train, test = (
        read_source(
            SourceSpec(format="pku-safe-rlhf", path=str(folder / name)), name="x", seed=0, as_="prompts"
        ).records
        for name in ("safety_pairs_train.jsonl", "safety_pairs_test.jsonl")
    )
    assert (len(train), len(test)) == (633, 108)
    prompts = [prompt for prompt in test if isinstance(prompt, Prompt)]
    assert check_shared({"train": train}, {"test": prompts}, allow=False) == []
    assert check_shared({"train": [*train, prompts[5]]}, {"test": prompts}, allow=True)
