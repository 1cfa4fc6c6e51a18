"""Ask a panel of language models and keep every verdict as it comes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sacpo.data.records import Outcome, Verdict
from sacpo.errors import DataError
from sacpo.judging.llm.budget import CostEstimate, Ledger, Usage
from sacpo.judging.llm.client import Adaptation, Endpoint, Manner, Pace
from sacpo.judging.llm.judge import LlmJudgeConfig
from sacpo.judging.llm.plan import BY_DEFAULT, Ask, Asking, by_key, estimates, plan
from sacpo.judging.llm.render import Message, mark, messages, reminded, shown
from sacpo.judging.llm.response import FILTER, REFUSAL
from sacpo.judging.llm.store import Store, UnreadReply, said_of
from sacpo.judging.llm.work import Worker, work_all
from sacpo.judging.parse import Reading, Unparsed, parse_reply
from sacpo.judging.question import Question
from sacpo.plain import JsonObject
from sacpo.stats.verdicts import question as asked_by
from sacpo.system.files import content_key
from sacpo.system.progress import QUIET, Progress, Task

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

    def to_json(self) -> JsonObject:
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
        adaptations: What endpoints refused, and what they were asked instead.
    """

    verdicts: list[Verdict]
    missing: list[Missing]
    usage: dict[str, Usage]
    unparsed: dict[str, int]
    estimates: list[CostEstimate]
    adaptations: list[Adaptation]


def judge_llm(
    judges: Sequence[LlmJudgeConfig],
    questions: Sequence[Question],
    store: Store,
    *,
    asking: Asking = BY_DEFAULT,
    progress: Progress = QUIET,
    on_estimate: Callable[[Sequence[CostEstimate]], None] | None = None,
    manners: dict[str, Manner] | None = None,
) -> JudgeRun:
    """Ask every judge every question, in both orders and with repeats; verdicts that the store knows cost nothing.

    A reply that cannot be read is asked for again, then counts as unparsed; so does, at once, what an endpoint will not
    judge (its filter, a text too long for the model). A request that fails for good leaves its question open: no
    verdict is made of it. Two equal answers are a tie, which no judge is asked about.

    Args:
        judges: The panel.
        questions: What to judge; pairwise rubrics need their baselines.
        store: Keeps every verdict as soon as it is there.
        asking: Orders, repeats, and limits on this call.
        progress: Where to report.
        on_estimate: Called before the first request; what it raises stops the call before anything is paid.
        manners: Keeps what endpoints refuse from one call to the next; None: for this call alone.

    Raises:
        DataError: The arguments do not fit together.
        RunError: An endpoint refuses the key or the model; what came before is kept.
    """
    asking.budget.check([judge.spec.model for judge in judges])
    if asking.concurrency < 1:
        raise DataError("at least one request at a time", where="concurrency", value=asking.concurrency)
    asks = plan(judges, questions, asking.orders, asking.repeats)
    groups = by_key(asks)
    _share(groups, store)
    expected = estimates(asks, store.keys(), asking.budget)
    _announce(expected, progress, on_estimate)
    known = store.keys()
    todo = {key: members for key, members in groups.items() if key not in known}
    with progress.task("judging", len(todo), "requests") as task:
        ledger = Ledger(asking.budget)
        call = _Call(store, ledger, asking.concurrency, task, progress, {} if manners is None else manners)
        missing = asyncio.run(call.all(judges, todo)) if todo else {}
    return _result(asks, store, missing, expected, call)


class _Panelist(Worker[list[Ask]]):
    """One judge at work on its open questions."""

    def __init__(
        self, endpoint: Endpoint, judge: LlmJudgeConfig, todo: dict[str, list[Ask]], store: Store, task: Task
    ) -> None:
        super().__init__(endpoint, todo, task)
        self.judge, self.store = judge, store

    async def ask(self, key: str, question: list[Ask]) -> None:
        """Get one verdict and keep it; replies that could not be read before a restart count as read once."""
        asks, rubric, endpoint = question, self.judge.rubric, self.endpoint
        ask = asks[0]
        unread = self.store.unread(key)
        sign = mark(rubric, ask.question)
        while len(unread) <= self.judge.spec.rereads:
            last = unread[-1] if unread else None

            def chat(structured: bool, last: UnreadReply | None = last) -> list[Message]:
                asked = messages(rubric, ask.question, ask.order, structured=structured)
                if last is None:
                    return asked
                return reminded(asked, rubric, ask.question, last.reply, structured=structured)

            longest = self.judge.spec.max_tokens * (2 if last is not None and last.reason == "truncated" else 1)
            reply = await endpoint.ask(chat, max_tokens=longest, repeat=ask.repeat, salt=key)
            said = parse_reply(
                reply.text, rubric, sign=sign, finish_reason=reply.finish_reason, untrusted=shown(ask.question)
            )
            text = endpoint.without_key(reply.text)
            if not isinstance(said, Unparsed):
                self._keep(key, asks, [a.verdict(said) for a in asks], text, reply.usage, said.categories)
                return
            if reply.finish_reason in (FILTER, REFUSAL):
                self._give_up(key, asks, said.reason, text, reply.usage)
                return
            attempt = len(unread)
            self.store.put_unread(key, attempt, said.reason, text, reply.usage)
            unread.append(UnreadReply(attempt, said.reason, text, reply.usage))
        self._give_up(key, asks, unread[-1].reason, unread[-1].reply)

    def refused(self, key: str, question: list[Ask], reason: str, words: str) -> None:
        """Keep that no verdict can be had."""
        self._give_up(key, question, reason, words)

    def _give_up(
        self, key: str, asks: Sequence[Ask], reason: str, reply: str, usage: Mapping[str, int] | None = None
    ) -> None:
        """Keep that no verdict can be had, and why."""
        self._keep(key, asks, [ask.verdict(Unparsed(reason)) for ask in asks], reply, usage or {}, (), reason)

    def _keep(
        self,
        key: str,
        asks: Sequence[Ask],
        verdicts: Sequence[Verdict],
        reply: str,
        usage: Mapping[str, int],
        categories: Sequence[str],
        reason: str = "",
    ) -> None:
        beside: JsonObject = {"rubric": asks[0].judge.rubric.name, "categories": list(categories)}
        if reason:
            beside["reason"] = reason
        for verdict in verdicts:
            self.store.put(key, verdict, reply=reply, usage=usage, question=beside)


class _Call:
    """One call's requests: what judges of one endpoint share, and what comes of all of them."""

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        concurrency: int,
        task: Task,
        progress: Progress,
        manners: dict[str, Manner],
    ) -> None:
        self.store, self.ledger, self.concurrency, self.task = store, ledger, concurrency, task
        self._progress, self._manners = progress, manners
        self._paces: dict[tuple[object, ...], Pace] = {}

    @property
    def adaptations(self) -> list[Adaptation]:
        """What endpoints refused."""
        return [one for manner in self._manners.values() for one in manner.adaptations]

    async def all(self, judges: Sequence[LlmJudgeConfig], todo: dict[str, list[Ask]]) -> dict[str, str]:
        """Ask the open questions; return the keys that stay open with the reason."""
        panel = []
        for judge in judges:
            own = {key: asks for key, asks in todo.items() if asks[0].judge is judge}
            if own:
                panel.append(_Panelist(self._endpoint(judge), judge, own, self.store, self.task))
        return await work_all(panel, self.concurrency)

    def _endpoint(self, judge: LlmJudgeConfig) -> Endpoint:
        """Return a judge's endpoint: one model has one rate limit, and one way to be asked for the same settings."""
        spec = judge.spec
        limits = spec.requests_per_minute, spec.tokens_per_minute
        pace = self._paces.setdefault((judge.endpoint, spec.model, spec.api_key_env, *limits), Pace(*limits))
        same = content_key({"settings": judge.settings(), "key": spec.api_key_env})
        manner = self._manners.setdefault(same, Manner(judge, lambda change: self._progress.notice(change.text())))
        return Endpoint(judge, self.ledger, pace, manner)


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
    expected: list[CostEstimate],
    call: _Call,
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
    reasons = dict(sorted(unparsed.items()))
    return JudgeRun(verdicts, left, call.ledger.usage, reasons, expected, call.adaptations)


def _missing(ask: Ask, reason: str) -> Missing:
    answer, prompt = ask.question.answer, ask.question.prompt
    return Missing(
        ask.judge.name, ask.judge.criterion, answer.model, prompt.id, answer.sample, ask.order, ask.repeat, reason
    )
