"""Prompt templates: from a conversation to the text that a model continues.

chat    the tokenizer's chat template, with its generation prompt
paper   `BEGINNING OF CONVERSATION: USER: {prompt} ASSISTANT:`, no space after the colon (section 6 of the paper)
plain   the prompt's text itself
other   the user's own text, in which {prompt} stands for the user's turn

Where a template is not a chat template, the end token follows every earlier answer of the conversation.

A special token that a template writes is a token. One that a record's text spells is text, unless it is allowed to be
a token; with "plain" it is, as such texts may be rendered already. The texts returned here carry quotes around special
tokens that are text (`sacpo.data.specials`); others are as the template writes them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from sacpo.data.records import Message, Prompt, text_hash
from sacpo.data.rendering import OTHER, chat_template, render, template_name
from sacpo.data.specials import Specials, check_marks, plain
from sacpo.errors import DataError, ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PAPER_BEGIN = "BEGINNING OF CONVERSATION: "
PAPER_TURN = "USER: {prompt} ASSISTANT:"
TRIAL = (
    Message("system", "These words are for trial."),
    Message("user", "Is this a question for trial?"),
    Message("assistant", "This is an answer for trial."),
)


class Template(Protocol):
    """Turns conversations into text."""

    @property
    def key(self) -> str:
        """Content key: the same key renders the same text."""

    @property
    def special(self) -> bool:
        """Whether the text holds the special tokens of its beginning already."""

    @property
    def specials(self) -> Specials:
        """The tokenizer's special tokens."""

    @property
    def ends(self) -> frozenset[int]:
        """Tokens that end an answer: the tokenizer's end token and those that the model lists."""

    @property
    def tail(self) -> str:
        """The text that the template writes behind a finished answer."""

    def render(self, prompt: Prompt, place: str = "") -> str:
        """Return the text in front of the answer; `place` is the prompt's row, for messages."""

    def join(self, prompt: Prompt, completion: str, place: str = "") -> str:
        """Return the text of prompt and completion; end tokens only where the template writes them."""


def make_template(
    name: str,
    tokenizer: PreTrainedTokenizerBase,
    *,
    ends: Collection[int] = (),
    special_tokens_in_text: bool | None = None,
) -> Template:
    """Return the template of a recipe's `base.template`.

    Args:
        name: "chat", "paper", "plain" or a text with {prompt}.
        tokenizer: The model's tokenizer.
        ends: Tokens that the model's generation_config lists as ends of an answer.
        special_tokens_in_text: Whether special tokens that records' texts spell are read as tokens; None: with "plain".

    Raises:
        ModelError: "chat" is asked for and the tokenizer has no chat template, or several without a default.
    """
    allowed = name == "plain" if special_tokens_in_text is None else special_tokens_in_text
    known = frozenset([*ends, *([] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id])])
    if name == "chat":
        chat_template(tokenizer)
        return ChatTemplate(tokenizer, known, allowed)
    if name == "paper":
        return TurnTemplate(PAPER_BEGIN, PAPER_TURN, tokenizer, known, allowed)
    return TurnTemplate("", "{prompt}" if name == "plain" else name, tokenizer, known, allowed)


class TurnTemplate:
    """A text for each user turn, behind a beginning that stands once.

    Args:
        begin: Text in front of all turns.
        turn: A user turn's text; {prompt} stands for what the user said.
        tokenizer: Its end token follows every earlier answer.
        ends: See `Template`.
        allowed: Whether special tokens that texts spell are tokens.
    """

    special = False
    tail = ""

    def __init__(
        self, begin: str, turn: str, tokenizer: PreTrainedTokenizerBase, ends: frozenset[int], allowed: bool
    ) -> None:
        self.begin, self.turn, self.ends, self.allowed = begin, turn, ends, allowed
        self.end = str(tokenizer.eos_token or "")
        self.specials = Specials(tokenizer)

    @property
    def key(self) -> str:
        """Content key of begin, turn, end, and of what special tokens in texts are."""
        return text_hash(self.begin, self.turn, self.end, *(["special"] if self.allowed else []))

    def render(self, prompt: Prompt, place: str = "") -> str:
        """Return the text in front of the answer; a system message stands in front of the first turn.

        Raises:
            DataError: The conversation does not end with a user's turn.
        """
        place = place or f"prompt {prompt.id}"
        _ends_with_user(prompt, place)
        parts, system = [self.begin], ""
        for message in prompt.messages:
            content = self._content(message.content, place)
            if message.role == "system":
                system += content + "\n\n"
            elif message.role == "assistant":
                parts.append(content + self.end)
            else:
                parts.append(self.turn.replace("{prompt}", system + content))
                system = ""
        return "".join(parts)

    def join(self, prompt: Prompt, completion: str, place: str = "") -> str:
        """Return the text of prompt and completion, without an end token."""
        place = place or f"prompt {prompt.id}"
        return self.render(prompt, place) + self._content(completion, place)

    def _content(self, text: str, place: str) -> str:
        check_marks(text, place)
        return text if self.allowed else self.specials.quote(text)


class ChatTemplate:
    """The tokenizer's own chat template.

    Args:
        tokenizer: A tokenizer that has one.
        ends: See `Template`.
        allowed: Whether special tokens that texts spell are tokens.
    """

    special = True

    def __init__(self, tokenizer: PreTrainedTokenizerBase, ends: frozenset[int], allowed: bool = False) -> None:
        self._tokenizer = tokenizer
        self.ends, self.allowed = ends, allowed
        self.specials = Specials(tokenizer)

    @property
    def key(self) -> str:
        """Content key of the Jinja template, and of what special tokens in texts are."""
        return text_hash(chat_template(self._tokenizer), *(["special"] if self.allowed else []))

    @cached_property
    def tail(self) -> str:
        """What the template writes behind the last answer of a dialogue.

        Raises:
            DataError: It refuses a dialogue of one turn each.
            ModelError: It does not write what was said.
        """
        system, *turns = TRIAL
        try:
            text = self._text(turns, False, "a trial dialogue")
        except DataError:  # some want a system message
            text = self._text((system, *turns), False, "a trial dialogue")
        return text.rpartition(turns[-1].content)[2]

    def render(self, prompt: Prompt, place: str = "") -> str:
        """Return the text in front of the answer, generation prompt included.

        Raises:
            DataError: The conversation does not end with a user's turn, or the template refuses it.
            ModelError: The template leaves out what was said.
        """
        place = place or f"prompt {prompt.id}"
        _ends_with_user(prompt, place)
        return self._text(prompt.messages, True, place)

    def join(self, prompt: Prompt, completion: str, place: str = "") -> str:
        """Return the text of prompt and completion as the template writes a finished answer; errors as in `render`."""
        messages = (*prompt.messages, Message("assistant", completion))
        return self._text(messages, False, place or f"prompt {prompt.id}")

    def _text(self, messages: Sequence[Message], generation: bool, place: str) -> str:
        for message in messages:
            check_marks(message.content, place)
        text = render(self._tokenizer, messages, generation=generation, place=place)
        for message in messages:
            if not writes(text, message):
                raise ModelError(
                    f"the chat template leaves out what a message of role '{message.role}' says",
                    where=f"{place}, {template_name(self._tokenizer)}",
                    value=message.content[:80],
                    do=f"move the text into a user's turn, or use {OTHER}",
                )
        if self.allowed or not self.specials.spelled(*(message.content for message in messages)):
            return text
        quoted = [replace(message, content=self.specials.quote(message.content)) for message in messages]
        marked = self.specials.carried(text, render(self._tokenizer, quoted, generation=generation, place=place))
        if marked is None:
            raise DataError(
                "the chat template takes a message apart at a special token that its text spells",
                where=f"{place}, {template_name(self._tokenizer)}",
                value=[name for name in self.specials.ids if any(name in m.content for m in messages)],
                do="leave the record out, or read such texts as tokens: special_tokens_in_text: true",
            )
        return marked


def writes(text: str, message: Message) -> bool:
    """Tell whether a rendered text holds a message, but for blanks; of an answer its thoughts may be left out."""
    said = message.content.strip()
    if said in text:
        return True
    if message.role == "assistant":
        said = said.rpartition("</think>")[2]
    return "".join(said.split()) in "".join(plain(text).split())


def _ends_with_user(prompt: Prompt, place: str) -> None:
    if not prompt.messages or prompt.messages[-1].role != "user":
        raise DataError(
            "a prompt does not end with a user's turn",
            where=place,
            value=prompt.messages[-1].role if prompt.messages else "no turns",
            do="keep the final answer out of the prompt",
        )
