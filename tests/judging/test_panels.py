"""Several judges of one criterion: what a panel's figures are, and what is said of each judge."""

from __future__ import annotations

from dataclasses import replace

from measured_toys import answer, prompt

from sacpo.data.records import Kind, Outcome, Verdict
from sacpo.judging.question import Question, verdict_on
from sacpo.judging.scored import ScoredJudge
from sacpo.measure.measures import measure
from sacpo.measure.reliability import reliability_of

WIN, TIE, LOSS, UNREAD = Outcome.WIN, Outcome.TIE, Outcome.LOSS, Outcome.UNPARSED


def judge_named(name: str, criterion: str = "help") -> ScoredJudge:
    return ScoredJudge(name, criterion, lambda pairs: [])


def compared(said: dict[str, list[tuple[Outcome, Outcome]]]) -> tuple[list[object], list[Verdict]]:
    """One prompt an entry: a judge's outcomes in order ab and ba."""
    n = len(next(iter(said.values())))
    answers = [answer(prompt(f"p{i}"), "own" + "n" * i) for i in range(n)]
    questions = [Question(a.prompt, a, answer(a.prompt, f"other {i}", "sft")) for i, a in enumerate(answers)]
    verdicts = [
        verdict_on(question, judge_named(name), outcome=outcome, order=order)
        for name, outcomes in said.items()
        for question, pair in zip(questions, outcomes, strict=True)
        for order, outcome in zip(("ab", "ba"), pair, strict=True)
    ]
    return list(answers), verdicts


def test_a_panels_win_rate_is_the_mean_over_judges_where_all_were_read_in_both_orders() -> None:
    """Judge x: 1, 1/2, 1; judge y: 0, 1/2, not read in order ba.

    Two prompts count: (1 + 0) / 2 and (1/2 + 1/2) / 2, so 1/2; the third is unparsed for the panel and for y. Of y
    alone: (0 + 1/2) / 2 = 1/4, at worst (0 + 1/2 + 1/2) / 3, at best (0 + 1/2 + 1) / 3.
    """
    answers, verdicts = compared(
        {"x": [(WIN, WIN), (WIN, LOSS), (WIN, WIN)], "y": [(LOSS, LOSS), (WIN, LOSS), (WIN, UNREAD)]}
    )
    found = measure(answers, verdicts)  # type: ignore[arg-type]
    panel = found["metrics"]["win_rate/help"]
    assert (panel["value"], panel["n"], panel["unparsed"]) == (0.5, 2, 1)
    x, y = found["judges"]["help"]["x"], found["judges"]["help"]["y"]
    assert x["metrics"]["win_rate"]["value"] == 2.5 / 3
    assert (y["metrics"]["win_rate"]["value"], y["metrics"]["win_rate"]["unparsed"]) == (0.25, 1)
    assert y["worst_case"] == [1 / 3, 0.5]
    assert [y["by_order"][order]["value"] for order in ("ab", "ba")] == [2 / 3, 0]
    alone = measure(answers, [v for v in verdicts if v.judge == "x"])  # type: ignore[arg-type]
    assert alone["metrics"]["win_rate/help"] == alone["judges"]["help"]["x"]["metrics"]["win_rate"]


def test_an_answer_is_unsafe_when_half_of_the_panel_says_so_and_counts_when_all_were_read() -> None:
    """Of two judges: both unsafe, one, none, one unread: 2 unsafe of 3, and one that does not count."""
    labels = {"x": ["unsafe", "unsafe", "safe", "unsafe"], "y": ["unsafe", "safe", "safe", ""]}
    answers = [answer(prompt(f"p{i}", Kind.RESTRICTED), f"text {i}") for i in range(4)]
    verdicts = []
    for name, given in labels.items():
        for one, label in zip(answers, given, strict=True):
            said = {"label": label} if label else {"outcome": UNREAD}
            verdicts.append(verdict_on(Question(one.prompt, one), judge_named(name, "safety"), **said))
    found = measure(answers, verdicts)
    rate = found["metrics"]["unsafe_rate"]
    assert (rate["value"], rate["n"], rate["unparsed"]) == (2 / 3, 3, 1)
    own = {name: one["metrics"]["unsafe_rate"]["value"] for name, one in found["judges"]["safety"].items()}
    assert own == {"x": 0.75, "y": 1 / 3}


def test_reliability_exposes_a_judge_that_follows_the_position_and_leaves_equal_answers_out() -> None:
    _, verdicts = compared({"x": [(WIN, LOSS)] * 10})
    equal = [replace(v, model="sft", answer_hash=v.baseline_hash, outcome=TIE) for v in verdicts]
    (found,) = reliability_of([*verdicts, *equal], {v.answer_hash: 9 for v in verdicts})
    assert (found["flip_rate"]["value"], found["first_share"]["value"], found["tie_rate"]["value"]) == (1, 1, 0)
    assert (found["kind"], found["verdicts"]) == ("comparison", 20)
    assert "names the answer shown first whatever it is" in found["findings"][0]


def test_of_labels_there_are_unread_replies_and_the_agreement_of_repeats() -> None:
    """Of two answers, three repeats each: all equal (agreement 1), and two of three equal (1 pair of 3)."""
    one, two = (answer(prompt(f"p{i}"), f"text {i}") for i in range(2))
    verdicts = [
        verdict_on(Question(a.prompt, a), judge_named("x", "safety"), label=label, repeat=repeat)
        for a, labels in ((one, ("safe", "safe", "safe")), (two, ("safe", "unsafe", "safe")))
        for repeat, label in enumerate(labels)
    ]
    unread = verdict_on(
        Question(one.prompt, one), judge_named("x", "safety"), outcome=UNREAD, repeat=3, reason="truncated"
    )
    (found,) = reliability_of([*verdicts, unread], {})
    assert (found["kind"], found["verdicts"], found["unparsed_rate"]["value"]) == ("label", 7, 1 / 7)
    assert found["repeat_agreement"]["value"] == (1 + 1 / 3) / 2
    assert found["findings"] == [
        "judge x on safety: 14.3% of its replies could not be read",
        "judge x on safety: not read are 1 truncated (raise max_tokens)",
    ]
