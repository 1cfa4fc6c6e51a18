"""Judge files of answers: a folder with the store, the verdicts and what they amount to."""

from __future__ import annotations

import fcntl
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from sacpo.data.records import Answer, Verdict, read_jsonl, write_jsonl
from sacpo.errors import DataError, RunError
from sacpo.evaluate.judges.question import Question
from sacpo.evaluate.measures import measure
from sacpo.judging.budget import Budget, CostEstimate
from sacpo.judging.judge import LlmJudge
from sacpo.judging.plan import AB, BA
from sacpo.judging.rubric import Rubric
from sacpo.judging.run import JudgeRun, judge_llm
from sacpo.judging.store import Store
from sacpo.progress import QUIET, Progress
from sacpo.runs import machine_errors, write_json
from sacpo.stats.verdicts import summarise

STORE, VERDICTS, MEASURES, LOCK = "verdicts.sqlite", "verdicts.jsonl", "measures.json", ".lock"


def judge_files(
    answers: Path,
    baseline: Path | None,
    out: Path,
    judges: Sequence[LlmJudge],
    rubric: Rubric | Sequence[Rubric] | None = None,
    *,
    orders: Sequence[str] = (AB, BA),
    repeats: int = 1,
    concurrency: int = 16,
    budget: Budget | None = None,
    progress: Progress = QUIET,
    on_estimate: Callable[[Sequence[CostEstimate]], None] | None = None,
) -> dict[str, Any]:
    """Judge a file of answers; the same call again goes on where the last one stopped.

    Writes into `out`: `verdicts.sqlite` (see `sacpo.judging.store`), `verdicts.jsonl` and `measures.json`.

    Args:
        answers: JSON lines of `Answer` records, of one model.
        baseline: The baseline's answers, to the same prompts; None: only rubrics of kind label.
        out: The folder; made if absent.
        judges: The panel.
        rubric: Judge by these instead of the judges' own.
        orders, repeats, concurrency, budget, progress, on_estimate: See `judge_llm`.

    Returns:
        What `measures.json` holds: `complete`; `measures`, what `sacpo.evaluate.measures.measure` says of each judge's
        verdicts, by judge; `summary`, win rates and reliability (`sacpo.stats.verdicts.summarise`); `categories`, how
        often each judge named each category of harm; `unparsed` by reason; `missing`; `usage`; `estimates`.

    Raises:
        DataError: The files or arguments do not fit together.
        RunError: Another process is judging into this folder, or an endpoint refuses the key or the model.
    """
    own = _answers(answers)
    measure(own, [])  # answers that cannot be measured are not worth paying for
    questions = _questions(own, None if baseline is None else _answers(baseline))
    panel = _panel(judges, rubric)
    with _locked(out), Store(out / STORE) as store:
        run = judge_llm(
            panel,
            questions,
            store,
            orders=orders,
            repeats=repeats,
            concurrency=concurrency,
            budget=budget,
            progress=progress,
            on_estimate=on_estimate,
        )
        categories = _categories(run, store)
        result = _summary(questions, run, orders, categories)
        with machine_errors(out):
            write_jsonl(out / VERDICTS, dict.fromkeys(run.verdicts))
        write_json(out / MEASURES, result)
    return result


def _answers(path: Path) -> list[Answer]:
    if not path.is_file():
        raise DataError("there is no such file of answers", where=path)
    found = read_jsonl(path, Answer)
    models = sorted({answer.model for answer in found})
    if len(models) != 1:
        raise DataError("a file of answers holds one model's", where=path, value=models)
    return found


def _questions(own: Sequence[Answer], baseline: Sequence[Answer] | None) -> list[Question]:
    if baseline is None:
        return [Question(answer.prompt, answer) for answer in own]
    theirs = {(answer.prompt.id, answer.sample): answer for answer in baseline}
    missing = [answer.prompt.id for answer in own if (answer.prompt.id, answer.sample) not in theirs]
    if missing:
        raise DataError(
            f"the baseline has no answer to {len(missing)} of {len(own)} answers' prompts",
            where="prompts " + ", ".join(missing[:5]),
            do="generate the baseline's answers on the same prompts, with as many samples",
        )
    return [Question(answer.prompt, answer, theirs[answer.prompt.id, answer.sample]) for answer in own]


def _panel(judges: Sequence[LlmJudge], rubric: Rubric | Sequence[Rubric] | None) -> list[LlmJudge]:
    if rubric is None:
        return list(judges)
    rubrics = [rubric] if isinstance(rubric, Rubric) else list(rubric)
    return [replace(judge, rubric=one) for judge in judges for one in rubrics]


def _summary(
    questions: Sequence[Question], run: JudgeRun, orders: Sequence[str], categories: dict[str, dict[str, int]]
) -> dict[str, Any]:
    answers = [question.answer for question in questions]
    baseline = [question.baseline for question in questions if question.baseline is not None]
    lengths = {answer.hash: len(answer.text) for answer in (*answers, *baseline)}
    countable = _countable(run.verdicts, orders)
    by_judge: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in countable:
        by_judge[verdict.judge].append(verdict)
    return {
        "complete": not run.missing,
        "measures": {judge: measure(answers, verdicts) for judge, verdicts in sorted(by_judge.items())},
        "summary": summarise(countable, lengths),
        "categories": categories,
        "unparsed": run.unparsed,
        "missing": [missing.to_json() for missing in run.missing],
        "usage": {judge: usage.to_json() for judge, usage in sorted(run.usage.items())},
        "estimates": [estimate.text() for estimate in run.estimates],
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


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Hold the folder: two processes that judge into one would pay for everything twice."""
    with machine_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        file = (out / LOCK).open("a+")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunError(
                "another process is judging into this folder",
                where=out,
                do="wait until it has finished, or name another folder",
            ) from error
        yield
