"""From answers to verdicts: every answer beside the baseline's answer to the same prompt, in front of a judge."""

from __future__ import annotations

from collections.abc import Sequence

from sacpo.data.answers import distinct_answers, place_of
from sacpo.data.records import Answer, Verdict
from sacpo.errors import DataError
from sacpo.judging.question import Judge, Question

NAMED = 5
VERDICTS, MEASURES = "verdicts.jsonl", "measures.json"
"""Files of a folder of `judge`."""


def judge_answers(judge: Judge, answers: Sequence[Answer], baseline_answers: Sequence[Answer] | None) -> list[Verdict]:
    """Return the judge's verdicts on the answers, in their order.

    An answer is compared with the baseline's of the same prompt and sample number. The same answer given twice, as
    when a prompt stands in a set twice, is judged once. The baseline compared with itself ties everywhere.

    Args:
        judge: Who judges.
        answers: Of one model or several.
        baseline_answers: The baseline's; None: every answer is judged alone.

    Raises:
        DataError: The baseline lacks an answer, or one prompt and sample has two different answers of one model.
    """
    if baseline_answers is None:
        return judge.judge([Question(answer.prompt, answer) for answer in distinct_answers(answers)])
    return judge.judge(compared_questions(answers, baseline_answers))


def compared_questions(answers: Sequence[Answer], baseline_answers: Sequence[Answer]) -> list[Question]:
    """Return each answer beside the baseline's answer to the same prompt and sample; errors as in `judge_answers`."""
    own = distinct_answers(answers)
    baseline = {(answer.prompt.id, answer.sample): answer for answer in _of_one_model(baseline_answers)}
    missing = [answer for answer in own if (answer.prompt.id, answer.sample) not in baseline]
    if missing:
        raise DataError(
            f"the baseline has no answer to {len(missing)} of {len(own)} answers' prompts",
            where="prompts " + ", ".join(place_of(answer) for answer in missing[:NAMED]),
            do="generate the baseline's answers on the same prompts, with as many samples",
        )
    return [Question(a.prompt, a, baseline[a.prompt.id, a.sample]) for a in own]


def _of_one_model(answers: Sequence[Answer]) -> list[Answer]:
    models = sorted({answer.model for answer in answers})
    if len(models) > 1:
        raise DataError("the baseline's answers come from several models", value=models, allowed="one model")
    return distinct_answers(answers)
