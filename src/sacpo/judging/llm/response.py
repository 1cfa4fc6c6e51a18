"""What came with a success status: a chat completion, or something else that is said as what it is."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from sacpo.judging.llm.budget import estimated_tokens
from sacpo.judging.llm.said import bounded, is_page
from sacpo.plain import JsonMapping

LENGTH, FILTER, REFUSAL = "length", "content_filter", "refusal"
_ENDS = (
    (re.compile(r"content_?filter|safety|prohibited|blocklist|spii|recitation|moderation|sensitive"), FILTER),
    (re.compile(r"length|max_(?:output_|completion_)?tokens|context_window"), LENGTH),
)
_STREAM = re.compile(r"\s*(?::[^\n]*\n\s*)*(?:data|event|id|retry):")
_STATUS = re.compile(r"[45]\d\d")
_NO_ROUTE = re.compile(
    r"unexpected endpoint|method not allowed|\bnot found\b|unknown (?:url|path|route)", re.IGNORECASE
)


_MESSAGES = ("message", "detail", "msg")


@dataclass(frozen=True, slots=True)
class Reply:
    """What an endpoint answered.

    Attributes:
        text: The message.
        finish_reason: Why it ended: stop, length, content_filter, refusal (the message is the model's refusal), ...
        prompt_tokens, completion_tokens: As the endpoint counted them; estimated where it did not.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int

    @property
    def usage(self) -> dict[str, int]:
        """Its tokens, as the store keeps them."""
        return {"prompt_tokens": self.prompt_tokens, "completion_tokens": self.completion_tokens}


class ErrorInside(Exception):
    """A success status that carries an error; `status` is the one that the error stands for."""

    def __init__(self, body: object, status: int) -> None:
        super().__init__(status)
        self.body, self.status = body, status


class Nonsense(Exception):
    """A success status without a chat completion; `kind` is "page", "stream" or "" for anything else."""

    def __init__(self, reason: str, kind: str = "") -> None:
        super().__init__(reason)
        self.reason, self.kind = reason, kind


def read_reply(text: str, prompt_tokens: int) -> Reply:
    """Read the body of a response.

    Raises:
        ErrorInside: It is an error.
        Nonsense: It is anything else that is no chat completion.
    """
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        if is_page(text):
            raise Nonsense(f"the response is an HTML page: {bounded(re.sub('<[^>]*>', ' ', text))}", "page") from None
        if _STREAM.match(text):
            raise Nonsense(f"the response is a stream: {bounded(text)}", "stream") from None
        raise Nonsense(f"the response is no JSON: {bounded(text, 80)}") from None
    choice = _choice(body)
    error = _error(body, choice)
    if error is not None:
        raise ErrorInside(error, _status(error))
    if choice is None:
        raise Nonsense(f"the response is no chat completion: {bounded(text, 80)}")
    return _reply(body, choice, text, prompt_tokens)


def _choice(body: object) -> JsonMapping | None:
    choices = body.get("choices") if isinstance(body, Mapping) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, Mapping) else None


def _error(body: object, choice: JsonMapping | None) -> object | None:
    """Return the error that a body carries: under `error`, in its choice, or as its only message."""
    found = choice.get("error") if choice is not None else None
    if not found and isinstance(body, Mapping):
        found = body.get("error")
        if not found and choice is None and any(isinstance(body.get(name), str) for name in _MESSAGES):
            found = body
    return found or None


def _status(error: object) -> int:
    """Return the status that an error names, else 404 for an address that is not known and 400 for anything else."""
    code = error.get("code", error.get("status")) if isinstance(error, Mapping) else None
    if not isinstance(code, bool) and _STATUS.fullmatch(str(code)):
        return int(str(code))
    return 404 if _NO_ROUTE.search(json.dumps(error, default=str)) else 400


def _reply(body: JsonMapping, choice: JsonMapping, text: str, prompt_tokens: int) -> Reply:
    end = str(choice.get("finish_reason") or "stop")
    end = next((name for form, name in _ENDS if form.search(end.casefold())), end)
    message = choice.get("message")
    if message is None and end == FILTER:
        message = {}
    content = message.get("content") if isinstance(message, Mapping) else 0
    if isinstance(content, list):
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    if not isinstance(message, Mapping) or not (content is None or isinstance(content, str)):
        raise Nonsense(f"the response is no chat completion: {bounded(text, 80)}")
    refusal = message.get("refusal")
    if isinstance(refusal, str) and refusal:
        content, end = content or refusal, REFUSAL if end == "stop" else end
    counted = body.get("usage")
    usage: JsonMapping = counted if isinstance(counted, Mapping) else {}
    said = content or ""
    return Reply(
        said,
        end,
        _count(usage.get("prompt_tokens"), prompt_tokens),
        _count(usage.get("completion_tokens"), estimated_tokens([{"content": said}])),
    )


def _count(value: object, estimate: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else estimate
