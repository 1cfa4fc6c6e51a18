"""Chat messages in files: role names, prompts that end with a user's turn, and context that stands beside them.

A key that holds null is an absent key, as table writers fill those of other rows with null.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sacpo.data.records import Kind, Message, Prompt
from sacpo.data.sources.rows import Row
from sacpo.recipe.schema import SourceSpec

KEYS = (("from", "value"), ("role", "content"))
CONTEXT = {
    "system": "this format has no system text",
    "history": "this format has no earlier turns in a column of their own",
    "tools": "tools are not put into chat templates",
    "chat_template_kwargs": "chat templates get no options of a row",
    "image": "images are not trained on",
    "images": "images are not trained on",
    "videos": "videos are not trained on",
    "audios": "audios are not trained on",
}
"""Columns that change what a model sees: they are used, or refused where they hold something."""
BESIDE = ("tool_calls", "function_call", "reasoning_content", "reasoning", "thinking", "images", "audio")
"""Keys of a message, beside its text, that would be lost."""
ROLES = {"system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant"}


def messages_of(row: Row, value: object, field: str) -> tuple[Message, ...]:
    """Return a list of `{role, content}` or `{from, value}` objects as messages.

    Raises:
        DataError: It is no such list, a role is unknown, or a text is empty.
    """
    if not isinstance(value, list) or not value:
        raise row.error(f"'{field}' is no list of messages", field, value, "[{role, content}, ...]")
    return tuple(_message(row, item, f"{field}[{index}]") for index, item in enumerate(value))


def _message(row: Row, item: Any, field: str) -> Message:
    given = {key for key, value in item.items() if value is not None} if isinstance(item, dict) else set()
    keys = next((keys for keys in KEYS if keys[0] in given and keys[1] in item), None)
    if keys is None:
        raise row.error("not a message", field, item, "{role, content} or {from, value}")
    for key in BESIDE:
        if item.get(key):
            raise row.error("a message holds more than a text", f"{field}.{key}", item[key], "nothing, or null")
    role = item[keys[0]]
    if not isinstance(role, str) or role not in ROLES:
        raise row.error("unknown role", f"{field}.{keys[0]}", role, ("system", "user", "assistant", "human", "gpt"))
    # A system text may be empty: it is then left out by `prompt_of`.
    place = f"{field}.{keys[1]}"
    content = row.checked_text(_whole(row, item[keys[1]], place), place, empty=ROLES[role] == "system")
    return Message(ROLES[role], content)


def _whole(row: Row, value: Any, field: str) -> Any:
    """Return a message's text, of parts `{type: text, text}` one behind the other, as chat templates put them.

    Raises:
        DataError: A part is no text.
    """
    if not isinstance(value, list):
        return value
    for index, part in enumerate(value):
        known = isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
        if not known or any(held for key, held in part.items() if key not in ("type", "text")):
            allowed = "{type: text, text}, and nothing else"
            raise row.error("a part of a message is more than a text", f"{field}[{index}]", part, allowed)
    return "".join(part["text"] for part in value)


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


def prompt_field(row: Row, spec: SourceSpec, field: str = "prompt", **fields: object) -> Prompt:
    """Return the prompt in a field that holds a text or messages; errors as in `messages_of` and `Row.text`."""
    return prompt_of(row, with_system(row, _said(row, field)), spec, field, **fields)


def _said(row: Row, field: str) -> tuple[Message, ...]:
    value = row.value(field)
    return messages_of(row, value, field) if isinstance(value, list) else (Message("user", row.text(field)),)


def with_system(row: Row, messages: Sequence[Message]) -> tuple[Message, ...]:
    """Return a prompt's messages behind the text of the column `system`, where the row has one.

    Raises:
        DataError: The messages hold another system text.
    """
    text = row.optional_text("system")
    own = [message.content for message in messages if message.role == "system" and message.content.strip()]
    if not text.strip() or own == [text]:
        return tuple(messages)
    if own:
        raise row.error("the prompt has another system text than the column", "system", text, own[0])
    return (Message("system", text), *messages)


def agreed(row: Row, before: Sequence[Message], field: str) -> tuple[Message, ...]:
    """Return the turns in front of a whole dialogue's last answer, with what a `prompt` beside it adds.

    The prompt may be some of those turns, or end with all of them behind a system text or earlier turns, which are then
    used.

    Raises:
        DataError: The prompt says something else.
    """
    turns = tuple(m for m in before if m.content.strip())
    if not row.has("prompt"):
        return with_system(row, turns)
    prompt = tuple(m for m in _said(row, "prompt") if m.content.strip())
    mine, theirs = ([(m.role, m.content.strip()) for m in some] for some in (prompt, turns))
    n = len(mine)
    if any(theirs[start : start + n] == mine for start in range(len(theirs) - n + 1)):
        return with_system(row, turns)
    if mine[-len(theirs) :] == theirs:
        return with_system(row, prompt)
    raise row.error(
        f"'prompt' and the dialogue in '{field}' say different things",
        "prompt",
        prompt[-1].content if prompt else "",
        "the dialogue's turns before its last answer, or more in front of them",
    )


def check_context(row: Row, known: Collection[str]) -> None:
    """Refuse a column that changes what a model sees, holds something, and is not among those that are read.

    Raises:
        DataError: There is one.
    """
    for column, reason in CONTEXT.items():
        if row.data.get(column) and column not in known:
            raise row.error(f"{reason}: column '{column}'", column, row.data[column], "nothing, or null")
    if row.has("instruction") and row.has("input") and "input" not in known:
        do = "read it in format 'alpaca' or 'prompts', or put 'input' into 'instruction'"
        raise row.error("this format has no 'input' below an instruction", "input", row.data["input"], "null", do)


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
