"""Texts that a language model behind an endpoint writes, one a request; what was paid for stays in a file."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sacpo.errors import Unfinished
from sacpo.judging.llm.budget import Budget, Ledger
from sacpo.judging.llm.client import Endpoint
from sacpo.judging.llm.judge import LlmModel
from sacpo.judging.llm.response import FILTER, LENGTH, REFUSAL
from sacpo.judging.llm.work import BUDGET, Worker, work_all
from sacpo.system.files import content_key
from sacpo.system.machine import machine_errors
from sacpo.system.progress import QUIET, Progress, Task

CONCURRENCY = 16
"""Requests at once."""
REASONS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Written:
    """What a model wrote.

    Attributes:
        key: The content key of what was asked.
        text: The text.
        refused: Why there is none: the endpoint's filter, a reply that was cut off, ...; "" where there is one.
    """

    key: str
    text: str
    refused: str = ""


def write_texts(
    model: LlmModel, requests: Sequence[str], kept: Path, *, budget: Budget, progress: Progress = QUIET
) -> list[Written]:
    """Return what a model says to each request; what `kept` holds is not asked again.

    Args:
        model: Who writes.
        requests: What is asked, each a conversation of its own.
        kept: The file of replies, one a line; it grows as they come.
        budget: Limits on this call.
        progress: Where to report.

    Raises:
        Unfinished: Replies are missing, because the budget is spent or the endpoint failed; those that are there stay.
    """
    budget.check([model.spec.model])
    keys = [content_key([model.settings(), request]) for request in requests]
    known = _read(kept)
    todo = {key: request for key, request in zip(keys, requests, strict=True) if key not in known}
    if todo:
        with progress.task("asking for texts", len(todo), "request") as task:
            missing = asyncio.run(_all(model, todo, kept, budget, task))
        if missing:
            raise _incomplete(missing, len(requests), kept)
        known = _read(kept)
    return [known[key] for key in keys]


class _Writer(Worker[str]):
    """A model at work on its open requests."""

    def __init__(self, endpoint: Endpoint, todo: dict[str, str], kept: Path, task: Task) -> None:
        super().__init__(endpoint, todo, task)
        self.kept = kept

    async def ask(self, key: str, question: str) -> None:
        """Get one text and keep it."""
        longest = self.endpoint.judge.spec.max_tokens
        chat = [{"role": "user", "content": question}]
        reply = await self.endpoint.ask(lambda structured: chat, max_tokens=longest, repeat=0, salt=key)
        whole = reply.finish_reason not in (FILTER, REFUSAL, LENGTH)
        text = self.endpoint.without_key(reply.text) if whole else ""
        self._keep(Written(key, text, "" if whole else reply.finish_reason))

    def refused(self, key: str, question: str, reason: str, words: str) -> None:
        """Keep that the endpoint will not answer."""
        self._keep(Written(key, "", reason))

    def _keep(self, written: Written) -> None:
        with machine_errors(self.kept), self.kept.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(written)) + "\n")


async def _all(model: LlmModel, todo: dict[str, str], kept: Path, budget: Budget, task: Task) -> dict[str, str]:
    return await work_all([_Writer(Endpoint(model, Ledger(budget)), todo, kept, task)], CONCURRENCY)


def _read(kept: Path) -> dict[str, Written]:
    """Return the replies of a file by key; a last line that a killed process left half written is cut off."""
    if not kept.is_file():
        return {}
    with machine_errors(kept):
        text = kept.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            kept.write_text(whole, encoding="utf-8")
    return {written.key: written for line in whole.splitlines() for written in [Written(**json.loads(line))]}


def _incomplete(missing: dict[str, str], requests: int, kept: Path) -> Unfinished:
    reasons = Counter(missing.values())
    spent = BUDGET in reasons
    return Unfinished(
        f"{len(missing)} of {requests} texts are missing" + (": the budget is spent" if spent else ""),
        where=kept,
        value="; ".join(f"{n} x {reason}" for reason, n in reasons.most_common(REASONS_SHOWN)),
        do="the same command goes on from here; what was answered is kept and not paid again"
        + ("" if spent else ", once the endpoint answers"),
    )
