"""What endpoints say instead of a reply, and what it means: for one question, for every request, or for the moment.

The words of servers differ; codes, parameters' names and a few phrases do not. Whatever is recognised, the server's own
text goes on to the user, freed of the key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sacpo.errors import RunError
from sacpo.judging.llm.access import proxy_of
from sacpo.judging.llm.judge import LlmModel
from sacpo.system.visible import visible

LONGEST = 300
FILTERED, TOO_LONG = "filtered", "too_long"
OF_ONE_QUESTION = frozenset({400, 403, 413, 422, 451, 500})
"""Statuses that may be about the texts of one question."""

_FILTER = re.compile(
    r"content[\s_\-]?(?:management|filter|polic|moderat|exists risk|safety)|content_?policy|responsible ?ai|flagged"
    r"|moderation|safety (?:system|polic|filter|setting)|usage polic|data_?inspection|inappropriate content"
    r"|prohibited[_ ]content|(?:considered|deemed) high risk|sensitive ?content|(?:sensitive|unsafe|harmful) content"
    r"|guardrail|violates (?:our |the )?(?:usage|content)|safety_check|敏感|不安全"
)
_LONG = re.compile(
    r"context_length|context[ _](?:length|window|size)|n_ctx|(?:prompt|input|message|request)s?(?: text| tokens?)? "
    r"(?:is|are|was) too (?:long|large)|too many (?:input |prompt )?tokens|reduce the length|string_above_max_length"
    r"|maximum (?:prompt|input|sequence) length|input length|max_?model_?len"
    r"|(?:prompt|input|message|request)s? (?:is|are) longer than|max_new_tokens` must be <="
    r"|tokens? (?:count )?(?:\(\d+\) )?exceeds? the (?:maximum|limit)"
)
_CONTEXT = re.compile(r"(?:maximum )?context (?:length|window|size)[^0-9]{0,40}?(\d{2,7})")
_ACCOUNT = re.compile(r"your account|account (?:is|was|has)|terminated|deactivated|suspended|\bbanned")
_ORGANISATION = re.compile(r"organi[sz]ation|openai-project|\bproject\b")
_NO_ACCESS = re.compile(
    r"access to (?:the )?(?:model|this)|model_not_found|not (?:allowed|entitled|permitted) to|permission"
)
_CREDIT = re.compile(
    r"insufficient_quota|insufficient[_ ](?:balance|credit|funds)|billing_(?:hard_limit|not_active)|balance is too low"
)
_ADDRESS = re.compile(
    r"unexpected endpoint|no such (?:route|path|url)|invalid url|unknown (?:route|path|url)|method not allowed"
)
_PAGE = re.compile(r"\s*(?:<!--.*?-->\s*)*<(?:!doctype html|html|head|body)\b", re.IGNORECASE | re.DOTALL)
_TITLE = re.compile(r"<(title|h1)[^>]*>(.*?)</\1>", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Said:
    """What came instead of a reply.

    Attributes:
        status: The HTTP status, or the one that a body names.
        words: For people: the server's text on one line, escaped, bounded and without the key.
        param: The parameter that the server names, lower case; "" for none.
        text: Everything it said, lower case, without what it repeats of the request.
    """

    status: int
    words: str
    param: str = ""
    text: str = ""

    @property
    def shown(self) -> str:
        """The words behind a colon; "" when there are none."""
        return f": {self.words}" if self.words else ""


def said(status: int, body: object, sent: Sequence[Mapping[str, str]], freed: Callable[[str], str]) -> Said:
    """Return what a body says.

    Args:
        status: The HTTP status.
        body: JSON, or a text.
        sent: The messages of the request: servers that repeat them must not be taken at their word.
        freed: Takes the key out of a text.
    """
    if isinstance(body, Mapping) and isinstance(body.get("error"), Mapping | str):
        body = body["error"]
    raw = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False, default=str) if body else ""
    text = raw
    for message in sent:
        for form in (message["content"], json.dumps(message["content"], ensure_ascii=False)[1:-1]):
            text = text.replace(form, " ") if len(form) > 1 else text
    return Said(status, bounded(freed(_words(body) or raw)), _param(body).casefold(), text.casefold())


def _param(body: object) -> str:
    """Return the parameters that a body names: OpenAI's `param`, or the places of FastAPI's `detail`."""
    if not isinstance(body, Mapping):
        return ""
    param, detail = body.get("param"), body.get("detail")
    if isinstance(param, str):
        return param
    places = [one.get("loc") for one in detail if isinstance(one, Mapping)] if isinstance(detail, list) else []
    return " ".join(".".join(map(str, place)) for place in places if isinstance(place, list))


def bounded(text: str, limit: int = LONGEST) -> str:
    """Return a text of others on one line, escaped, of at most so many characters."""
    line = visible(" ".join(text.split()))
    return line if len(line) <= limit else line[: limit - 1] + "…"


def is_page(text: str) -> bool:
    """Tell whether a text is an HTML page: of a proxy, a login or a gateway."""
    return _PAGE.match(text) is not None


def _words(body: object) -> str:
    """Return the part of a body that is for people; "" where it has no such part."""
    if isinstance(body, str):
        if not is_page(body):
            return body
        title = _TITLE.search(body)
        return f"an HTML page: {title[2]}" if title else f"an HTML page: {re.sub('<[^>]*>', ' ', body)}"
    if not isinstance(body, Mapping):
        return ""
    found = next((body[name] for name in ("message", "detail", "msg", "error", "title") if body.get(name)), "")
    inner = body.get("metadata")
    raw = inner.get("raw") if isinstance(inner, Mapping) else None
    words = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False, default=str)
    return f"{words}: {raw}" if isinstance(raw, str) and raw else words


def about_one_question(said: Said, max_tokens: int) -> str | None:
    """Return why the endpoint will not judge this question, "filtered" or "too_long"; None: it says no such thing.

    Raises:
        RunError: The reply alone may be longer than the context.
    """
    if said.status not in OF_ONE_QUESTION or _ACCOUNT.search(said.text):
        return None
    if _FILTER.search(said.text):
        return FILTERED
    if not _LONG.search(said.text) and said.status != 413:
        return None
    longest = _CONTEXT.search(said.text)
    if longest and max_tokens >= int(longest[1]):
        raise RunError(
            f"max_tokens leaves no room in the model's context of {longest[1]} tokens",
            where="max_tokens",
            value=max_tokens,
            do="lower max_tokens",
        )
    return TOO_LONG


def about_every_request(said: Said, judge: LlmModel, location: str = "") -> RunError | None:
    """Return the error of what no other request mends: a key, an account, an address; None: it is none of these.

    Args:
        said: What came.
        judge: Who was asked.
        location: Where a redirect points.
    """
    status, text = said.status, said.text
    key = judge.spec.api_key_env or "that api_key_env should name"
    base = f"{judge.title}, {judge.address}"

    def error(what: str, do: str, value: object = None) -> RunError:
        return RunError(f"{what} (status {status}){said.shown}", where=base, value=value, do=do)

    if 300 <= status < 400:
        do = "write that address as base_url, if it is the endpoint's; a request with a key is never sent on"
        return error("the endpoint sends every request to another address", do, bounded(location))
    if status == 407:
        return error("the proxy asks for a name and a password", f"check {proxy_of(judge.address) or 'the proxy'}")
    if status == 402 or _CREDIT.search(text):
        return error("the endpoint says that there is no credit left", "add credit, then run it again")
    if status in (401, 403) and is_page(text):
        return error("the request is refused before it reaches the endpoint", "check base_url, proxies and firewalls")
    if status in (401, 403) and _NO_ACCESS.search(text):
        do = f"name a model that the key in {key} may use"
        return error("the endpoint gives the key no access to this model", do, judge.spec.model)
    if status in (401, 403) and _ORGANISATION.search(text):
        do = f"check OPENAI_ORG_ID, OPENAI_PROJECT_ID and the environment variable {key}"
        return error("the endpoint refuses the organisation or project", do)
    if status == 401:
        return error("the endpoint refuses the key", f"check the environment variable {key}")
    if status == 403:
        return error("the endpoint refuses the request", f"check the rights of the key in {key}")
    if status in (404, 405) or _ADDRESS.search(text):
        do = "check the model's name and base_url, which mostly ends in /v1"
        return error("the endpoint knows no such model or address", do, judge.spec.model)
    return None
