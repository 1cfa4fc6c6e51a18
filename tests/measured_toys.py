"""Answers and verdicts that are easy to count by hand."""

from __future__ import annotations

from collections.abc import Sequence

from sacpo.data.records import Answer, Kind, Prompt, Verdict
from sacpo.judging.question import Question, verdict_on
from sacpo.judging.scored import Score, ScoredJudge


def prompt(name: str, kind: Kind = Kind.UNKNOWN, category: str = "", cluster: str = "") -> Prompt:
    return Prompt.from_text(f"prompt {name}", id=name, kind=kind, category=category, cluster=cluster)


def answer(place: Prompt, text: str, model: str = "m", *, sample: int = 0, **fields: object) -> Answer:
    return Answer(place, model, text, sample=sample, **fields)  # type: ignore[arg-type]


def number_judge(criterion: str = "help") -> ScoredJudge:
    """A text is its own score; what is no number cannot be scored."""

    def score(pairs: Sequence[tuple[Prompt, str]]) -> list[Score]:
        return [Score(float(text) if text.lstrip("-").isdigit() else None) for _, text in pairs]

    return ScoredJudge("numbers", criterion, score)


class WordJudge:
    """Labels an answer with its own text."""

    name = "words"

    def __init__(self, criterion: str) -> None:
        self.criterion = criterion

    def judge(self, questions: Sequence[Question]) -> list[Verdict]:
        return [verdict_on(q, self, compared=False, label=q.answer.text) for q in questions]
