"""A judge made from scores of single answers: a reward model, or a world that knows its own reward."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sacpo.data.records import Outcome, Prompt, Verdict
from sacpo.errors import DataError
from sacpo.judging.question import Question, verdict_on

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

    @property
    def finite(self) -> float | None:
        """The value where it is a finite number, else None."""
        return self.value if self.value is not None and math.isfinite(self.value) else None


Text = tuple[Prompt, str]
"""An answer's text and the prompt that it answers."""

ScoreFunction = Callable[[Sequence[Text]], Sequence[Score]]
"""Scores of answers' texts to prompts, one each, in their order."""


class ScoredJudge:
    """Compares an answer's score with the baseline's: win, loss, or a tie when they are equal within `EQUAL`.

    Without a baseline the verdict is the score and the label alone. A score that could not be had makes the outcome
    unparsed, never a tie. The baseline's texts are scored by themselves, once in the judge's life however many models
    they are compared with, and the answers by themselves: what is scored together, and so its rounding, does not
    depend on which models were judged before.

    Args:
        name: Who judges, as verdicts record it.
        criterion: What the score is about.
        score: The score function.
    """

    def __init__(self, name: str, criterion: str, score: ScoreFunction) -> None:
        self.name, self.criterion = name, criterion
        self._score = score
        self._baselines: dict[tuple[Text, ...], dict[Text, Score]] = {}

    def judge(self, questions: Sequence[Question]) -> list[Verdict]:
        """Return one verdict a question, in their order.

        Raises:
            DataError: The score function did not give one score a text.
        """
        baselines = tuple(dict.fromkeys((q.prompt, q.baseline.text) for q in questions if q.baseline is not None))
        if baselines not in self._baselines:
            self._baselines[baselines] = self._scores(baselines)
        known = self._baselines[baselines]
        own = dict.fromkeys((q.prompt, q.answer.text) for q in questions)
        known = {**known, **self._scores([text for text in own if text not in known])}
        return [self._verdict(question, known) for question in questions]

    def _scores(self, texts: Sequence[Text]) -> dict[Text, Score]:
        scores = self._score(texts) if texts else []
        if len(scores) != len(texts):
            raise DataError(
                "the score function did not give one score a text",
                where=f"judge {self.name}, criterion {self.criterion}",
                value=len(scores),
                allowed=len(texts),
            )
        return dict(zip(texts, scores, strict=True))

    def _verdict(self, question: Question, known: Mapping[Text, Score]) -> Verdict:
        own = known[question.prompt, question.answer.text]
        value = _finite(own.value)
        outcome = None if value is not None else Outcome.UNPARSED
        if question.baseline is not None:
            other = _finite(known[question.prompt, question.baseline.text].value)
            outcome = compare(value, other)
        return verdict_on(question, self, outcome=outcome, score=value, label=own.label)


def compare(value: float | None, baseline: float | None) -> Outcome:
    """Return the outcome of a score against the baseline's; unparsed when either is missing."""
    if value is None or baseline is None:
        return Outcome.UNPARSED
    if abs(value - baseline) <= EQUAL:
        return Outcome.TIE
    return Outcome.WIN if value > baseline else Outcome.LOSS


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
