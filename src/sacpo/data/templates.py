"""Prompt templates: from a conversation to the text that a model continues.

chat    the tokenizer's chat template, with its generation prompt
paper   `BEGINNING OF CONVERSATION: USER: {prompt} ASSISTANT:`, no space after the colon (section 6 of the paper)
plain   the prompt's text itself
other   the user's own text, in which {prompt} stands for the user's turn

Where a template is not a chat template, the end token follows every earlier answer of the conversation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sacpo.data.records import Message, Prompt, text_hash
from sacpo.errors import DataError, ModelError

PAPER_BEGIN = "BEGINNING OF CONVERSATION: "
PAPER_TURN = "USER: {prompt} ASSISTANT:"


class Template(Protocol):
    """Turns conversations into text.

    Attributes:
        key: Content key: the same key renders the same text.
        special: Whether the text holds the special tokens of its beginning already.
    """

    @property
    def key(self) -> str: ...  # noqa: D102

    @property
    def special(self) -> bool: ...  # noqa: D102

    def render(self, prompt: Prompt) -> str:
        """Return the text in front of the answer."""

    def join(self, prompt: Prompt, completion: str) -> str:
        """Return the text of prompt and completion; end tokens only where the template writes them."""


def make_template(name: str, tokenizer: Any) -> Template:
    """Return the template of a recipe's `base.template`.

    Raises:
        ModelError: "chat" is asked for and the tokenizer has no chat template.
    """
    if name == "chat":
        if not getattr(tokenizer, "chat_template", None):
            raise ModelError(
                "the tokenizer has no chat template",
                where="base.template",
                value=name,
                allowed="'paper', 'plain', or a text that contains {prompt}",
                do="add a chat template to the tokenizer; or set base.template (--base template=plain) to one of these",
            )
        return ChatTemplate(tokenizer)
    end = str(tokenizer.eos_token or "")
    if name == "paper":
        return TurnTemplate(PAPER_BEGIN, PAPER_TURN, end)
    return TurnTemplate("", "{prompt}" if name == "plain" else name, end)


@dataclass(frozen=True)
class TurnTemplate:
    """A text for each user turn, behind a beginning that stands once.

    Attributes:
        begin: Text in front of all turns.
        turn: A user turn's text; {prompt} stands for what the user said.
        end: Follows every earlier answer.
    """

    begin: str
    turn: str
    end: str
    special: bool = False

    @property
    def key(self) -> str:
        """Content key of begin, turn and end."""
        return text_hash(self.begin, self.turn, self.end)

    def render(self, prompt: Prompt) -> str:
        """Return the text in front of the answer; a system message stands in front of the first turn.

        Raises:
            DataError: The conversation does not end with a user's turn.
        """
        _ends_with_user(prompt)
        parts, system = [self.begin], ""
        for message in prompt.messages:
            if message.role == "system":
                system += message.content + "\n\n"
            elif message.role == "assistant":
                parts.append(message.content + self.end)
            else:
                parts.append(self.turn.replace("{prompt}", system + message.content))
                system = ""
        return "".join(parts)

    def join(self, prompt: Prompt, completion: str) -> str:
        """Return the text of prompt and completion, without an end token."""
        return self.render(prompt) + completion


class ChatTemplate:
    """The tokenizer's own chat template.

    Args:
        tokenizer: A tokenizer that has one.
    """

    special = True

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    @property
    def key(self) -> str:
        """Content key of the Jinja template."""
        return text_hash(str(self._tokenizer.chat_template))

    def render(self, prompt: Prompt) -> str:
        """Return the text in front of the answer, generation prompt included.

        Raises:
            DataError: The conversation does not end with a user's turn.
        """
        _ends_with_user(prompt)
        return self._apply(prompt.messages, generation=True)

    def join(self, prompt: Prompt, completion: str) -> str:
        """Return the text of prompt and completion as the template writes a finished answer."""
        return self._apply((*prompt.messages, Message("assistant", completion)), generation=False)

    def _apply(self, messages: Sequence[Message], *, generation: bool) -> str:
        turns = [{"role": message.role, "content": message.content} for message in messages]
        return str(self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=generation))


def _ends_with_user(prompt: Prompt) -> None:
    if not prompt.messages or prompt.messages[-1].role != "user":
        raise DataError(
            "a prompt does not end with a user's turn",
            where=f"prompt {prompt.id}",
            value=prompt.messages[-1].role if prompt.messages else "no turns",
            do="keep the final answer out of the prompt",
        )
