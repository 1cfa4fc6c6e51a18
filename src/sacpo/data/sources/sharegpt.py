"""ShareGPT-style chats as LLaMA-Factory writes them: pairs, unpaired data or demonstrations, by their columns.

Source: https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md
"""

from __future__ import annotations

from sacpo.data.records import Demonstration, Labelled, Message, Pair, Record
from sacpo.data.sources.chat import completion_field, messages_of, prompt_of, split_last
from sacpo.data.sources.format import Format
from sacpo.data.sources.rows import Row
from sacpo.recipe.schema import SourceSpec

COLUMNS = ("conversations", "messages", "chosen", "rejected", "label", "system")


def read(row: Row, spec: SourceSpec, as_: str | None) -> list[Record]:
    """Return a pair (`chosen` and `rejected`), a labelled answer (`label`) or a demonstration (neither).

    The answer of the latter two is the chat's last message; `system` is put before the chat.

    Raises:
        DataError: A field is missing or not as the format says.
    """
    field = "messages" if row.has("messages") and not row.has("conversations") else "conversations"
    if row.has("messages") and row.has("conversations") and row.data["messages"] != row.data["conversations"]:
        raise row.error("a row holds two dialogues", "messages", row.data["messages"], "one of the two")
    system = Message("system", row.optional_text("system"))
    messages = (system, *messages_of(row, row.value(field), field))
    if row.has("chosen") or row.has("rejected"):
        chosen, rejected = completion_field(row, "chosen"), completion_field(row, "rejected")
        return [Pair(prompt_of(row, messages, spec, field), chosen, rejected, 1.0, row.source)]
    before, completion = split_last(row, messages, field)
    prompt = prompt_of(row, before, spec, field)
    if row.has("label"):
        return [Labelled(prompt, completion, row.boolean("label"), row.source)]
    return [Demonstration(prompt, completion, row.source)]


FORMATS = {"sharegpt": Format(None, read, COLUMNS)}
