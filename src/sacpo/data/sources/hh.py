"""HH-RLHF: two dialogues written as one text each, with turns after "\\n\\nHuman:" and "\\n\\nAssistant:".

Source: https://github.com/anthropics/hh-rlhf
"""

from __future__ import annotations

import re

from sacpo.data.records import Message, Pair, Record
from sacpo.data.sources.chat import prompt_of
from sacpo.data.sources.format import Format
from sacpo.data.sources.rows import EMPTY, Row, Skip
from sacpo.recipe.schema import SourceSpec

COLUMNS = ("chosen", "rejected")
NOT_SHARED = "the two dialogues do not share their prompt"
TURN = re.compile(r"\n\n(Human|Assistant):")


def read(row: Row, spec: SourceSpec, as_: str | None) -> list[Record]:
    """Return the pair of last answers after the turns that both dialogues share.

    The prompt is the longest common prefix of turns that ends in a Human turn; a row is left out where anything but
    one Assistant turn follows it. An empty answer is kept, as people compared it. Consecutive turns of one speaker
    become one message, as chat templates want the two to alternate.

    Raises:
        DataError: A text is no such dialogue.
    """
    chosen, rejected = _turns(row, "chosen"), _turns(row, "rejected")
    n = _shared(chosen, rejected)
    if n == 0 or len(chosen) != n + 1 or len(rejected) != n + 1:
        raise Skip(NOT_SHARED)
    prompt = prompt_of(row, _joined(chosen[:n]), spec, "chosen")
    return [Pair(prompt, chosen[n].content, rejected[n].content, 1.0, row.source)]


def _turns(row: Row, field: str) -> list[Message]:
    parts = TURN.split(row.text(field))
    turns = [
        Message("user" if speaker == "Human" else "assistant", text.strip())
        for speaker, text in zip(parts[1::2], parts[2::2], strict=True)
    ]
    if parts[0].strip() or not turns or turns[0].role != "user" or turns[-1].role != "assistant":
        raise row.error(
            "not a dialogue from a Human's to an Assistant's turn",
            field,
            [m.role for m in turns],
            r"'\n\nHuman: ...\n\nAssistant: ...'",
        )
    for index, turn in enumerate(turns[:-1]):
        if not turn.content:
            if row.published:
                raise Skip(EMPTY)
            raise row.error("an empty turn", f"{field}, turn {index + 1}", "", "a text that is not empty")
    return turns


def _shared(first: list[Message], second: list[Message]) -> int:
    """Return the length of the longest common prefix of turns that ends in a user's turn."""
    n = 0
    for index, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            break
        if one.role == "user":
            n = index + 1
    return n


def _joined(turns: list[Message]) -> list[Message]:
    joined: list[Message] = []
    for turn in turns:
        if joined and joined[-1].role == turn.role:
            joined[-1] = Message(turn.role, f"{joined[-1].content}\n\n{turn.content}")
        else:
            joined.append(turn)
    return joined


FORMATS = {"hh-rlhf": Format("pairs", read, COLUMNS)}
