"""What a server may refuse of a request, and what is asked instead: one table, each line tried once.

    refused                          asked instead
    response_format json_schema      json_object, else a reply of plain text
    temperature, seed                the server's default
    max_tokens                       max_completion_tokens
    a field of `extra`               the request without it
    the system role                  its text at the head of the user's turn

Two turns of the user in a row are never sent (`sacpo.judging.llm.render.reminder`). A server is recognised by the
parameter that it names, or by its words, in any case of letters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sacpo.judging.llm.judge import LlmJudgeConfig, LlmModel
from sacpo.judging.llm.render import Message, schema
from sacpo.judging.llm.said import Said
from sacpo.plain import JsonMapping, JsonObject

ADAPTED = frozenset({400, 422, 500, 501})
"""Statuses that may be about the form of a request."""
SCHEMA, OBJECT, TEXT = "json_schema", "json_object", "text"
OLD, NEW = "max_tokens", "max_completion_tokens"
_FORMAT = re.compile(r"response_?format|json_?schema|json_?object|structured.?output|\bschema\b|guided|grammar")
_BY_TYPE = re.compile(r"json_?schema|\btype\b|json_?object")
_SYSTEM = re.compile(
    r"system\W{0,3}(?:role|message|prompt|instruction)|role\W.{0,20}\bsystem|developer instruction|roles must alternate"
    r"|only user and assistant roles"
)


@dataclass(frozen=True, slots=True)
class Shape:
    """How requests to one endpoint are written.

    Attributes:
        form: What the reply is to be: json_schema, json_object or text.
        tokens: The name of the field of the longest reply.
        without: Fields that are left out.
        system: Whether the system role is used.
    """

    form: str
    tokens: str = OLD
    without: frozenset[str] = frozenset()
    system: bool = True

    def body(self, judge: LlmModel, messages: Sequence[Message], max_tokens: int, repeat: int) -> JsonObject:
        """Return the body of a request."""
        body: JsonObject = {"model": judge.spec.model, "messages": self._turns(messages), self.tokens: max_tokens}
        if judge.spec.temperature is not None and "temperature" not in self.without:
            body["temperature"] = judge.spec.temperature
        if judge.spec.seed is not None and "seed" not in self.without:
            body["seed"] = judge.spec.seed + repeat
        if self.form == SCHEMA and isinstance(judge, LlmJudgeConfig):
            form = {"name": "verdict", "schema": schema(judge.rubric), "strict": True}
            body["response_format"] = {"type": SCHEMA, SCHEMA: form}
        elif self.form == OBJECT:
            body["response_format"] = {"type": OBJECT}
        return {**body, **{name: value for name, value in judge.spec.extra.items() if name not in self.without}}

    def _turns(self, messages: Sequence[Message]) -> list[Message]:
        if self.system or len(messages) < 2 or messages[0]["role"] != "system":
            return list(messages)
        head, first, *rest = messages
        return [{**first, "content": f"{head['content']}\n\n{first['content']}"}, *rest]


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the table, as it was applied.

    Attributes:
        field: What was refused.
        instead: What is asked instead, in words.
        shape: How requests are written from now on.
    """

    field: str
    instead: str
    shape: Shape


Line = Callable[[Shape, LlmModel, JsonMapping, Said], Change | None]


def changed(shape: Shape, judge: LlmModel, body: JsonMapping, said: Said) -> Change | None:
    """Return what to ask instead of a refused request; None where no line of the table fits.

    A line fits once: it takes away, or renames, what the request holds.
    """
    if said.status not in ADAPTED:
        return None
    found = (line(shape, judge, body, said) for line in LINES)
    return next((change for change in found if change is not None), None)


def _names(said: Said, field: str) -> bool:
    """Tell whether a server complains about a field: by its parameter, else by its words."""
    word = rf"(?<!\w){re.escape(field.casefold())}(?!\w)"
    return re.search(word, said.param or said.text) is not None


def _extra(shape: Shape, judge: LlmModel, body: JsonMapping, said: Said) -> Change | None:
    sent = [name for name in judge.spec.extra if name in body and name not in shape.without]
    name = next((name for name in sent if _names(said, name)), None)
    return None if name is None else _left_out(shape, name)


def _format(shape: Shape, judge: LlmModel, body: JsonMapping, said: Said) -> Change | None:
    if shape.form == TEXT or not _FORMAT.search(said.param or said.text):
        return None
    if shape.form == SCHEMA and _BY_TYPE.search(said.words.casefold()):
        return Change(f"response_format {SCHEMA}", f"asked for a {OBJECT}", replace(shape, form=OBJECT))
    return Change("response_format", "asked for text", replace(shape, form=TEXT))


def _tokens(shape: Shape, judge: LlmModel, body: JsonMapping, said: Said) -> Change | None:
    if shape.tokens == NEW or not (_names(said, OLD) or _names(said, NEW)):
        return None
    return Change(OLD, f"sent as {NEW}", replace(shape, tokens=NEW))


def _option(name: str) -> Line:
    def line(shape: Shape, judge: LlmModel, body: JsonMapping, said: Said) -> Change | None:
        return _left_out(shape, name) if name in body and _names(said, name) else None

    return line


def _system(shape: Shape, judge: LlmModel, body: JsonMapping, said: Said) -> Change | None:
    if not shape.system or not _SYSTEM.search(said.text):
        return None
    return Change("the system role", "its text stands in the user's turn", replace(shape, system=False))


def _left_out(shape: Shape, name: str) -> Change:
    return Change(name, "left out", replace(shape, without=shape.without | {name}))


LINES: tuple[Line, ...] = (_extra, _tokens, _option("temperature"), _option("seed"), _format, _system)
