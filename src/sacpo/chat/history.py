"""How much of a conversation a model can read: the oldest exchanges are left out, and that is said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sacpo.data.encode import counted
from sacpo.data.records import Message, Prompt
from sacpo.data.templates import Template
from sacpo.data.tokenize import tokenize_prompt
from sacpo.data.unknown import unknown_notice, unknown_token, unknown_words
from sacpo.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SHARE = 4
"""An answer has room for at least this part of the context, or for the most new tokens where that is less."""


@dataclass(frozen=True)
class Fitted:
    """A conversation as a model reads it.

    Attributes:
        prompt: What was kept.
        tokens: Its token ids.
        room: Tokens that an answer may have.
        notice: What was left out or not understood, in words; "": nothing.
    """

    prompt: Prompt
    tokens: tuple[int, ...]
    room: int
    notice: str = ""


def fitted(
    messages: tuple[Message, ...],
    template: Template,
    tokenizer: PreTrainedTokenizerBase,
    context: int | None,
    most: int,
) -> Fitted:
    """Leave the oldest exchanges out until the rest leaves room for an answer; a system message stays.

    Args:
        messages: The conversation; the last turn is the user's.
        template: Turns it into text.
        tokenizer: The model's tokenizer.
        context: Tokens that the model's positions reach; None: nothing limits them.
        most: The most new tokens.

    Raises:
        DataError: The last turn alone leaves no room, or the template refuses the conversation.
    """
    least = most if context is None else min(most, max(1, context // SHARE))
    left = 0
    while True:
        prompt = Prompt(messages)
        tokens = tokenize_prompt(prompt, template, tokenizer, limit=context)
        room = most if context is None else min(most, context - len(tokens))
        shorter = _without_oldest(messages)
        if room >= least or (shorter is None and room > 0):
            said = (_notice(left, context), _unknown(messages[-1].content, tokens, tokenizer))
            return Fitted(prompt, tokens, room, "; ".join(filter(None, said)))
        if shorter is None:
            raise DataError(
                f"this question is too long: the model reads {context} tokens, and it has "
                f"{counted(len(tokens), context or 0)}",
                do="ask something shorter",
            )
        messages, left = shorter, left + 1


def _unknown(question: str, tokens: tuple[int, ...], tokenizer: PreTrainedTokenizerBase) -> str:
    words = unknown_words([question], tokenizer) if unknown_token(tokenizer) in tokens else []
    return unknown_notice("the question holds", words, str(tokenizer.unk_token))


def _without_oldest(messages: tuple[Message, ...]) -> tuple[Message, ...] | None:
    """Return the conversation without its oldest question and what was answered; None where one question is left."""
    turns = [i for i, message in enumerate(messages) if message.role == "user"]
    if len(turns) < 2:
        return None
    return (*messages[: turns[0]], *messages[turns[1] :])


def _notice(left: int, context: int | None) -> str:
    if not left:
        return ""
    what = "the oldest exchange was" if left == 1 else f"the {left} oldest exchanges were"
    return f"{what} left out: the model reads at most {context} tokens"
