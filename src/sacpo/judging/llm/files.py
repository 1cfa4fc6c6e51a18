"""What a folder of `judge` by language models shows: the answers as they were judged, and what was said of them.

answers.jsonl, baseline.jsonl   so that lengths are known, and people can label the same
verdicts.sqlite                 every reply that was paid for (`sacpo.judging.llm.store`)
verdicts.jsonl, judging.json    what is there, also while verdicts are missing
measures.json                   once no verdict is missing
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from sacpo.data.answers import ANSWERS, BASELINE, distinct_answers
from sacpo.data.records import Answer, Verdict, write_jsonl
from sacpo.errors import DataError
from sacpo.judging.llm.run import JudgeRun
from sacpo.judging.llm.store import Store
from sacpo.judging.question import Question
from sacpo.judging.verdicts import MEASURES, VERDICTS, compared_questions
from sacpo.measure.measures import measure
from sacpo.plain import JsonObject
from sacpo.stats.verdicts import summarise
from sacpo.system.files import write_json

JUDGING = "judging.json"
SHOWN = (ANSWERS, BASELINE, VERDICTS, JUDGING, MEASURES)
"""The folder's files beside the store."""


def questions_of(own: Sequence[Answer], others: Sequence[Answer] | None) -> list[Question]:
    """Return what is asked of one model's answers, beside the baseline's where it is given.

    Raises:
        DataError: There is no answer, the baseline lacks some, or both models have one name.
    """
    if not own:
        raise DataError("there are no answers to judge", do="give a file of answers")
    if others is None:
        return [Question(answer.prompt, answer) for answer in distinct_answers(own)]
    found = compared_questions(own, others)
    if own[0].model == others[0].model:
        raise DataError(
            "both files of answers name the same model",
            value=own[0].model,
            do="name them apart: --name and --baseline-name on the command line",
        )
    return found


def keep_answers(out: Path, questions: Sequence[Question]) -> None:
    """Keep what is judged; figures of an earlier call go, until these are complete."""
    (out / MEASURES).unlink(missing_ok=True)
    write_jsonl(out / ANSWERS, [question.answer for question in questions])
    baseline = [question.baseline for question in questions if question.baseline is not None]
    if baseline:
        write_jsonl(out / BASELINE, baseline)
    else:
        (out / BASELINE).unlink(missing_ok=True)


def keep_judged(out: Path, questions: Sequence[Question], run: JudgeRun, orders: Sequence[str], store: Store) -> None:
    """Keep what was said, and what it amounts to.

    `judging.json` holds `complete`; `measures`, by model; `summary`, win rates and reliability
    (`sacpo.stats.verdicts.summarise`); `categories`, how often each judge named each category of harm; `unparsed` by
    reason; `missing`; `usage` of this call; `estimates`; `adaptations`, what endpoints refused.
    """
    result = _summary(questions, run, orders, _categories(run, store))
    write_jsonl(out / VERDICTS, dict.fromkeys(run.verdicts))
    write_json(out / JUDGING, result)
    if result["complete"]:
        write_json(out / MEASURES, result["measures"])


def _summary(
    questions: Sequence[Question], run: JudgeRun, orders: Sequence[str], categories: dict[str, dict[str, int]]
) -> JsonObject:
    answers = [question.answer for question in questions]
    baseline = [question.baseline for question in questions if question.baseline is not None]
    lengths = {answer.hash: len(answer.text) for answer in (*answers, *baseline)}
    countable = _countable(run.verdicts, orders)
    return {
        "complete": not run.missing,
        "measures": {answers[0].model: measure(answers, countable)},
        "summary": summarise(countable, lengths),
        "categories": categories,
        "unparsed": run.unparsed,
        "verdicts": len(run.verdicts),
        "missing": [missing.to_json() for missing in run.missing],
        "usage": {judge: usage.to_json() for judge, usage in sorted(run.usage.items())},
        "estimates": [estimate.text() for estimate in run.estimates],
        "adaptations": [adaptation.to_json() for adaptation in run.adaptations],
    }


def _countable(verdicts: Sequence[Verdict], orders: Sequence[str]) -> list[Verdict]:
    """Leave out pairwise verdicts of a judge that was stopped before it saw any question in one of the orders.

    Without a single verdict in that order nothing would tell that half of every comparison is missing.
    """
    seen: dict[tuple[str, str], set[str]] = defaultdict(set)
    for verdict in verdicts:
        seen[verdict.judge, verdict.criterion].add(verdict.order)
    full = {group for group, found in seen.items() if found == {""} or found == set(orders)}
    return [verdict for verdict in verdicts if (verdict.judge, verdict.criterion) in full]


def _categories(run: JudgeRun, store: Store) -> dict[str, dict[str, int]]:
    judged = set(run.verdicts)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in store.rows():
        if row.question.get("categories") and row.verdict in judged:
            counts[row.verdict.judge].update(row.question["categories"])
    return {judge: dict(sorted(counts[judge].items())) for judge in sorted(counts)}
