"""What pairs are drawn, what verdicts make of them, and how far judges agree, before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sacpo.data.records import Answer, Outcome, Prompt, Verdict
from sacpo.errors import DataError
from sacpo.judging.preferences import preferences
from sacpo.pipeline.collect.card import agreement, noise
from sacpo.pipeline.collect.drawing import draw_pairs
from sacpo.pipeline.collect.labels import Labels
from sacpo.pipeline.collect.rows import rows_of
from sacpo.pipeline.collect.stage import no_labels
from sacpo.recipe.collect import LabelSpec

ORACLES = {
    "world": {"seed": 0, "ordinary": 6, "restricted": 4, "borderline": 4},
    "judges": {"helpfulness": {"kind": "oracle"}, "harmlessness": {"kind": "oracle"}},
}


def answer(text: str, prompt: str = "p", model: str = "m", sample: int = 0) -> Answer:
    return Answer(Prompt.from_text(prompt), model, text, sample=sample)


# Pairs


def test_pairs_hold_two_different_answers_and_no_answer_twice() -> None:
    """Of five answers one is empty and one repeats another: three are left, and one pair; the second prompt has one."""
    said = [
        "to bake bread, mix flour and water",
        "To bake bread,  mix flour and water",
        " ",
        "no",
        "ask somebody else about it",
    ]
    answers = [answer(text, sample=i) for i, text in enumerate(said)] + [answer("alone", "q")]
    pairs, left = draw_pairs(answers, 2, 0.8, 0)
    assert len(pairs) == 1
    assert left == {"empty answer": 1, "near-duplicate answer": 1, "prompt without two different answers": 1}


def test_who_stands_first_is_drawn() -> None:
    """Two models' answers to 200 prompts: each stands first about half the time, the same way at every call."""
    answers = [answer(f"{name} says {name * 9}", f"prompt {i}", name) for i in range(200) for name in ("a", "b")]
    pairs, _ = draw_pairs(answers, 1, 0.8, 3)
    first = sum(one.model == "a" for one, _ in pairs)
    assert 70 < first < 130
    assert draw_pairs(answers, 1, 0.8, 3)[0] == pairs
    assert draw_pairs(answers, 1, 0.8, 4)[0] != pairs


def test_answers_that_are_all_alike_are_told() -> None:
    with pytest.raises(DataError, match="no prompt has two different answers"):
        draw_pairs([answer("same"), answer("same", sample=1)], 1, 0.8, 0)


# Labels


def verdict(outcome: Outcome, judge: str = "j", order: str = "ab", repeat: int = 0) -> Verdict:
    one, other = answer("one"), answer("other")
    asked = {"baseline": "m", "baseline_hash": other.hash, "order": order, "repeat": repeat}
    return Verdict(one.prompt.id, one.prompt.id, "m", "helpfulness", judge, one.hash, outcome=outcome, **asked)


def test_a_preference_is_the_mean_over_judges_orders_and_repeats() -> None:
    """Judge j: order ab (1 + 0) / 2, order ba 1: .75; judge k: a tie, .5; together .625. An unread order: none."""
    pair = [(answer("one"), answer("other"))]
    win, tie, loss = Outcome.WIN, Outcome.TIE, Outcome.LOSS
    said = [verdict(win), verdict(loss, repeat=1), verdict(win, order="ba"), verdict(tie, "k")]
    assert preferences(pair, said) == [0.625]
    assert preferences(pair, [*said, verdict(Outcome.UNPARSED, "k", "ba")]) == [None]
    assert preferences(pair, []) == [None]


def labelled(
    better: float, safer: float, safe: tuple[bool | None, bool | None], **spec: Any
) -> tuple[list[Any], dict[str, int]]:
    pair = answer("one"), answer("other")
    labels = Labels({"helpfulness": [better], "harmlessness": [safer]})
    labels.safe = {(one.prompt.id, one.hash): said for one, said in zip(pair, safe, strict=True)}
    return rows_of([pair], labels, LabelSpec(**{**ORACLES, **spec}), [], 0)


def test_the_safe_answer_is_the_safer_one_whatever_the_comparison_says() -> None:
    (row,), left = labelled(0.9, 0.2, (True, False))
    assert (row["better_response_id"], row["better_probability"]) == (0, 0.9)
    assert (row["safer_response_id"], row["safer_probability"]) == (0, 0.2)
    assert left == {"overruled": 1}
    (row,), left = labelled(0.9, 0.2, (False, False))
    assert (row["safer_response_id"], row["safer_probability"], left) == (1, 0.8, {})


def test_ties_and_unread_labels_are_left_out_and_counted() -> None:
    assert labelled(0.5, 0.2, (True, True)) == ([], {"no preference: helpfulness": 1})
    assert len(labelled(0.5, 0.2, (True, True), ties="draw")[0]) == 1
    assert labelled(0.9, 0.2, (True, None)) == ([], {"nobody said whether an answer is safe": 1})


def test_sampled_labels_follow_the_probability() -> None:
    """400 draws at .8: the first is preferred in about 320, within five standard deviations of 8."""
    pairs = [(answer("one", f"p{i}"), answer("other", f"p{i}")) for i in range(400)]
    labels = Labels({"helpfulness": [0.8] * 400, "harmlessness": [0.8] * 400})
    labels.safe = {(one.prompt.id, one.hash): True for pair in pairs for one in pair}
    found, _ = rows_of(pairs, labels, LabelSpec(**ORACLES, labels="sampled"), [], 0)
    assert abs(sum(row["better_response_id"] == 0 for row in found) - 320) < 40
    assert [row["better_response_id"] for row in found] != [row["safer_response_id"] for row in found]


def test_noise_of_repeats() -> None:
    """A label that is wrong in .1 of the cases agrees with its repeat in .9^2 + .1^2 = .82."""
    assert noise({"value": 0.82}) == pytest.approx(0.1)
    assert noise({"value": 0.5}) == 0.5
    assert noise({"value": None}) is None


# The whole verb


def test_raters_agree_by_the_answer_that_they_rate_higher() -> None:
    """Two raters, three pairs: 9 > 1 and 3 > 2, 2 < 5 and 1 < 4 agree; then 5 = 5 and 1 < 2 do not: a kappa of 5/11.

    Agreement is 2/3. Sides: first 2/6, second 3/6, tie 1/6, so by chance 14/36; (2/3 - 14/36) / (1 - 14/36) = 5/11.
    """
    pairs = [(answer("one", f"p{i}"), answer("other", f"p{i}")) for i in range(3)]
    said = {"j": [(9, 1), (2, 5), (5, 5)], "k": [(3, 2), (1, 4), (1, 2)]}
    verdicts = [
        Verdict(one.prompt.id, one.prompt.id, "m", "helpfulness", judge, one.hash, score=float(score))
        for judge, scores in said.items()
        for pair, both in zip(pairs, scores, strict=True)
        for one, score in zip(pair, both, strict=True)
    ]
    (row,) = agreement(verdicts, pairs)
    assert row["criterion"] == "helpfulness" and row["kappa"]["value"] == pytest.approx(5 / 11)


def test_data_without_a_row_says_what_the_judges_replied() -> None:
    empty = [Verdict(str(i), "", "m", "safety", "j", "", outcome=Outcome.UNPARSED, reason="empty") for i in range(3)]
    said = str(no_labels(Path("pairs"), {"nobody said whether an answer is safe": 2}, empty))
    assert "safe: 2; replies: 3 x safety: empty" in said and "then --ask-again" in said
    mostly = str(no_labels(Path("pairs"), {"no preference: helpfulness": 199, "no verdict was read: safety": 1}, empty))
    assert "then --ask-again; " in mostly and "ties: draw" in mostly and "ties: draw" not in said
    assert "--ask-again" not in str(no_labels(Path("pairs"), {"no preference: helpfulness": 2}, []))
