"""What every judge is asked and what every verdict records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sacpo.data.records import Answer, Prompt, Verdict


@dataclass(frozen=True, slots=True)
class Question:
    """One answer to judge.

    Attributes:
        prompt: What was asked.
        answer: The answer to judge.
        baseline: The answer that it is compared with; None for a judgement of the answer alone.
    """

    prompt: Prompt
    answer: Answer
    baseline: Answer | None = None


class Named(Protocol):
    """What a verdict records of its judge.

    Attributes:
        name: Who judged, as verdicts record it.
        criterion: What it judges by: helpfulness, harmlessness, refusal, ...
    """

    @property
    def name(self) -> str:
        """Who judged."""
        ...

    @property
    def criterion(self) -> str:
        """What it judges by."""
        ...


class Judge(Named, Protocol):
    """Whatever gives verdicts by one criterion."""

    def judge(self, questions: Sequence[Question]) -> list[Verdict]:
        """Return the verdicts on the questions, in their order; a judge may give several on one."""
        ...


def verdict_on(question: Question, judge: Named, *, compared: bool = True, **said: Any) -> Verdict:
    """Return the verdict on a question, with everything that says what was asked.

    Args:
        question: The question.
        judge: Who judged.
        compared: Whether the baseline's answer played a part; a verdict on the answer alone names no baseline.
        said: What the judge said: outcome, score, label, probability, order, repeat, reason.
    """
    baseline = question.baseline if compared else None
    return Verdict(
        prompt_id=question.prompt.id,
        cluster=question.prompt.cluster,
        category=question.prompt.category,
        kind=question.prompt.kind,
        model=question.answer.model,
        criterion=judge.criterion,
        judge=judge.name,
        answer_hash=question.answer.hash,
        baseline="" if baseline is None else baseline.model,
        baseline_hash="" if baseline is None else baseline.hash,
        sample=question.answer.sample,
        **said,
    )
