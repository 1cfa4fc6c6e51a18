"""Answers and their verdicts as a log of Inspect, written through Inspect's own Python API.

Each judge of each criterion (in each order and repeat) is a score of a sample: win 1, tie 0.5, loss 0; a score as it
is; a label as its text. A verdict that could not be read is NaN, which Inspect counts as unscored.

Source: https://inspect.aisi.org.uk/reference/inspect_ai.log.html
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sacpo._version import __version__
from sacpo.data.records import Answer, Outcome, Verdict
from sacpo.errors import DataError, MachineError
from sacpo.system.files import content_key

VALUES = {Outcome.WIN: 1.0, Outcome.TIE: 0.5, Outcome.LOSS: 0.0, Outcome.UNPARSED: math.nan}
INSTALL = "install it: pip install 'sacpo[inspect]'"


def write_inspect_log(answers: Sequence[Answer], verdicts: Sequence[Verdict], out: Path, judged: float) -> None:
    """Write a log of one model's answers and their verdicts.

    Args:
        answers: One model's answers.
        verdicts: Verdicts on them; those on other models' answers are an error.
        out: The log, a `.eval` or `.json` file.
        judged: When the verdicts were given, in seconds since 1970.

    Raises:
        DataError: A verdict has no answer here.
        MachineError: Inspect is not installed.
    """
    log = _inspect()
    said = _by_answer(answers, verdicts)
    samples = [_sample(answer, place, said.get(_key(answer), [])) for place, answer in enumerate(answers, 1)]
    key = content_key([[verdict.to_json() for verdict in verdicts], [answer.to_json() for answer in answers]])
    created = datetime.fromtimestamp(int(judged), UTC).isoformat()
    names = list(dict.fromkeys(score_name(verdict) for verdict in verdicts))
    spec = log.EvalSpec(
        created=created,
        task="sacpo",
        task_id=key[:22],
        run_id=key[22:44],
        eval_id=key[42:64],
        model=answers[0].model,
        dataset=log.EvalDataset(name="prompts", samples=len({answer.prompt.id for answer in answers})),
        config=log.EvalConfig(epochs=max(answer.sample for answer in answers) + 1),
        packages={"sacpo": __version__},
        metadata={"baseline": next((verdict.baseline for verdict in verdicts if verdict.baseline), None)},
    )
    scores = [_summary(log, name, [v for v in verdicts if score_name(v) == name]) for name in names]
    results = log.EvalResults(total_samples=len(samples), completed_samples=len(samples), scores=scores)
    stats = log.EvalStats(started_at=created, completed_at=created)
    done = log.EvalLog(status="success", eval=spec, results=results, stats=stats, samples=samples)
    log.write_eval_log(done, str(out))


def score_name(verdict: Verdict) -> str:
    """Return the name of a verdict's score: criterion, judge and, where there are any, order and repeat."""
    parts = [verdict.criterion, verdict.judge, verdict.order, f"repeat {verdict.repeat}" if verdict.repeat else ""]
    return "/".join(part for part in parts if part)


def score_value(verdict: Verdict) -> float | str:
    """Return a verdict as the value of a score."""
    if verdict.outcome is not None:
        return VALUES[verdict.outcome]
    if verdict.label:
        return verdict.label
    return math.nan if verdict.score is None else verdict.score


def _inspect() -> Any:
    try:
        from inspect_ai import log
    except ImportError as error:
        raise MachineError("Inspect is not installed here", where="inspect-ai", do=INSTALL) from error
    return log


def _key(answer: Answer) -> tuple[str, int]:
    return answer.prompt.id, answer.sample


def _by_answer(answers: Sequence[Answer], verdicts: Sequence[Verdict]) -> dict[tuple[str, int], list[Verdict]]:
    texts = {_key(answer): (answer.hash, answer.model) for answer in answers}
    found: dict[tuple[str, int], list[Verdict]] = {}
    for verdict in verdicts:
        place = (verdict.prompt_id, verdict.sample)
        if texts.get(place) != (verdict.answer_hash, verdict.model):
            raise DataError(
                "a verdict is on an answer that is not among these",
                where=f"model {verdict.model}, prompt {verdict.prompt_id}",
                value=verdict.criterion,
                do="give the answers that were judged (--answers)",
            )
        found.setdefault(place, []).append(verdict)
    return found


def _sample(answer: Answer, place: int, verdicts: Sequence[Verdict]) -> Any:
    from inspect_ai.log import EvalSample
    from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageUser, ModelOutput
    from inspect_ai.scorer import Score

    kinds: dict[str, Any] = {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}
    identity = content_key([place, answer.prompt.id, answer.sample])
    asked = [
        kinds[message.role](content=message.content, id=f"{identity[:16]}-{i}")
        for i, message in enumerate(answer.prompt.messages)
    ]
    output = ModelOutput.from_content(answer.model, answer.text)
    output.choices[0].message.id = f"{identity[:16]}-answer"
    scores = {
        score_name(verdict): Score(
            value=score_value(verdict),
            explanation=f"unparsed: {verdict.reason}" if verdict.reason else None,
            metadata={"baseline": verdict.baseline} if verdict.baseline else None,
        )
        for verdict in verdicts
    }
    return EvalSample(
        id=answer.prompt.id,
        epoch=answer.sample + 1,
        input=asked,
        target="",
        messages=[*asked, output.choices[0].message],
        output=output,
        scores=scores,
        uuid=identity[:22],
        metadata={"category": answer.prompt.category, "kind": str(answer.prompt.kind)},
    )


def _summary(log: Any, name: str, verdicts: Sequence[Verdict]) -> Any:
    """Return what a log says of one score over all samples: a mean, or the share of each label."""
    values = [score_value(verdict) for verdict in verdicts]
    numbers = [value for value in values if isinstance(value, float) and not math.isnan(value)]
    labels = Counter(value for value in values if isinstance(value, str))
    read = len(numbers) + sum(labels.values())
    shares = {label: n / read for label, n in sorted(labels.items())}
    figures = shares or ({"mean": sum(numbers) / read} if read else {})
    metrics = {key: log.EvalMetric(name=key, value=value) for key, value in figures.items()}
    unread = len(values) - read
    return log.EvalScore(name=name, scorer=name, scored_samples=read, unscored_samples=unread, metrics=metrics)
