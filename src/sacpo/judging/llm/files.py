"""Judge files of answers: a folder with the store, the verdicts and what they amount to."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from sacpo.data.answers import ANSWERS, BASELINE, distinct_answers, read_answers
from sacpo.data.records import Answer, Verdict, write_jsonl
from sacpo.errors import DataError, RunError
from sacpo.judging.llm.budget import CostEstimate
from sacpo.judging.llm.judge import LlmJudgeConfig
from sacpo.judging.llm.plan import BY_DEFAULT, Asking, estimates, plan
from sacpo.judging.llm.run import JudgeRun, judge_llm
from sacpo.judging.llm.store import STORE, Store
from sacpo.judging.question import Question
from sacpo.judging.rubric import Rubric
from sacpo.judging.verdicts import MEASURES, VERDICTS, compared_questions
from sacpo.measure.measures import measure
from sacpo.plain import JsonObject
from sacpo.stats.verdicts import summarise
from sacpo.system.files import write_json
from sacpo.system.locks import locked
from sacpo.system.machine import machine_errors
from sacpo.system.progress import QUIET, Progress
from sacpo.system.runs import MANIFEST

JUDGING, LOCK = "judging.json", ".lock"


def judge_files(
    answers: Path | Sequence[Answer],
    baseline: Path | Sequence[Answer] | None,
    out: Path,
    judges: Sequence[LlmJudgeConfig],
    rubric: Rubric | Sequence[Rubric] | None = None,
    *,
    asking: Asking = BY_DEFAULT,
    progress: Progress = QUIET,
    on_estimate: Callable[[Sequence[CostEstimate]], None] | None = None,
    ask_again: bool = False,
) -> JsonObject:
    """Judge a file of answers; the same call again goes on where the last one stopped.

    Writes into `out`: `verdicts.sqlite` (see `sacpo.judging.llm.store`), `verdicts.jsonl`, the answers as they were
    judged (`answers.jsonl`, `baseline.jsonl`), `judging.json`, and once no verdict is missing `measures.json`, what
    `sacpo.measure.measures.measure` says of the model.

    Args:
        answers: One model's answers, or their file (see `sacpo.data.answers`).
        baseline: The baseline's, to the same prompts; None: only rubrics of kind label.
        out: The folder; made if absent.
        judges: The panel.
        rubric: Judge by these instead of the judges' own.
        asking, progress, on_estimate: See `judge_llm`.
        ask_again: Ask again what no verdict could be read from, as after a judge was mended.

    Returns:
        What `judging.json` holds: `complete`; `measures`, by model; `summary`, win rates and reliability
        (`sacpo.stats.verdicts.summarise`); `categories`, how often each judge named each category of harm;
        `unparsed` by reason; `missing`; `usage`; `estimates`; `adaptations`, what endpoints refused.

    Raises:
        DataError: The files or arguments do not fit together.
        RunError: Another process is judging into this folder, it holds something else, or an endpoint refuses the key
            or the model.
    """
    questions = _questions(answers, baseline)
    panel = _panel(judges, rubric)
    asking.budget.check([judge.spec.model for judge in panel])  # before anything is written
    with _locked(out), Store(out / STORE) as store:
        with machine_errors(out):
            (out / MEASURES).unlink(missing_ok=True)  # figures of an earlier call, until these are complete
            _keep_answers(out, questions)
        if ask_again:
            store.forget_unparsed()
        run = judge_llm(panel, questions, store, asking=asking, progress=progress, on_estimate=on_estimate)
        result = _summary(questions, run, asking.orders, _categories(run, store))
        with machine_errors(out):
            write_jsonl(out / VERDICTS, dict.fromkeys(run.verdicts))
        write_json(out / JUDGING, result)
        if result["complete"]:
            write_json(out / MEASURES, result["measures"])
    return result


def estimate_files(
    answers: Path | Sequence[Answer],
    baseline: Path | Sequence[Answer] | None,
    out: Path,
    judges: Sequence[LlmJudgeConfig],
    rubric: Rubric | Sequence[Rubric] | None = None,
    *,
    asking: Asking = BY_DEFAULT,
) -> list[CostEstimate]:
    """Return what `judge_files` with the same arguments would cost; nothing is asked or written.

    Raises:
        DataError: The files or arguments do not fit together.
    """
    asks = plan(_panel(judges, rubric), _questions(answers, baseline), asking.orders, asking.repeats)
    known: set[str] = set()
    if (out / STORE).is_file():
        with Store(out / STORE) as store:
            known = store.keys()
    return estimates(asks, known, asking.budget)


def _questions(answers: Path | Sequence[Answer], baseline: Path | Sequence[Answer] | None) -> list[Question]:
    own, others = (read_answers(given) if isinstance(given, Path) else given for given in (answers, baseline))
    if not own:
        raise DataError("there are no answers to judge", do="give a file of answers")
    own = distinct_answers(own)
    if others is None:
        return [Question(answer.prompt, answer) for answer in own]
    found = compared_questions(own, others)
    if own[0].model == others[0].model:
        raise DataError(
            "both files of answers name the same model",
            value=own[0].model,
            do="name them apart: --name and --baseline-name on the command line",
        )
    return found


def _keep_answers(out: Path, questions: Sequence[Question]) -> None:
    """Keep what is judged, so that lengths are known and people can label the same."""
    write_jsonl(out / ANSWERS, [question.answer for question in questions])
    baseline = [question.baseline for question in questions if question.baseline is not None]
    if baseline:
        write_jsonl(out / BASELINE, baseline)
    else:
        (out / BASELINE).unlink(missing_ok=True)


def _panel(judges: Sequence[LlmJudgeConfig], rubric: Rubric | Sequence[Rubric] | None) -> list[LlmJudgeConfig]:
    if rubric is None:
        return list(judges)
    rubrics = [rubric] if isinstance(rubric, Rubric) else list(rubric)
    return [replace(judge, rubric=one) for judge in judges for one in rubrics]


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


def _locked(out: Path) -> AbstractContextManager[None]:
    """Hold the folder: two processes that judge into one would pay for everything twice."""
    if (out / MANIFEST).is_file():
        raise RunError("the output folder holds another stage's result", where=out, do="give a new folder")
    return locked(
        out / LOCK,
        "another process is judging into this folder",
        where=out,
        do="wait until it has finished, or name another folder",
    )
