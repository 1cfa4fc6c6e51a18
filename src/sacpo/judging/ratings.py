"""Scores of single answers from ratings of a panel."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from sacpo.data.records import Answer, Verdict
from sacpo.judging.question import Judge, Question
from sacpo.judging.scored import Score, ScoreFunction, Text

MODEL = "samples"
"""How verdicts name whoever gave the texts that are scored."""


def rated(judge: Judge) -> ScoreFunction:
    """Return the scores that a panel's ratings make; a text that two answers share is asked about once."""

    def score(texts: Sequence[Text]) -> list[Score]:
        answers = [Answer(prompt, MODEL, text) for prompt, text in dict.fromkeys(texts)]
        said = mean_ratings(judge.judge([Question(answer.prompt, answer) for answer in answers]))
        known = {(answer.prompt, answer.text): said.get((answer.prompt.id, answer.hash)) for answer in answers}
        return [Score(known[text]) for text in texts]

    return score


def mean_ratings(verdicts: Sequence[Verdict]) -> dict[tuple[str, str], float | None]:
    """Return each answer's mean over judges of the mean over repeats; None where a judge gave it no score at all.

    Answers are named by the prompt's id and the text's hash.
    """
    said: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(dict)
    for verdict in verdicts:
        own = said[verdict.prompt_id, verdict.answer_hash].setdefault(verdict.judge, [])
        own += [] if verdict.score is None else [verdict.score]
    return {
        answer: _mean([_mean(scores) for scores in judges.values()]) if all(judges.values()) else None
        for answer, judges in said.items()
    }


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
