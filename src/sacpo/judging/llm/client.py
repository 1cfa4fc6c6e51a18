"""One endpoint: requests at its pace, again after faults, stopped at once by what no retry mends.

The key comes from an environment variable. It is in no message, record or log: what an endpoint says is freed of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import NoReturn

from sacpo.errors import RunError
from sacpo.judging.llm.access import check_access, client_of, proxy_of
from sacpo.judging.llm.adapt import SCHEMA, TEXT, Change, Shape, changed
from sacpo.judging.llm.budget import Ledger, estimated_tokens
from sacpo.judging.llm.judge import LlmJudgeConfig, LlmModel
from sacpo.judging.llm.render import Message
from sacpo.judging.llm.response import ErrorInside, Nonsense, Reply, read_reply
from sacpo.judging.llm.said import Said, about_every_request, about_one_question, bounded, said
from sacpo.plain import JsonObject

RETRIED = frozenset({408, 409, 425, 429})
PAGES = 3
"""HTML pages in place of one reply, the first of all, after which the address is not taken for an endpoint's."""
LONGEST_BACKOFF = 30.0
"""Seconds between two tries of a request at most, where the endpoint does not ask for more."""
SHORTEST_SECRET = 8
"""Shorter keys are placeholders such as "none": replacing them would only garble texts."""
_KEY_LIKE = re.compile(r"\b(?:sk|pk|key)-[\w*.\-]{4,}|(?<=Bearer )\S+")
Chat = Callable[[bool], list[Message]]
"""The messages of a request, told whether the reply is to be a JSON object."""


class RequestFailed(Exception):
    """A request got no reply, for good; its question stays open. `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class QuestionRefused(Exception):
    """The endpoint will not judge this question, however often it is asked.

    Attributes:
        reason: filtered or too_long.
        words: The endpoint's own.
    """

    def __init__(self, reason: str, words: str) -> None:
        super().__init__(reason)
        self.reason, self.words = reason, words


class _Fault(Exception):
    """One attempt failed and another may succeed; `wait` is what the endpoint asked for, in seconds."""

    def __init__(
        self, reason: str, wait: float | None = None, *, billed: bool = False, words: str = "", page: bool = False
    ) -> None:
        super().__init__(reason)
        self.reason, self.wait, self.billed, self.words, self.page = reason, wait, billed, words, page


class _Refused(Exception):
    """The endpoint refuses the form of a request, and the next one has another."""


@dataclass(frozen=True, slots=True)
class Adaptation:
    """What an endpoint refused, what it is asked instead, and its own words."""

    judge: str
    refused: str
    instead: str
    words: str

    def to_json(self) -> dict[str, str]:
        """Return the record as a JSON-ready dictionary."""
        return {name: getattr(self, name) for name in self.__slots__}

    def text(self) -> str:
        """Return it as a sentence."""
        return f"judge {self.judge}: the endpoint refuses {self.refused}; {self.instead} from now on ({self.words})"


class Manner:
    """How one endpoint is asked: it changes when the endpoint refuses something, and judges may share it."""

    def __init__(self, judge: LlmModel, tell: Callable[[Adaptation], object] = lambda _: None) -> None:
        self.shape = Shape(SCHEMA if judge.spec.structured and isinstance(judge, LlmJudgeConfig) else TEXT)
        self.adaptations: list[Adaptation] = []
        self._tell = tell

    def change(self, judge: LlmModel, change: Change, words: str) -> None:
        """Ask differently from now on."""
        self.shape = change.shape
        self.adaptations.append(Adaptation(judge.name, change.field, change.instead, words))
        self._tell(self.adaptations[-1])


@dataclass(frozen=True, slots=True)
class _Sent:
    """A request under way: the form it was written in, and its body."""

    shape: Shape
    body: JsonObject
    prompt_tokens: int


class Endpoint:
    """A judge's endpoint; close it when done.

    Args:
        judge: Who is asked.
        ledger: What may be spent.
        pace: Shared with the other judges of this model; None: its own.
        manner: Shared with the judges of the same settings; None: its own.

    Raises:
        RunError, RecipeError: See `sacpo.judging.llm.access.check_access`.
    """

    def __init__(self, judge: LlmModel, ledger: Ledger, pace: Pace | None = None, manner: Manner | None = None) -> None:
        import openai  # takes most of a second, so only who judges pays for it

        self.judge, self.ledger = judge, ledger
        self.manner = manner or Manner(judge)
        self._key = check_access(judge)
        self._openai = openai
        self._client = client_of(judge, self._key)
        self._pace = pace or Pace(judge.spec.requests_per_minute, judge.spec.tokens_per_minute)
        self._answers = False

    @property
    def structured(self) -> bool:
        """Whether a reply is to be a JSON object."""
        return self.manner.shape.form != TEXT

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def ask(self, chat: Chat, *, max_tokens: int, repeat: int, salt: str) -> Reply:
        """Return the reply to these messages, sending them again after faults.

        Args:
            chat: The messages.
            max_tokens: Longest reply.
            repeat: Which repetition; shifts the seed.
            salt: Decides the waits' jitter.

        Raises:
            QuestionRefused: The endpoint will not judge this.
            RequestFailed: No attempt succeeded, or the endpoint refuses this request.
            RunError: No request can succeed: wrong key, unknown model, no credit.
            BudgetSpent: There is no room for another attempt.
        """
        attempt = 0
        while True:
            sent = self._request(chat, max_tokens, repeat)
            await self._pace.turn(sent.prompt_tokens + max_tokens)
            async with self.ledger.request(
                self.judge.name, self.judge.spec.model, sent.prompt_tokens, max_tokens
            ) as spending:
                try:
                    reply = await self._once(sent)
                except _Refused:
                    continue
                except _Fault as fault:
                    spending.prompt_tokens = sent.prompt_tokens if fault.billed else 0
                    wait = self._wait(fault, attempt, salt)
                else:
                    spending.prompt_tokens, spending.completion_tokens = reply.prompt_tokens, reply.completion_tokens
                    return reply
            attempt += 1
            await asyncio.sleep(wait)

    def _request(self, chat: Chat, max_tokens: int, repeat: int) -> _Sent:
        shape = self.manner.shape
        messages = chat(shape.form != TEXT)
        body = shape.body(self.judge, messages, max_tokens, repeat)
        return _Sent(shape, body, estimated_tokens(messages))

    def _wait(self, fault: _Fault, attempt: int, salt: str) -> float:
        """Return how long to wait after a fault; the endpoint's own wish holds for all its requests."""
        judge, words = self.judge, f": {fault.words}" if fault.words else ""
        if fault.page and not self._answers and attempt + 1 >= PAGES:
            do = "check base_url, proxies and logins: this is no endpoint's address"
            raise RunError(fault.reason, where=f"{judge.title}, {judge.address}", do=do) from None
        if attempt >= judge.spec.retries:
            raise RequestFailed(f"{fault.reason}, {attempt + 1} times{words}") from None
        if fault.wait is None:
            share = int(hashlib.sha256(f"{salt} {attempt}".encode()).hexdigest()[:8], 16) / 0xFFFFFFFF
            return min(judge.spec.backoff * 2.0**attempt, LONGEST_BACKOFF) * (0.5 + share / 2)
        if fault.wait > judge.spec.longest_pause:
            raise RequestFailed(f"{fault.reason}: asked to wait {fault.wait:.0f} s{words}") from None
        self._pace.pause(fault.wait)
        return fault.wait

    async def _once(self, sent: _Sent) -> Reply:
        openai = self._openai
        try:
            async with asyncio.timeout(self.judge.spec.timeout):
                # the body as it is: the typed method spends more time on checking it than a local judge on replying;
                # a redirect would turn the request into another one, or carry the key elsewhere
                text = await self._client.post(
                    "/chat/completions", cast_to=str, body=sent.body, options={"follow_redirects": False}
                )
            reply = read_reply(text, sent.prompt_tokens)
        except (TimeoutError, openai.APITimeoutError):
            raise _Fault("timeout", billed=True) from None
        except openai.APIConnectionError as error:
            raise self._unreached(error.__cause__ or error) from None
        except openai.APIStatusError as error:
            self._refuse(self._said(error.status_code, error.body, sent), sent, error.response.headers)
        except ErrorInside as error:
            self._refuse(self._said(error.status, error.body, sent), sent, {})
        except Nonsense as nonsense:
            raise self._nonsense(nonsense) from None
        self._answers = True
        return reply

    def _said(self, status: int, body: object, sent: _Sent) -> Said:
        return said(status, body, sent.body["messages"], self.freed)

    def _unreached(self, cause: BaseException) -> Exception:
        """Return what a connection that failed means."""
        proxy = proxy_of(self.judge.address)
        way = f"{self._client.base_url}" + (f" through the proxy of {proxy}" if proxy else "")
        kind, words = type(cause).__name__, bounded(self.freed(str(cause)))
        if proxy and "407" in words:
            return RunError("the proxy asks for a name and a password", where=way, value=words, do=f"check {proxy}")
        return _Fault(f"no connection to {way} ({kind})", billed=True, words=words)

    def _nonsense(self, nonsense: Nonsense) -> Exception:
        """Return what a success status without a completion means: a fault, or no endpoint at all."""
        what = self.freed(nonsense.reason)
        if nonsense.kind == "stream":
            do = "turn streaming off at the endpoint, or say extra: {stream: false}"
            return RunError(what, where=f"{self.judge.title}, {self.judge.address}", do=do)
        return _Fault(what, billed=True, page=nonsense.kind == "page")

    def _refuse(self, said: Said, sent: _Sent, headers: Mapping[str, str]) -> NoReturn:
        """Raise what a status that is no success means."""
        if (reason := about_one_question(said, self.judge.spec.max_tokens)) is not None:
            raise QuestionRefused(reason, f"status {said.status}{said.shown}") from None
        self._adapt(said, sent)
        if said.status == 403 and self._answers:  # other requests pass: this one's text, or a limit, is the reason
            raise RequestFailed(f"status 403{said.shown}") from None
        error = about_every_request(said, self.judge, self.freed(headers.get("location", "")))
        if error is not None:
            raise error from None
        if said.status in RETRIED or said.status >= 500:
            raise _Fault(f"status {said.status}", retry_after(headers), words=said.words) from None
        raise RequestFailed(f"status {said.status}{said.shown}") from None

    def _adapt(self, said: Said, sent: _Sent) -> None:
        """Ask differently if that may help. A request that was under way when the form changed is only sent again."""
        change = changed(sent.shape, self.judge, sent.body, said)
        if change is None:
            return
        if sent.shape == self.manner.shape:
            self.manner.change(self.judge, change, said.words)
        raise _Refused from None

    def freed(self, text: str) -> str:
        """Return a text of the endpoint without anything that could be a key."""
        return _KEY_LIKE.sub("[key]", self.without_key(text))

    def without_key(self, text: str) -> str:
        """Return a text without this endpoint's key."""
        return text.replace(self._key, "[key]") if len(self._key) >= SHORTEST_SECRET else text


class Pace:
    """Spreads requests evenly over time, and lets all of them wait when the endpoint asks for it."""

    def __init__(self, requests_per_minute: float | None, tokens_per_minute: float | None) -> None:
        self._rates = (requests_per_minute, tokens_per_minute)
        self._next = 0.0

    async def turn(self, tokens: int) -> None:
        """Wait until a request of so many tokens may start."""
        seconds = [60.0 * n / rate for n, rate in zip((1, tokens), self._rates, strict=True) if rate]
        now = time.monotonic()
        start = max(now, self._next)
        if seconds:
            self._next = start + max(seconds)
        if start > now:
            await asyncio.sleep(start - now)

    def pause(self, seconds: float) -> None:
        """Let no request start for so long."""
        self._next = max(self._next, time.monotonic() + seconds)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that an endpoint asks to wait: retry-after-ms, or Retry-After as seconds or as a date."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) * unit
        except ValueError:
            try:
                seconds = parsedate_to_datetime(value).timestamp() - time.time()
            except ValueError:
                continue
        if math.isfinite(seconds):
            return max(seconds, 0.0)
    return None
