"""Answers meet the baseline's answers of the same prompt and sample, and nothing else."""

from __future__ import annotations

import pytest
from measured_toys import answer, number_judge, prompt

from sacpo.data.records import Outcome
from sacpo.errors import DataError
from sacpo.judging.verdicts import judge_answers

P, Q = prompt("p"), prompt("q")


def test_pairs_by_prompt_and_sample_in_the_answers_order() -> None:
    """p: samples 3 > 1 and 2 < 5; q: 4 = 4. The baseline's own order plays no part."""
    answers = [answer(Q, "4"), answer(P, "2", sample=1), answer(P, "3")]
    baseline = [
        answer(P, "1", "sft"),
        answer(P, "5", "sft", sample=1),
        answer(Q, "4", "sft"),
        answer(Q, "9", "sft", sample=7),
    ]
    for order in (baseline, baseline[::-1]):
        verdicts = judge_answers(number_judge(), answers, order)
        assert [(v.prompt_id, v.sample, v.outcome) for v in verdicts] == [
            ("q", 0, "tie"),
            ("p", 1, "loss"),
            ("p", 0, "win"),
        ]
        assert {v.baseline for v in verdicts} == {"sft"}


def test_the_baseline_against_itself_is_all_ties() -> None:
    baseline = [answer(prompt(str(i)), str(i), "sft") for i in range(5)]
    assert [v.outcome for v in judge_answers(number_judge(), baseline, baseline)] == [Outcome.TIE] * 5


def test_without_a_baseline_answers_are_judged_alone() -> None:
    verdicts = judge_answers(number_judge(), [answer(P, "3"), answer(Q, "-1")], None)
    assert [(v.outcome, v.score, v.baseline) for v in verdicts] == [(None, 3.0, ""), (None, -1.0, "")]


def test_missing_baseline_answers_are_named() -> None:
    with pytest.raises(DataError, match=r"2 of 3(.|\n)*'prompt p' \(p, sample 1\), 'prompt q' \(q\)"):
        judge_answers(
            number_judge(), [answer(P, "1"), answer(P, "1", sample=1), answer(Q, "2")], [answer(P, "1", "sft")]
        )


def test_a_prompt_that_stands_twice_in_a_set_is_judged_once() -> None:
    answers = [answer(P, "3"), answer(Q, "1"), answer(P, "3")]
    baseline = [answer(P, "1", "sft"), answer(P, "1", "sft"), answer(Q, "1", "sft")]
    assert [v.prompt_id for v in judge_answers(number_judge(), answers, baseline)] == ["p", "q"]


def test_ambiguous_answers_are_refused() -> None:
    with pytest.raises(DataError, match="two different answers"):
        judge_answers(number_judge(), [answer(P, "3")], [answer(P, "1", "sft"), answer(P, "2", "sft")])
    with pytest.raises(DataError, match="two different answers"):
        judge_answers(number_judge(), [answer(P, "3"), answer(P, "4")], None)
    with pytest.raises(DataError, match="several models"):
        judge_answers(number_judge(), [answer(P, "3")], [answer(P, "1", "sft"), answer(Q, "2", "base")])
