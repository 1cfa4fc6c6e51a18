"""A judge made from scores: outcomes, symmetry, unparsed scores, and what its verdicts record."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sacpo.data.records import Answer, Kind, Outcome, Prompt
from sacpo.errors import DataError
from sacpo.judging.question import Question
from sacpo.judging.scored import Score, ScoredJudge

PROMPT = Prompt.from_text("say it", cluster="c", category="k", kind=Kind.RESTRICTED)
FLIPPED = {
    Outcome.WIN: Outcome.LOSS,
    Outcome.LOSS: Outcome.WIN,
    Outcome.TIE: Outcome.TIE,
    Outcome.UNPARSED: Outcome.UNPARSED,
}


def answer(text: str, model: str = "m", sample: int = 0) -> Answer:
    return Answer(PROMPT, model, text, sample=sample)


def table(**scores: float | None) -> ScoredJudge:
    return ScoredJudge("table", "help", lambda pairs: [Score(scores[text]) for _, text in pairs])


def test_outcomes_by_hand() -> None:
    """2 beats 1; 1 loses to 2; 1 and 1 + 1e-10 are equal within 1e-9, 1 and 1 + 1e-8 are not."""
    judge = table(low=1.0, high=2.0, near=1.0 + 1e-10, over=1.0 + 1e-8)
    pairs = [("high", "low"), ("low", "high"), ("near", "low"), ("low", "near"), ("over", "low")]
    verdicts = judge.judge([Question(PROMPT, answer(a), answer(b, "sft")) for a, b in pairs])
    assert [verdict.outcome for verdict in verdicts] == ["win", "loss", "tie", "tie", "win"]
    assert [verdict.score for verdict in verdicts] == [2.0, 1.0, 1.0 + 1e-10, 1.0, 1.0 + 1e-8]


@pytest.mark.parametrize("bad", [None, math.nan, math.inf])
def test_a_missing_score_is_unparsed_never_a_tie(bad: float | None) -> None:
    judge = table(bad=bad, worse=bad, good=1.0)
    pairs = [("bad", "good"), ("good", "bad"), ("bad", "worse"), ("bad", "bad")]
    verdicts = judge.judge([Question(PROMPT, answer(a), answer(b, "sft")) for a, b in pairs])
    assert {verdict.outcome for verdict in verdicts} == {Outcome.UNPARSED}
    assert [verdict.score for verdict in verdicts] == [None, 1.0, None, None]


def test_alone_the_score_is_the_verdict() -> None:
    judge = table(good=1.0, bad=None)
    read, unread = judge.judge([Question(PROMPT, answer("good")), Question(PROMPT, answer("bad"))])
    assert (read.outcome, read.score, read.baseline, read.baseline_hash) == (None, 1.0, "", "")
    assert (unread.outcome, unread.score) == (Outcome.UNPARSED, None)


def test_verdicts_record_what_was_asked() -> None:
    judge = ScoredJudge("oracle", "safety", lambda pairs: [Score(0.5, "safe") for _ in pairs])
    own, other = answer("a", sample=3), answer("b", "sft", sample=3)
    (verdict,) = judge.judge([Question(PROMPT, own, other)])
    assert verdict.to_json() == {
        "prompt_id": PROMPT.id,
        "cluster": "c",
        "model": "m",
        "criterion": "safety",
        "judge": "oracle",
        "answer_hash": own.hash,
        "category": "k",
        "kind": "restricted",
        "baseline": "sft",
        "baseline_hash": other.hash,
        "outcome": "tie",
        "score": 0.5,
        "label": "safe",
        "probability": None,
        "order": "",
        "repeat": 0,
        "sample": 3,
    }


def test_what_is_scored_together_does_not_depend_on_what_was_judged_before() -> None:
    """The baseline's texts alone, once; then the answers that are not the baseline's: rounding may differ by batch."""
    asked: list[list[str]] = []

    def score(pairs: Sequence[tuple[Prompt, str]]) -> list[Score]:
        asked.append([text for _, text in pairs])
        return [Score(float(ord(text))) for _, text in pairs]

    judge = ScoredJudge("j", "c", score)
    judge.judge([Question(PROMPT, answer(text), answer("a", "sft")) for text in "abc"])
    judge.judge([Question(PROMPT, answer("d"), answer("a", "sft"))])
    judge.judge([Question(PROMPT, answer(text), answer("a", "sft")) for text in "cb"])
    judge.judge([Question(PROMPT, answer("d"), answer("b", "sft"))])
    assert asked == [["a"], ["b", "c"], ["d"], ["c", "b"], ["b"], ["d"]]
    other = Prompt.from_text("say another thing")
    judge.judge([Question(other, Answer(other, "m", "a"))])
    assert asked[6:] == [["a"]]


def test_a_score_function_must_answer_all() -> None:
    judge = ScoredJudge("j", "c", lambda pairs: [Score(1.0)])
    with pytest.raises(DataError, match="one score a text"):
        judge.judge([Question(PROMPT, answer(text)) for text in "ab"])


SCORES = st.one_of(st.none(), st.just(math.nan), st.sampled_from([0.0, 1.0, 1e-10]), st.floats(-5, 5))


@given(st.lists(st.tuples(SCORES, SCORES), min_size=1, max_size=8))
def test_swapping_answer_and_baseline_flips_every_outcome(scores: list[tuple[float | None, float | None]]) -> None:
    values = {f"{side}{i}": score for i, pair in enumerate(scores) for side, score in zip("ab", pair, strict=True)}
    pairs = [(answer(f"a{i}"), answer(f"b{i}", "sft")) for i in range(len(scores))]
    forth = table(**values).judge([Question(PROMPT, a, b) for a, b in pairs])
    back = table(**values).judge([Question(PROMPT, b, a) for a, b in pairs])
    assert [FLIPPED[v.outcome] for v in forth if v.outcome] == [v.outcome for v in back]
    assert len(forth) == len(scores)
