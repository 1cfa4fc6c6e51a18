"""Requests to one endpoint, several at a time, until none is open, the budget is spent or the endpoint fails."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

from sacpo.errors import RecipeError, RunError, UserError
from sacpo.judging.llm.budget import BudgetSpent
from sacpo.judging.llm.client import Endpoint, QuestionRefused, RequestFailed
from sacpo.system.progress import Task

T = TypeVar("T")
FAILURES_IN_A_ROW = 10
BUDGET = "budget spent"


class Worker(Generic[T]):
    """Asks one endpoint its open questions; subclasses say how one is asked and what is kept.

    Args:
        endpoint: Who is asked.
        todo: The open questions by key.
        task: Where to report.
    """

    def __init__(self, endpoint: Endpoint, todo: Mapping[str, T], task: Task) -> None:
        self.endpoint, self.task = endpoint, task
        self.open = deque(todo.items())
        self.missing: dict[str, str] = {}
        self.stopped = ""
        self._failures = 0

    async def ask(self, key: str, question: T) -> None:
        """Get one reply and keep it."""
        raise NotImplementedError

    def refused(self, key: str, question: T, reason: str, words: str) -> None:
        """Keep that the endpoint will not answer."""
        raise NotImplementedError

    @property
    def left(self) -> dict[str, str]:
        """The questions that have no reply, with the reason."""
        return {**self.missing, **dict.fromkeys((key for key, _ in self.open), self.stopped)}

    async def work(self) -> None:
        """Ask until nothing is open, the budget is spent or the endpoint fails again and again."""
        while self.open and not self.stopped:
            key, question = self.open.popleft()
            try:
                await self.ask(key, question)
            except BudgetSpent:
                self.missing[key] = self.stopped = BUDGET
            except QuestionRefused as refused:
                self.refused(key, question, refused.reason, refused.words)
                self._failures = 0
                self.task.advance()
            except RequestFailed as failed:
                self.missing[key] = failed.reason
                self._failures += 1
                if self._failures >= FAILURES_IN_A_ROW:
                    self.stopped = f"given up after {self._failures} failures in a row; the last: {failed.reason}"
            else:
                self._failures = 0
                self.task.advance()


async def work_all(workers: Sequence[Worker[T]], concurrency: int) -> dict[str, str]:
    """Let all workers ask, so many requests of each at a time; return what stays open, with the reason.

    Raises:
        RunError, RecipeError: No request of one of them can succeed.
    """
    try:
        async with asyncio.TaskGroup() as group:
            for worker in workers:
                for _ in range(min(concurrency, len(worker.open))):
                    group.create_task(worker.work())
    except* (RunError, RecipeError) as errors:
        raise _first(errors) from None
    finally:
        for worker in workers:
            await worker.endpoint.close()
    return {key: reason for worker in workers for key, reason in worker.left.items()}


def _first(errors: BaseExceptionGroup[UserError]) -> BaseException:
    found: BaseException = errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
