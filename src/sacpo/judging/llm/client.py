"""One endpoint: requests at its pace, again after faults, stopped at once by what no retry mends.

The key comes from an environment variable. It is in no message, record or log: what an endpoint says is freed of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn

from sacpo.errors import RunError
from sacpo.judging.llm.budget import Ledger, estimated_tokens
from sacpo.judging.llm.judge import LlmJudge
from sacpo.judging.llm.render import Message, schema

RETRIED = frozenset({408, 409, 425, 429})
NO_KEY = "none"
_KEY_LIKE = re.compile(r"\b(?:sk|pk|key)-[\w*.\-]{4,}|(?<=Bearer )\S+")


@dataclass(frozen=True, slots=True)
class Reply:
    """What an endpoint answered."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int

    @property
    def usage(self) -> dict[str, int]:
        """Its tokens, as the store keeps them."""
        return {"prompt_tokens": self.prompt_tokens, "completion_tokens": self.completion_tokens}


class RequestFailed(Exception):
    """A request got no reply, for good; its question stays open. `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Fault(Exception):
    """One attempt failed and another may succeed; `wait` is what the endpoint asked for, in seconds."""

    def __init__(self, reason: str, wait: float | None = None, *, billed: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.wait, self.billed = reason, wait, billed


class _Refused(Exception):
    """The endpoint does not know a field that was sent, and the request has been changed."""


class Endpoint:
    """A judge's endpoint; close it when done.

    Args:
        judge: Who is asked.
        ledger: What may be spent.
        pace: Shared with the other judges of this model; None: its own.

    Raises:
        RunError: The environment variable of the key is not set.
    """

    def __init__(self, judge: LlmJudge, ledger: Ledger, pace: Pace | None = None) -> None:
        import openai  # takes most of a second, so only who judges pays for it

        self.judge, self.ledger = judge, ledger
        self.structured = judge.structured
        self._tokens_field = "max_tokens"
        self._key = key_of(judge)
        self._openai = openai
        self._client = openai.AsyncOpenAI(
            api_key=self._key or NO_KEY, base_url=judge.base_url or None, max_retries=0, timeout=judge.timeout
        )
        self._pace = pace or Pace(judge.requests_per_minute, judge.tokens_per_minute)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def ask(
        self, messages: Sequence[Message], *, max_tokens: int, repeat: int, structured: bool, salt: str
    ) -> Reply:
        """Return the reply to these messages, sending them again after faults.

        Args:
            messages: The chat.
            max_tokens: Longest reply.
            repeat: Which repetition; shifts the seed.
            structured: Whether to send the schema, if the endpoint takes one.
            salt: Decides the waits' jitter.

        Raises:
            RequestFailed: No attempt succeeded, or the endpoint refuses this request.
            RunError: No request can succeed: wrong key, unknown model, no credit.
            BudgetSpent: There is no room for another attempt.
        """
        prompt_tokens = estimated_tokens(messages)
        attempt = 0
        while True:
            body = self._body(messages, max_tokens, repeat, structured and self.structured)
            await self._pace.turn(prompt_tokens + max_tokens)
            async with self.ledger.request(self.judge.name, self.judge.model, prompt_tokens, max_tokens) as spending:
                try:
                    reply = await self._once(body, prompt_tokens)
                except _Refused:
                    continue
                except _Fault as fault:
                    spending.prompt_tokens = prompt_tokens if fault.billed else 0
                    wait = self._wait(fault, attempt, salt)
                else:
                    spending.prompt_tokens, spending.completion_tokens = reply.prompt_tokens, reply.completion_tokens
                    return reply
            attempt += 1
            await asyncio.sleep(wait)

    def _wait(self, fault: _Fault, attempt: int, salt: str) -> float:
        """Return how long to wait after a fault; the endpoint's own wish holds for all its requests."""
        judge = self.judge
        if attempt >= judge.retries:
            raise RequestFailed(f"{fault.reason}, {attempt + 1} times") from None
        if fault.wait is None:
            share = int(hashlib.sha256(f"{salt} {attempt}".encode()).hexdigest()[:8], 16) / 0xFFFFFFFF
            return min(judge.backoff * 2.0**attempt, judge.longest_backoff) * (0.5 + share / 2)
        if fault.wait > judge.longest_pause:
            raise RequestFailed(f"{fault.reason}: asked to wait {fault.wait:.0f} s") from None
        self._pace.pause(fault.wait)
        return fault.wait

    def _body(self, messages: Sequence[Message], max_tokens: int, repeat: int, structured: bool) -> dict[str, Any]:
        judge = self.judge
        body: dict[str, Any] = {"model": judge.model, "messages": list(messages), self._tokens_field: max_tokens}
        if judge.temperature is not None:
            body["temperature"] = judge.temperature
        if judge.seed is not None:
            body["seed"] = judge.seed + repeat
        if structured:
            form = {"name": "verdict", "schema": schema(judge.rubric), "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        return {**body, **judge.extra}

    async def _once(self, body: Mapping[str, Any], prompt_tokens: int) -> Reply:
        openai = self._openai
        try:
            async with asyncio.timeout(self.judge.timeout):
                # the body as it is: the typed method spends more time on checking it than a local judge on replying
                text = await self._client.post("/chat/completions", cast_to=str, body=body)
        except (TimeoutError, openai.APITimeoutError):
            raise _Fault("timeout", billed=True) from None
        except openai.APIConnectionError as error:
            cause = type(error.__cause__ or error).__name__
            raise _Fault(f"no connection to {self._client.base_url} ({cause})", billed=True) from None
        except openai.APIStatusError as error:
            self._refuse(error.status_code, error.body, error.response.headers, body)
        return _reply(text, prompt_tokens)

    def _refuse(self, status: int, body: object, headers: Mapping[str, str], sent: Mapping[str, Any]) -> NoReturn:
        """Raise what a status that is no success means."""
        said = self._freed(json.dumps(body, ensure_ascii=False, default=str) if body else "")
        where = f"judge {self.judge.name}, {self._client.base_url}"
        if status in (401, 403):
            raise RunError(
                f"the endpoint refuses the key (status {status})",
                where=where,
                do=f"check the environment variable {self.judge.api_key_env or 'that api_key_env should name'}",
            ) from None
        if status == 402 or "insufficient_quota" in said:
            raise RunError(
                "the endpoint says that there is no credit left", where=where, do="add credit, then run it again"
            ) from None
        if status == 404:
            raise RunError(
                "the endpoint knows no such model or address", where=where, value=self.judge.model, do=said or None
            ) from None
        if status in RETRIED or status >= 500:
            raise _Fault(f"status {status}", retry_after(headers)) from None
        if status in (400, 422) and self._adapt(said, sent):
            raise _Refused
        raise RequestFailed(f"status {status}: {said[:300]}") from None

    def _adapt(self, said: str, sent: Mapping[str, Any]) -> bool:
        """Leave out, or rename, the field that the endpoint complains about; tell whether that changed anything."""
        if "response_format" in sent and re.search("response_format|json_schema|schema|guided", said):
            self.structured = False
            return True
        if self._tokens_field in sent and self._tokens_field == "max_tokens" and "max_completion_tokens" in said:
            self._tokens_field = "max_completion_tokens"
            return True
        return self._tokens_field not in sent  # another request has changed it meanwhile

    def _freed(self, text: str) -> str:
        """Return what the endpoint said without anything that could be a key."""
        return _KEY_LIKE.sub("[key]", text.replace(self._key, "[key]") if self._key else text)


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


def key_of(judge: LlmJudge) -> str:
    """Return the key of a judge's endpoint, "" where it needs none.

    Raises:
        RunError: The environment variable that holds it is not set.
    """
    if not judge.api_key_env:
        return ""
    key = os.environ.get(judge.api_key_env, "")
    if not key and (judge.api_key_env != "OPENAI_API_KEY" or not judge.base_url):
        raise RunError(
            "the endpoint's key is missing",
            where=f"judge {judge.name}",
            value=judge.api_key_env,
            do="set this environment variable, or set api_key_env to '' for an endpoint without keys",
        )
    return key


def _reply(text: str, prompt_tokens: int) -> Reply:
    """Read a response's body; whatever is no chat completion is a fault of the endpoint, never a verdict."""
    try:
        body = json.loads(text)
        choice = body["choices"][0]
        message = choice["message"]
        content, refusal = message.get("content"), message.get("refusal")
    except (ValueError, RecursionError):
        raise _Fault("the response is no JSON", billed=True) from None
    except (KeyError, IndexError, TypeError, AttributeError):
        raise _Fault("the response is no chat completion", billed=True) from None
    if isinstance(content, list):
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    if content is not None and not isinstance(content, str):
        raise _Fault("the response is no chat completion", billed=True)
    said = content or (refusal if isinstance(refusal, str) else "")
    usage = body.get("usage") if isinstance(body.get("usage"), dict) else {}
    estimate = estimated_tokens([{"content": said}])
    return Reply(
        said,
        str(choice.get("finish_reason") or "stop"),
        _count(usage.get("prompt_tokens"), prompt_tokens),
        _count(usage.get("completion_tokens"), estimate),
    )


def _count(value: object, estimate: int) -> int:
    return value if isinstance(value, int) and value >= 0 else estimate
