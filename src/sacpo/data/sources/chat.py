"""Chat messages in files: role names, prompts that end with a user's turn, and what two dialogues share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sacpo.data.records import Kind, Message, Prompt
from sacpo.data.sources.rows import Row
from sacpo.recipe.schema import SourceSpec

ROLES = {"system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant"}


def messages_of(row: Row, value: Any, field: str) -> tuple[Message, ...]:
    """Return a list of `{role, content}` or `{from, value}` objects as messages.

    Raises:
        DataError: It is no such list, a role is unknown, or a text is empty.
    """
    if not isinstance(value, list) or not value:
        raise row.error(f"'{field}' is no list of messages", field, value, "[{role, content}, ...]")
    return tuple(_message(row, item, f"{field}[{index}]") for index, item in enumerate(value))


def _message(row: Row, item: Any, field: str) -> Message:
    keys = ("from", "value") if isinstance(item, dict) and "from" in item else ("role", "content")
    if not isinstance(item, dict) or not set(keys) <= set(item):
        raise row.error("not a message", field, item, "{role, content} or {from, value}")
    role = item[keys[0]]
    if not isinstance(role, str) or role not in ROLES:
        raise row.error("unknown role", f"{field}.{keys[0]}", role, ("system", "user", "assistant", "human", "gpt"))
    # A system text may be empty: it is then left out by `prompt_of`.
    content = row.checked_text(item[keys[1]], f"{field}.{keys[1]}", empty=ROLES[role] == "system")
    return Message(ROLES[role], content)


def prompt_of(row: Row, messages: Sequence[Message], spec: SourceSpec, field: str, **fields: Any) -> Prompt:
    """Return the prompt with these messages and the recipe's kind.

    Raises:
        DataError: The last message is not a user's.
    """
    kept = tuple(m for m in messages if m.role != "system" or m.content.strip())
    if not kept or kept[-1].role != "user":
        last = kept[-1].role if kept else "no message"
        raise row.error("the prompt does not end with a user's message", field, last, "user")
    return Prompt(messages=kept, **{"kind": Kind(spec.kind or ""), **fields})


def prompt_field(row: Row, spec: SourceSpec, field: str = "prompt", **fields: Any) -> Prompt:
    """Return the prompt in a field that holds a text or messages; errors as in `messages_of` and `Row.text`."""
    value = row.value(field)
    if isinstance(value, list):
        return prompt_of(row, messages_of(row, value, field), spec, field, **fields)
    return prompt_of(row, (Message("user", row.text(field)),), spec, field, **fields)


def completion_field(row: Row, field: str) -> str:
    """Return the completion in a field that holds a text, a message, or a list of one assistant message.

    Raises:
        DataError: It holds anything else.
    """
    value = row.value(field)
    if not isinstance(value, dict | list):
        return row.text(field)
    messages = messages_of(row, [value] if isinstance(value, dict) else value, field)
    if len(messages) != 1 or messages[0].role != "assistant":
        roles = [m.role for m in messages]
        raise row.error(f"'{field}' is not one assistant message", field, roles, ["assistant"])
    return messages[0].content


def split_last(row: Row, messages: Sequence[Message], field: str) -> tuple[tuple[Message, ...], str]:
    """Return a dialogue's messages before its last, and the last, which must be the assistant's.

    Raises:
        DataError: The dialogue does not end with an assistant's message.
    """
    if len(messages) < 2 or messages[-1].role != "assistant":
        roles = [m.role for m in messages]
        raise row.error("the dialogue does not end with an assistant's answer", field, roles, "user, ..., assistant")
    return tuple(messages[:-1]), messages[-1].content
