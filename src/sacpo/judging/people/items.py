"""What a person labels: pairs of answers or single ones, in an order of the annotator's own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sacpo.data.answers import read_answers
from sacpo.data.records import Answer, Outcome, Verdict, text_hash
from sacpo.errors import DataError
from sacpo.judging.people.raters import HUMAN
from sacpo.plain import JsonObject

SAFETY = ("safe", "unsafe")
REFUSALS = ("full_refusal", "partial_refusal", "compliance")
POINTWISE = {"harmlessness": SAFETY, "safety": SAFETY, "refusal": REFUSALS}
FIRST, SECOND, TIE = "first", "second", "tie"
PAIRWISE = (FIRST, SECOND, TIE)
NAMED = 5


@dataclass(frozen=True, slots=True)
class Item:
    """One question to a person.

    Attributes:
        answer: The answer to judge.
        baseline: The answer that it is compared with; None: it is judged alone.
        swapped: The baseline's answer is shown first.
    """

    answer: Answer
    baseline: Answer | None
    swapped: bool

    @property
    def id(self) -> str:
        """Hash of what is asked; it tells neither the models nor the order."""
        a, b = self.answer, self.baseline
        parts = [a.prompt.id, a.model, str(a.sample), a.hash]
        return text_hash(*parts, *([] if b is None else [b.model, str(b.sample), b.hash]))

    @property
    def equal(self) -> bool:
        """Whether the two answers are the same text, so that there is nothing to ask."""
        return self.baseline is not None and self.answer.text == self.baseline.text

    def shown(self) -> JsonObject:
        """Return what the person sees: the prompt's turns and one or two answers, without any model's name."""
        answers = [self.answer] if self.baseline is None else [self.answer, self.baseline]
        if self.swapped:
            answers.reverse()
        return {
            "prompt": [message.to_json() for message in self.answer.prompt.messages],
            "answers": [answer.text for answer in answers],
        }

    def verdict(self, annotator: str, criterion: str, label: str) -> Verdict:
        """Return the annotator's verdict.

        Args:
            annotator: Who judged; the verdict's judge is "human:" and this name.
            criterion: What was judged.
            label: "first", "second" or "tie" of a pair; a pointwise label of a single answer.
        """
        a, b = self.answer, self.baseline
        said: JsonObject = {"label": label} if b is None else {"outcome": self._outcome(label)}
        return Verdict(
            prompt_id=a.prompt.id,
            cluster=a.prompt.cluster,
            category=a.prompt.category,
            kind=a.prompt.kind,
            model=a.model,
            criterion=criterion,
            judge=f"{HUMAN}{annotator}",
            answer_hash=a.hash,
            baseline="" if b is None else b.model,
            baseline_hash="" if b is None else b.hash,
            order="" if b is None else "ba" if self.swapped else "ab",
            sample=a.sample,
            **said,
        )

    def _outcome(self, label: str) -> Outcome:
        if label == TIE:
            return Outcome.TIE
        return Outcome.WIN if (label == FIRST) is not self.swapped else Outcome.LOSS


def items_of(
    answers: Sequence[Answer], baseline: Sequence[Answer] | None, *, annotator: str, seed: int = 0
) -> list[Item]:
    """Return the questions in the annotator's order; which answer is shown first is drawn for each.

    Both draws depend on seed, annotator and question alone: a new session, or more answers, moves nothing that was
    seen. A question is asked once though its prompt stands in the set twice.

    Raises:
        DataError: There are no answers; the baseline's come from several models or lack a prompt.
    """
    if not answers:
        raise DataError("there are no answers to label")
    others = None if baseline is None else _by_prompt(baseline)
    if others is not None:
        missing = sorted({a.prompt.id for a in answers if (a.prompt.id, a.sample) not in others})
        if missing:
            raise DataError(
                f"the baseline has no answer to {len(missing)} of the prompts",
                where="prompts " + ", ".join(missing[:NAMED]),
                do="generate the baseline's answers on the same prompts, with as many samples",
            )
    found: dict[str, tuple[bytes, Item]] = {}
    for answer in answers:
        other = None if others is None else others[answer.prompt.id, answer.sample]
        name = Item(answer, other, swapped=False).id
        draw = _draw(seed, annotator, name)
        found.setdefault(name, (draw, Item(answer, other, swapped=other is not None and bool(draw[-1] & 1))))
    return [item for _, item in sorted(found.values(), key=lambda pair: pair[0])]


def read_items(answers: Path, baseline: Path | None, *, annotator: str, seed: int = 0) -> list[Item]:
    """Read answer files and return `items_of` them.

    Raises:
        DataError: A file is missing, or see `items_of`.
    """
    others = None if baseline is None else read_answers(baseline)
    return items_of(read_answers(answers), others, annotator=annotator, seed=seed)


def labels_of(criterion: str, pairwise: bool) -> tuple[str, ...]:
    """Return the labels that a person may give.

    Raises:
        DataError: Answers are to be judged alone by a criterion without labels.
    """
    if pairwise:
        return PAIRWISE
    if criterion not in POINTWISE:
        raise DataError(
            "no labels are known for single answers by this criterion",
            value=criterion,
            allowed=sorted(POINTWISE),
            do="give a second file of answers to compare with",
        )
    return POINTWISE[criterion]


def _by_prompt(baseline: Sequence[Answer]) -> dict[tuple[str, int], Answer]:
    models = sorted({answer.model for answer in baseline})
    if len(models) > 1:
        raise DataError("the baseline's answers come from several models", value=models, allowed="one model")
    return {(answer.prompt.id, answer.sample): answer for answer in reversed(baseline)}


def _draw(seed: int, annotator: str, item: str) -> bytes:
    return hashlib.sha256(json.dumps([seed, annotator, item]).encode()).digest()
