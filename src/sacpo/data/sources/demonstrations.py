"""Demonstrations: prompt and completion, or whole chats; and Alpaca's instruction, input and output.

Source: https://huggingface.co/docs/trl/dataset_formats, https://github.com/tatsu-lab/stanford_alpaca
"""

from __future__ import annotations

from sacpo.data.records import Demonstration, Message, Record
from sacpo.data.sources.chat import agreed, completion_field, messages_of, prompt_field, prompt_of, split_last
from sacpo.data.sources.format import Format
from sacpo.data.sources.rows import EMPTY, Row, Skip
from sacpo.recipe.schema import SourceSpec

COLUMNS = ("prompt", "completion", "messages", "system")
ALPACA_COLUMNS = ("instruction", "input", "output", "system", "history")


def read(row: Row, spec: SourceSpec, as_: str | None) -> list[Record]:
    """Return a row's demonstration; of a chat, the last answer is the one to imitate.

    Raises:
        DataError: A field is missing or not as the format says.
    """
    if row.has("messages"):
        before, answer = split_last(row, messages_of(row, row.value("messages"), "messages"), "messages")
        if row.has("completion") and completion_field(row, "completion").strip() != answer.strip():
            what, found = "'completion' is not the dialogue's last answer", row.data["completion"]
            raise row.error(what, "completion", found, answer)
        return [Demonstration(prompt_of(row, agreed(row, before, "messages"), spec, "messages"), answer, row.source)]
    completion = completion_field(row, "completion")
    return [Demonstration(prompt_field(row, spec), completion, row.source)]


def read_alpaca(row: Row, spec: SourceSpec, as_: str | None) -> list[Record]:
    """Return a row's demonstration: earlier turns from `history`, then instruction and input on lines of their own.

    Raises:
        DataError: A field is missing or not as the format says.
    """
    messages = [Message("system", row.optional_text("system"))]
    for index, turn in enumerate(row.data.get("history") or ()):
        field = f"history[{index}]"
        if not isinstance(turn, list) or len(turn) != 2:
            raise row.error("not a pair of texts", field, turn, "[user's text, assistant's text]")
        messages.append(Message("user", row.checked_text(turn[0], field)))
        messages.append(Message("assistant", row.checked_text(turn[1], field)))
    messages.append(Message("user", instruction_text(row)))
    return [Demonstration(prompt_of(row, messages, spec, "instruction"), row.text("output"), row.source)]


def instruction_text(row: Row) -> str:
    """Return instruction and input, those that are not empty, on lines of their own.

    Raises:
        DataError: Both are empty, or `instruction` is missing.
    """
    parts = (row.text("instruction", empty=True), row.optional_text("input"))
    text = "\n".join(part for part in parts if part.strip())
    if not text:
        if row.published:
            raise Skip(EMPTY)
        raise row.error("'instruction' is empty", "instruction", parts[0], "a text that is not empty")
    return text


FORMATS = {
    "demonstrations": Format("demonstrations", read, COLUMNS),
    "alpaca": Format("demonstrations", read_alpaca, ALPACA_COLUMNS),
}
