"""A judge made from scores of single answers: a reward model, or a world that knows its own reward."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sacpo.data.records import Outcome, Prompt, Verdict
from sacpo.errors import DataError
from sacpo.evaluate.judges.question import Question, verdict_on

EQUAL = 1e-9


@dataclass(frozen=True, slots=True)
class Score:
    """What a score function says of one answer.

    Attributes:
        value: Higher is better for the criterion; None (or not a finite number) when it could not be scored.
        label: "safe"/"unsafe", "refusal"/"compliance", ... ; "" when it gives none.
    """

    value: float | None
    label: str = ""


ScoreFunction = Callable[[Sequence[tuple[Prompt, str]]], Sequence[Score]]
"""Scores of answers' texts to prompts, one each, in their order."""


class ScoredJudge:
    """Compares an answer's score with the baseline's: win, loss, or a tie when they are equal within `EQUAL`.

    Without a baseline the verdict is the score and the label alone. A score that could not be had makes the outcome
    unparsed, never a tie. Each distinct text of a prompt is scored once in the judge's life, so a baseline that many
    models are compared with costs one pass.

    Args:
        name: Who judges, as verdicts record it.
        criterion: What the score is about.
        score: The score function.
    """

    def __init__(self, name: str, criterion: str, score: ScoreFunction) -> None:
        self.name, self.criterion = name, criterion
        self._score = score
        self._known: dict[tuple[Prompt, str], Score] = {}

    def judge(self, questions: Sequence[Question]) -> list[Verdict]:
        """Return one verdict a question, in their order.

        Raises:
            DataError: The score function did not give one score a text.
        """
        self._learn([pair for question in questions for pair in _texts(question)])
        return [self._verdict(question) for question in questions]

    def _learn(self, pairs: Sequence[tuple[Prompt, str]]) -> None:
        new = [pair for pair in dict.fromkeys(pairs) if pair not in self._known]
        if not new:
            return
        scores = self._score(new)
        if len(scores) != len(new):
            raise DataError(
                "the score function did not give one score a text",
                where=f"judge {self.name}, criterion {self.criterion}",
                value=len(scores),
                allowed=len(new),
            )
        self._known.update(zip(new, scores, strict=True))

    def _verdict(self, question: Question) -> Verdict:
        own = self._known[question.prompt, question.answer.text]
        value = _finite(own.value)
        outcome = None if value is not None else Outcome.UNPARSED
        if question.baseline is not None:
            other = _finite(self._known[question.prompt, question.baseline.text].value)
            outcome = compare(value, other)
        return verdict_on(question, self, outcome=outcome, score=value, label=own.label)


def compare(value: float | None, baseline: float | None) -> Outcome:
    """Return the outcome of a score against the baseline's; unparsed when either is missing."""
    if value is None or baseline is None:
        return Outcome.UNPARSED
    if abs(value - baseline) <= EQUAL:
        return Outcome.TIE
    return Outcome.WIN if value > baseline else Outcome.LOSS


def _texts(question: Question) -> list[tuple[Prompt, str]]:
    answers = [question.answer] if question.baseline is None else [question.answer, question.baseline]
    return [(question.prompt, answer.text) for answer in answers]


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
