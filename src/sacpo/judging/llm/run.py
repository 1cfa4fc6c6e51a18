"""Ask a panel of language models and keep every verdict as it comes."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sacpo.data.records import Outcome, Verdict
from sacpo.errors import DataError, RunError
from sacpo.judging.llm.budget import Budget, BudgetSpent, CostEstimate, Ledger, Usage
from sacpo.judging.llm.client import Endpoint, Pace, RequestFailed
from sacpo.judging.llm.judge import LlmJudge
from sacpo.judging.llm.plan import AB, BA, Ask, by_key, estimates, plan
from sacpo.judging.llm.render import mark, messages, reminder, shown
from sacpo.judging.llm.store import Store, UnreadReply, said_of
from sacpo.judging.parse import Reading, Unparsed, parse_reply
from sacpo.judging.question import Question
from sacpo.stats.verdicts import question as asked_by
from sacpo.system.progress import QUIET, Progress, Task

FAILURES_IN_A_ROW = 10
BUDGET = "budget spent"
EQUAL = Reading(winner="tie")


@dataclass(frozen=True, slots=True)
class Missing:
    """A question that has no verdict, and why; it is asked again by the next run."""

    judge: str
    criterion: str
    model: str
    prompt_id: str
    sample: int
    order: str
    repeat: int
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Return the record as a JSON-ready dictionary."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class JudgeRun:
    """What a panel said.

    Attributes:
        verdicts: One for each judge, question, order and repeat that has one, in the order of the plan.
        missing: Those that have none: the budget was spent, or the endpoint failed.
        usage: What this call used, by judge.
        unparsed: How many of the verdicts could not be read, by reason.
        estimates: What was expected before the first request.
    """

    verdicts: list[Verdict]
    missing: list[Missing]
    usage: dict[str, Usage]
    unparsed: dict[str, int]
    estimates: list[CostEstimate]


def judge_llm(
    judges: Sequence[LlmJudge],
    questions: Sequence[Question],
    store: Store,
    *,
    orders: Sequence[str] = (AB, BA),
    repeats: int = 1,
    concurrency: int = 16,
    budget: Budget | None = None,
    progress: Progress = QUIET,
    on_estimate: Callable[[Sequence[CostEstimate]], None] | None = None,
) -> JudgeRun:
    """Ask every judge every question, in both orders and with repeats; verdicts that the store knows cost nothing.

    A reply that cannot be read is asked for again, then counts as unparsed. A request that fails for good leaves its
    question open: no verdict is made of it. Two equal answers are a tie, which no judge is asked about.

    Args:
        judges: The panel.
        questions: What to judge; pairwise rubrics need their baselines.
        store: Keeps every verdict as soon as it is there.
        orders: For pairwise rubrics.
        repeats: How often each is asked.
        concurrency: Requests under way at once, for each judge and rubric.
        budget: Limits on this call.
        progress: Where to report.
        on_estimate: Called before the first request; what it raises stops the call before anything is paid.

    Raises:
        DataError: The arguments do not fit together.
        RunError: An endpoint refuses the key or the model; what came before is kept.
    """
    budget = budget or Budget()
    budget.check([judge.model for judge in judges])
    if concurrency < 1:
        raise DataError("at least one request at a time", where="concurrency", value=concurrency)
    asks = plan(judges, questions, orders, repeats)
    groups = by_key(asks)
    _share(groups, store)
    expected = estimates(asks, store.keys(), budget)
    _announce(expected, progress, on_estimate)
    known = store.keys()
    todo = {key: members for key, members in groups.items() if key not in known}
    with progress.task("judging", len(todo), "requests") as task:
        missing, usage = asyncio.run(_ask_all(judges, todo, store, budget, concurrency, task)) if todo else ({}, {})
    return _result(asks, store, missing, usage, expected)


class _Panelist:
    """One judge at work on its open questions."""

    def __init__(self, endpoint: Endpoint, todo: dict[str, list[Ask]], store: Store, task: Task) -> None:
        self.endpoint, self.store, self.task = endpoint, store, task
        self.judge = endpoint.judge
        self.open = deque(todo.items())
        self.missing: dict[str, str] = {}
        self.stopped = ""
        self._failures = 0

    async def work(self) -> None:
        """Ask until nothing is open, the budget is spent or the endpoint fails again and again."""
        while self.open and not self.stopped:
            key, asks = self.open.popleft()
            try:
                await self._ask(key, asks)
            except BudgetSpent:
                self.missing[key] = self.stopped = BUDGET
            except RequestFailed as failed:
                self.missing[key] = failed.reason
                self._failures += 1
                if self._failures >= FAILURES_IN_A_ROW:
                    self.stopped = f"given up after {self._failures} failures in a row; the last: {failed.reason}"
            else:
                self._failures = 0
                self.task.advance()

    async def _ask(self, key: str, asks: Sequence[Ask]) -> None:
        """Get one verdict and keep it; replies that could not be read before a restart count as read once."""
        ask, rubric, endpoint = asks[0], self.judge.rubric, self.endpoint
        unread = self.store.unread(key)
        sign = mark(rubric, ask.question)
        while len(unread) <= self.judge.rereads:
            form = endpoint.structured
            chat = messages(rubric, ask.question, ask.order, structured=form)
            longest = self.judge.max_tokens
            if unread:
                chat += reminder(rubric, ask.question, unread[-1].reply, structured=form)
                longest *= 2 if unread[-1].reason == "truncated" else 1
            reply = await endpoint.ask(chat, max_tokens=longest, repeat=ask.repeat, structured=form, salt=key)
            said = parse_reply(
                reply.text,
                rubric,
                sign=sign,
                finish_reason=reply.finish_reason,
                untrusted=shown(ask.question),
            )
            if not isinstance(said, Unparsed):
                self._keep(key, asks, [a.verdict(said) for a in asks], reply.text, reply.usage, said.categories)
                return
            attempt = len(unread)
            self.store.put_unread(key, attempt, said.reason, reply.text, reply.usage)
            unread.append(UnreadReply(attempt, said.reason, reply.text, reply.usage))
        last = unread[-1]
        self._keep(key, asks, [a.verdict(Unparsed(last.reason)) for a in asks], last.reply, {}, (), last.reason)

    def _keep(
        self,
        key: str,
        asks: Sequence[Ask],
        verdicts: Sequence[Verdict],
        reply: str,
        usage: dict[str, int],
        categories: Sequence[str],
        reason: str = "",
    ) -> None:
        beside: dict[str, Any] = {"rubric": asks[0].judge.rubric.name, "categories": list(categories)}
        if reason:
            beside["reason"] = reason
        for verdict in verdicts:
            self.store.put(key, verdict, reply=reply, usage=usage, question=beside)


async def _ask_all(
    judges: Sequence[LlmJudge],
    todo: dict[str, list[Ask]],
    store: Store,
    budget: Budget,
    concurrency: int,
    task: Task,
) -> tuple[dict[str, str], dict[str, Usage]]:
    """Ask the open questions; return the keys that stay open with the reason, and what was used."""
    ledger = Ledger(budget)
    panel = []
    paces: dict[tuple[Any, ...], Pace] = {}
    try:
        for judge in judges:
            own = {key: asks for key, asks in todo.items() if asks[0].judge is judge}
            if own:
                # one model asked by several rubrics has one rate limit
                limits = judge.requests_per_minute, judge.tokens_per_minute
                pace = paces.setdefault((judge.base_url, judge.model, judge.api_key_env, *limits), Pace(*limits))
                panel.append(_Panelist(Endpoint(judge, ledger, pace), own, store, task))
        async with asyncio.TaskGroup() as group:
            for panelist in panel:
                for _ in range(min(concurrency, len(panelist.open))):
                    group.create_task(panelist.work())
    except* RunError as errors:
        raise _first(errors) from None
    finally:
        for panelist in panel:
            await panelist.endpoint.close()
    missing = {}
    for panelist in panel:
        missing.update(panelist.missing)
        missing.update(dict.fromkeys((key for key, _ in panelist.open), panelist.stopped))
    return missing, ledger.usage


def _first(errors: BaseExceptionGroup[RunError]) -> BaseException:
    found: BaseException = errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


def _share(groups: dict[str, list[Ask]], store: Store) -> None:
    """Give known verdicts to questions that have the same texts as one that was asked before."""
    rows = store.rows()
    known = {row.key: row.verdict for row in rows}
    have = {(row.key, asked_by(row.verdict)) for row in rows}
    for key, asks in groups.items():
        if key in known:
            for ask in asks:
                verdict = _known(ask, known[key])
                if (key, asked_by(verdict)) not in have:
                    store.put(key, verdict)


def _known(ask: Ask, said: Verdict) -> Verdict:
    return said_of(said, ask.verdict(Unparsed("")))


def _announce(
    expected: Sequence[CostEstimate], progress: Progress, on_estimate: Callable[[Sequence[CostEstimate]], None] | None
) -> None:
    if on_estimate is not None:
        on_estimate(expected)
    for estimate in expected:
        if estimate.requests:
            progress.notice(estimate.text())


def _result(
    asks: Sequence[Ask],
    store: Store,
    missing: dict[str, str],
    usage: dict[str, Usage],
    expected: list[CostEstimate],
) -> JudgeRun:
    rows = {row.key: row for row in store.rows()}
    verdicts, left, unparsed = [], [], Counter[str]()
    for ask in asks:
        if ask.settled:
            verdicts.append(ask.verdict(EQUAL))
            continue
        row = rows.get(ask.key)
        if row is None:
            left.append(_missing(ask, missing[ask.key]))
            continue
        verdicts.append(_known(ask, row.verdict))
        if row.verdict.outcome is Outcome.UNPARSED:
            unparsed[row.question.get("reason", "")] += 1
    return JudgeRun(verdicts, left, usage, dict(sorted(unparsed.items())), expected)


def _missing(ask: Ask, reason: str) -> Missing:
    answer, prompt = ask.question.answer, ask.question.prompt
    return Missing(
        ask.judge.name, ask.judge.criterion, answer.model, prompt.id, answer.sample, ask.order, ask.repeat, reason
    )
