"""Answers as AlpacaEval's outputs: rows of `instruction`, `output`, `generator` (and `dataset`), one an answer.

Source: https://github.com/tatsu-lab/alpaca_eval (model_outputs.json).
"""

from __future__ import annotations

from collections.abc import Sequence

from sacpo.data.records import Answer
from sacpo.errors import DataError
from sacpo.plain import JsonObject


def alpaca_outputs(answers: Sequence[Answer]) -> list[JsonObject]:
    """Return the answers as AlpacaEval's rows.

    Raises:
        DataError: A prompt has several messages, several answers, or no text: AlpacaEval has no place for that.
    """
    rows: dict[str, JsonObject] = {}
    for answer in answers:
        prompt = answer.prompt
        if len(prompt.messages) != 1 or prompt.messages[0].role != "user":
            raise DataError(
                "AlpacaEval's outputs have one instruction a row, and this prompt is a conversation",
                where=f"prompt {prompt.id}",
                value=[message.role for message in prompt.messages],
                do="leave conversations out",
            )
        if prompt.id in rows:
            raise DataError(
                "AlpacaEval's outputs have one answer to an instruction, and this prompt has several",
                where=f"prompt {prompt.id}",
                do="generate with one sample",
            )
        row = {"instruction": prompt.messages[0].content, "output": answer.text, "generator": answer.model}
        rows[prompt.id] = {**row, **({"dataset": prompt.category} if prompt.category else {})}
    return list(rows.values())
