"""A judge that gives each answer a label and compares it with no baseline."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sacpo.data.records import Prompt, Verdict
from sacpo.judging.question import Question, verdict_on


class LabelJudge:
    """Labels answers one by one.

    Args:
        name: Who judges, as verdicts record it.
        criterion: What the labels are filed under.
        label: The label of an answer's text to a prompt.
    """

    def __init__(self, name: str, criterion: str, label: Callable[[Prompt, str], str]) -> None:
        self.name, self.criterion = name, criterion
        self._label = label

    def judge(self, questions: Sequence[Question]) -> list[Verdict]:
        """Return one label a question, in their order."""
        return [verdict_on(q, self, compared=False, label=self._label(q.prompt, q.answer.text)) for q in questions]
