"""Measures of one model on one prompt set, counted by hand, and what may not change them."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from measured_toys import WordJudge, answer, number_judge, prompt

from sacpo.data.records import Answer, Kind, Outcome, Prompt, Verdict
from sacpo.errors import DataError
from sacpo.judging.question import Question, verdict_on
from sacpo.judging.verdicts import judge_answers
from sacpo.measure.items import items_of
from sacpo.measure.measures import measure
from sacpo.report.results import Measures
from sacpo.stats.intervals import clustered_rate, mean_interval, rate_interval, win_rate


def values(found: dict[str, Any]) -> dict[str, float | None]:
    return {name: estimate["value"] for name, estimate in found["metrics"].items()}


def compared(pairs: list[tuple[str, str]], category: str = "") -> tuple[list[Answer], list[Verdict]]:
    """Answers whose texts are their scores, against the baseline's."""
    prompts = [prompt(f"p{i:03}", Kind.ORDINARY, category) for i in range(len(pairs))]
    answers = [answer(p, own) for p, (own, _) in zip(prompts, pairs, strict=True)]
    baseline = [answer(p, other, "sft") for p, (_, other) in zip(prompts, pairs, strict=True)]
    return answers, judge_answers(number_judge(), answers, baseline)


def test_win_rate_and_score_by_hand() -> None:
    """Two wins, a tie, a loss and one unparsed: (2 + .5) / 4 = .625; the scores 5, 4, 1, 0 of those read mean 2.5."""
    answers, verdicts = compared([("5", "1"), ("4", "1"), ("1", "1"), ("0", "1"), ("?", "1")])
    found = measure(answers, verdicts)
    assert found["outcomes"] == {"help": {"win": 2, "tie": 1, "loss": 1, "unparsed": 1}}
    assert found["metrics"]["win_rate/help"] == win_rate([1, 1, 0.5, 0], unparsed=1).to_json()
    assert found["metrics"]["win_rate/help"]["value"] == 0.625
    assert found["metrics"]["mean_score/help"] == mean_interval([5.0, 4.0, 1.0, 0.0], unparsed=1).to_json()
    assert found["categories"] == {}
    assert Measures.model_validate(found).metrics["win_rate/help"].unparsed == 1


def test_the_baseline_beside_itself_ties_whatever_the_prompts() -> None:
    """No sample of prompts could give another value than one half, so the interval is that point."""
    _, (first, *_) = compared([("1", "2"), ("3", "1")])
    own = [answer(prompt(f"p{i:03}", Kind.ORDINARY), text, first.baseline) for i, text in enumerate(["1", "2", "3"])]
    found = measure(own, judge_answers(number_judge(), own, own))["metrics"]["win_rate/help"]
    assert (found["value"], found["ci95"], found["n"]) == (0.5, [0.5, 0.5], 3)
    _, same = compared([("1", "1"), ("2", "2")])  # another model that says the same
    low, high = measure(compared([("1", "1"), ("2", "2")])[0], same)["metrics"]["win_rate/help"]["ci95"]
    assert low < 0.5 < high


def test_rates_by_kind_of_prompt() -> None:
    """Restricted: 1 unsafe of 2 with a label, and both refused or not; borderline: 2 refusals of 3, one in part.

    The ordinary prompt's "unsafe" and refusal count nowhere, and neither does the borderline prompts' safety.
    """
    kinds = [Kind.RESTRICTED] * 3 + [Kind.BORDERLINE] * 3 + [Kind.ORDINARY]
    prompts = [prompt(str(i), kind) for i, kind in enumerate(kinds)]
    answers = [answer(p, str(i)) for i, p in enumerate(prompts)]

    def labels(criterion: str, words: list[str]) -> list[Verdict]:
        pairs = zip(answers, words, strict=True)
        judge = WordJudge(criterion)
        return [
            verdict_on(Question(a.prompt, a), judge, label=word, outcome=None if word else Outcome.UNPARSED)
            for a, word in pairs
        ]

    harm = labels("harm", ["unsafe", "safe", "", "unsafe", "safe", "safe", "unsafe"])
    kinds_of_refusal = ["full_refusal", "compliance", "refusal", "full_refusal", "partial_refusal", "compliance"]
    refusals = labels("refusal", [*kinds_of_refusal, "full_refusal"])
    found = measure(answers, harm + refusals)["metrics"]
    assert found["unsafe_rate"] == rate_interval(1, 2, unparsed=1).to_json()
    assert found["over_refusal_rate"] == rate_interval(2, 3).to_json()
    assert found["over_refusal_rate/full"] == found["over_refusal_rate/partial"] == rate_interval(1, 3).to_json()
    assert found["refusal_rate"] == rate_interval(2, 3).to_json()
    assert "refusal_rate/full" not in found  # one of the two refusals does not say which kind it is
    assert not [name for name in found if name.startswith(("win_rate", "mean_score"))]


def test_prompts_of_unknown_kind_count_as_restricted_where_none_is() -> None:
    answers = [answer(prompt(str(i)), text) for i, text in enumerate(["unsafe", "safe", "safe", "safe"])]
    found = measure(answers, WordJudge("harm").judge([Question(a.prompt, a) for a in answers]))
    assert values(found)["unsafe_rate"] == 0.25
    answers.append(answer(prompt("r", Kind.RESTRICTED), "unsafe"))
    found = measure(answers, WordJudge("harm").judge([Question(a.prompt, a) for a in answers]))
    assert found["metrics"]["unsafe_rate"] == rate_interval(1, 1).to_json()


def test_an_answer_is_unsafe_if_any_criterion_says_so() -> None:
    answers = [answer(prompt(str(i), Kind.RESTRICTED), "x") for i in range(2)]
    first, second = WordJudge("a"), WordJudge("b")
    questions = [Question(a.prompt, a) for a in answers]
    verdicts = [verdict_on(q, first, label="safe") for q in questions]
    verdicts += [verdict_on(q, second, label=label) for q, label in zip(questions, ["safe", "unsafe"], strict=True)]
    assert measure(answers, verdicts)["metrics"]["unsafe_rate"] == rate_interval(1, 2).to_json()


def test_an_answer_of_which_one_criterion_was_not_read_is_not_safe_because_another_says_so() -> None:
    """Criterion b is not read on two answers: what a calls unsafe is unsafe, of what a calls safe nothing is known."""
    answers = [answer(prompt(str(i), Kind.RESTRICTED), "x") for i in range(4)]
    questions = [Question(a.prompt, a) for a in answers]
    said = {"a": ["safe", "unsafe", "safe", "safe"], "b": ["", "", "safe", "unsafe"]}
    verdicts = [
        verdict_on(q, WordJudge(name), label=word, outcome=None if word else Outcome.UNPARSED)
        for name, words in said.items()
        for q, word in zip(questions, words, strict=True)
    ]
    assert measure(answers, verdicts)["metrics"]["unsafe_rate"] == rate_interval(2, 3, unparsed=1).to_json()
    assert [item.value for item in items_of(verdicts, "unsafe_rate", None)] == [None, 1.0, 0.0, 1.0]


def test_several_samples_of_a_prompt_are_one_item_of_a_win_rate_and_a_cluster_of_a_rate() -> None:
    """Prompt a: win and loss = .5; b: win and win = 1: mean .75 of two items. Truncated: 3 of 4, two clusters."""
    places = [prompt("a"), prompt("b")]
    flags = [True, True, True, False]
    answers = [
        answer(places[i // 2], text, sample=i % 2, n_tokens=10 * i, truncated=flags[i])
        for i, text in enumerate(["2", "0", "3", "3"])
    ]
    baseline = [answer(p, "1", "sft", sample=s) for p in places for s in (0, 1)]
    found = measure(answers, judge_answers(number_judge(), answers, baseline))["metrics"]
    assert found["win_rate/help"] == win_rate([0.5, 1.0]).to_json()
    assert found["truncated_rate"] == clustered_rate(flags, ["a", "a", "b", "b"]).to_json()
    assert (found["mean_tokens"]["value"], found["mean_tokens"]["n"], found["mean_tokens"]["clusters"]) == (15.0, 4, 2)


def test_prompts_of_one_cluster_are_not_independent() -> None:
    def widths(clusters: list[str]) -> float:
        prompts = [prompt(str(i), cluster=cluster) for i, cluster in enumerate(clusters)]
        answers = [answer(p, "2" if i % 8 < 4 else "0") for i, p in enumerate(prompts)]
        baseline = [answer(p, "1", "sft") for p in prompts]
        estimate = measure(answers, judge_answers(number_judge(), answers, baseline))["metrics"]["win_rate/help"]
        assert estimate["clusters"] == len(set(clusters))
        return estimate["ci95"][1] - estimate["ci95"][0]

    alone, fours = widths([str(i) for i in range(80)]), widths([str(i // 4) for i in range(80)])
    assert fours > 1.7 * alone  # four wholly alike items a cluster: a quarter of the information, twice the width


def test_flags_lengths_and_divergence() -> None:
    """Degenerate 1 of 4, tokens (1 + 2 + 3 + 6) / 4 = 3, KL (.1 + .3 + .5) / 3 = .3 over two clusters."""
    answers = [
        answer(prompt(str(i)), str(i), n_tokens=n, degenerate="repeating" if i == 2 else "")
        for i, n in enumerate([1, 2, 3, 6])
    ]
    found = measure(answers, [], [("a", 0.1), ("a", 0.3), ("b", 0.5)])
    assert values(found) == {"mean_tokens": 3, "truncated_rate": 0, "degenerate_rate": 0.25, "kl": pytest.approx(0.3)}
    assert found["metrics"]["kl"] == mean_interval([0.1, 0.3, 0.5], ["a", "a", "b"]).to_json()
    assert (found["outcomes"], found["categories"]) == ({}, {})
    assert "kl" not in measure(answers, [], [])["metrics"]


def test_categories_hold_what_was_counted_in_them() -> None:
    """Category x: unsafe 1 of 2 restricted; y: one borderline refusal; prompts without a category are in no table."""
    places = [
        *(prompt(f"x{i}", Kind.RESTRICTED, "x") for i in range(2)),
        prompt("y", Kind.BORDERLINE, "y"),
        prompt("z", Kind.RESTRICTED),
    ]
    answers = [answer(p, t) for p, t in zip(places, ["unsafe", "safe", "compliance", "unsafe"], strict=True)]
    questions = [Question(a.prompt, a) for a in answers]
    verdicts = WordJudge("harm").judge([questions[i] for i in (0, 1, 3)])
    verdicts += WordJudge("refusal").judge(questions[2:3])
    found = measure(answers, verdicts)
    assert found["metrics"]["unsafe_rate"]["n"] == 3
    assert found["categories"] == {
        "x": {"unsafe_rate": rate_interval(1, 2).to_json()},
        "y": {"over_refusal_rate": rate_interval(0, 1).to_json()},
    }
    answers, verdicts = compared([("1", "0"), ("1", "1")], category="c")
    assert measure(answers, verdicts)["categories"]["c"] == {"win_rate/help": win_rate([1.0, 0.5]).to_json()}


def test_what_does_not_belong_together_is_refused() -> None:
    answers, verdicts = compared([("1", "0"), ("2", "0")])
    with pytest.raises(DataError, match="not among the answers"):
        measure([answers[0], answer(answers[1].prompt, "another text")], verdicts)
    with pytest.raises(DataError, match="several models"):
        measure([*answers, answer(prompt("z"), "1", "sft")], verdicts)
    with pytest.raises(DataError, match="no answers"):
        measure([], [])
    against_another = judge_answers(number_judge(), answers, [answer(a.prompt, "0", "base") for a in answers])
    with pytest.raises(DataError, match="several baselines"):
        measure(answers, verdicts + against_another)


NUMBERS = st.tuples(st.integers(0, 3).map(str), st.integers(0, 3).map(str))


@given(st.lists(NUMBERS, min_size=2, max_size=12), st.randoms(use_true_random=False))
def test_order_and_duplicates_change_nothing(pairs: list[tuple[str, str]], rng: random.Random) -> None:
    answers, verdicts = compared(pairs, category="c")
    told = json.dumps(measure(answers, verdicts))
    mixed_answers, mixed = [*answers, *answers[:3]], [*verdicts, *verdicts[:3]]
    rng.shuffle(mixed_answers)
    rng.shuffle(mixed)
    assert json.dumps(measure(mixed_answers, mixed)) == told


@given(st.lists(NUMBERS, min_size=2, max_size=10), st.integers(1, 5))
def test_unparsed_verdicts_never_move_a_win_rate(pairs: list[tuple[str, str]], extra: int) -> None:
    read = measure(*compared(pairs))["metrics"]["win_rate/help"]
    with_unread = measure(*compared([*pairs, *[("?", "1")] * extra]))["metrics"]["win_rate/help"]
    assert with_unread == {**read, "unparsed": extra}


@given(st.lists(NUMBERS, min_size=2, max_size=10))
def test_swapping_the_sides_mirrors_the_win_rate(pairs: list[tuple[str, str]]) -> None:
    forth = measure(*compared(pairs))["metrics"]["win_rate/help"]["value"]
    back = measure(*compared([(b, a) for a, b in pairs]))["metrics"]["win_rate/help"]["value"]
    assert forth + back == pytest.approx(1)


def test_every_category_is_measured_by_itself() -> None:
    """600 prompts in 20 categories, two compared criteria and refusals."""
    rng = random.Random(0)
    kinds = [Kind.ORDINARY, Kind.RESTRICTED, Kind.BORDERLINE]
    prompts: list[Prompt] = [prompt(f"p{i}", kinds[i % 3], f"c{i % 20}", f"k{i // 4}") for i in range(600)]
    answers = [answer(p, str(rng.randint(0, 5)), n_tokens=rng.randint(1, 99)) for p in prompts]
    baseline = [answer(p, "2", "sft") for p in prompts]
    verdicts = [v for name in ("help", "harm") for v in judge_answers(number_judge(name), answers, baseline)]
    judge = WordJudge("refusal")
    words = ["full_refusal", "compliance"]
    verdicts += [verdict_on(Question(a.prompt, a), judge, label=rng.choice(words)) for a in answers]
    found = measure(answers, verdicts)["categories"]
    assert set(found) == {f"c{i}" for i in range(20)}
    rate = sum(v.label == "full_refusal" for v in verdicts if v.prompt_id in {p.id for p in prompts[1::60]}) / 10
    assert found["c1"]["refusal_rate"]["value"] == pytest.approx(rate)


def test_refusals_on_prompts_of_unknown_kind_count_where_none_is_restricted() -> None:
    answers = [answer(Prompt.from_text(f"q{i}"), word) for i, word in enumerate(["full_refusal", "compliance"])]
    judge = WordJudge("refusal")
    verdicts = [verdict_on(Question(a.prompt, a), judge, label=a.text) for a in answers]
    assert measure(answers, verdicts)["metrics"]["refusal_rate"] == rate_interval(1, 2).to_json()


def test_a_label_judge_of_whom_nothing_was_read_counts_no_answer_and_is_named() -> None:
    """Three restricted prompts. Nothing read: n = 0, 3 unparsed. In a panel the other judge's labels count neither.

    What the labels would have meant, the other judge tells, or the criterion's name; a pairwise judge's unread replies
    are no labels.
    """
    places = [prompt(f"p{i}", Kind.RESTRICTED) for i in range(3)]
    answers = [answer(place, "unsafe") for place in places]

    class Unread(WordJudge):
        name = "unread"

        def judge(self, questions: Sequence[Question]) -> list[Verdict]:
            unread = {"outcome": Outcome.UNPARSED, "reason": "truncated"}
            return [verdict_on(q, self, compared=False, **unread) for q in questions]

    def rates(criterion: str, *judges: type[WordJudge]) -> dict[str, Any]:
        verdicts = [v for judge in judges for v in judge_answers(judge(criterion), answers, None)]
        return measure(answers, verdicts)

    for criterion in ("safety", "harmlessness"):
        alone = rates(criterion, Unread)["metrics"]["unsafe_rate"]
        assert (alone["value"], alone["n"], alone["unparsed"]) == (None, 0, 3)
    assert "refusal_rate" in rates("refusal", Unread)["metrics"]
    assert rates("politeness", Unread)["metrics"] == {}
    panel = rates("politeness", Unread, WordJudge)
    assert (panel["metrics"]["unsafe_rate"]["n"], panel["metrics"]["unsafe_rate"]["unparsed"]) == (0, 3)
    assert panel["judges"]["politeness"]["unread"]["metrics"]["unsafe_rate"]["unparsed"] == 3
    assert panel["judges"]["politeness"]["words"]["metrics"]["unsafe_rate"]["value"] == 1
    baseline = [answer(place, "safe", "sft") for place in places]
    both = judge_answers(WordJudge("safety"), answers, None)
    pairwise = [
        replace(v, judge="p", outcome=Outcome.UNPARSED, label="", baseline="sft", baseline_hash=baseline[0].hash)
        for v in both
    ]
    assert measure(answers, pairwise)["metrics"].keys() == {"win_rate/safety"}


def test_full_and_partial_refusals_of_a_panel_add_up_to_all() -> None:
    """Two judges: both full; full and partial (half say full, so full); partial and none (half refuse); none; unread.

    So 3 of 4 are refused, 2 in full and 1 in part; each judge's own figures count its own labels alone.
    """
    prompts = [prompt(f"q{i}", Kind.BORDERLINE, "c") for i in range(5)]
    answers = [answer(p, "x") for p in prompts]
    said = {
        "a": ["full_refusal", "full_refusal", "partial_refusal", "compliance", "full_refusal"],
        "b": ["full_refusal", "partial_refusal", "full_compliance", "compliance", ""],
    }
    verdicts = []
    for name, words in said.items():
        judge = WordJudge("refusal")
        judge.name = name
        verdicts += [
            verdict_on(Question(a.prompt, a), judge, label=word, outcome=None if word else Outcome.UNPARSED)
            for a, word in zip(answers, words, strict=True)
        ]
    found = measure(answers, verdicts)
    assert found["metrics"]["over_refusal_rate"] == rate_interval(3, 4, unparsed=1).to_json()
    assert found["metrics"]["over_refusal_rate/full"] == rate_interval(2, 4, unparsed=1).to_json()
    assert found["metrics"]["over_refusal_rate/partial"] == rate_interval(1, 4, unparsed=1).to_json()
    assert found["categories"]["c"] == {"over_refusal_rate": rate_interval(3, 4, unparsed=1).to_json()}
    own = found["judges"]["refusal"]
    assert own["a"]["metrics"]["over_refusal_rate"] == rate_interval(4, 5).to_json()
    assert own["a"]["metrics"]["over_refusal_rate/full"] == rate_interval(3, 5).to_json()
    assert own["b"]["metrics"]["over_refusal_rate/partial"] == rate_interval(1, 4, unparsed=1).to_json()
    assert Measures.model_validate(found).metrics["over_refusal_rate/full"].value == 0.5
