"""Running a tokenizer's chat template, which is a program: its errors are told, and its time is bounded."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from jinja2 import TemplateError, TemplateSyntaxError

from sacpo.data.records import Message
from sacpo.errors import DataError, ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OTHER = "another template: base.template; in PreferenceTrainer, the tokenizer's chat_template"
"""What messages advise where a chat template does not do."""
SECONDS = 10.0
"""A dialogue takes milliseconds."""

FAILURES = (
    TemplateError,
    TypeError,
    ValueError,
    LookupError,
    ArithmeticError,
    AttributeError,
    RecursionError,
    MemoryError,
)
"""What a template can raise: Jinja's own errors, its `raise_exception`, and those of the expressions in it."""


class _TooSlowError(Exception):
    """Ends a template that does not end by itself."""


def chat_template(tokenizer: object) -> str:
    """Return the text of the chat template that is used: of several, the one named "default".

    Raises:
        ModelError: The tokenizer has none, or several and no default.
    """
    held = getattr(tokenizer, "chat_template", None)
    if not held:
        raise ModelError(
            "the tokenizer has no chat template",
            where="base.template",
            value="chat",
            allowed="'paper', 'plain', or a text that contains {prompt}",
            do="add a chat template to the tokenizer; or set base.template (--base template=plain) to one of these",
        )
    if isinstance(held, dict) and "default" not in held:
        raise ModelError(
            "the tokenizer has several chat templates and none is the default",
            where=template_name(tokenizer),
            value=sorted(held),
            allowed="one named 'default'",
            do="save the one to use as chat_template.jinja in the model's folder",
        )
    return str(held["default"] if isinstance(held, dict) else held)


def render(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, generation: bool, place: str) -> str:
    """Return messages as the tokenizer's chat template writes them.

    Args:
        tokenizer: A tokenizer with a chat template.
        messages: The dialogue.
        generation: Whether the generation prompt follows.
        place: The dialogue's row, for messages.

    Raises:
        DataError: The template refuses the dialogue, fails on it, or does not end.
        ModelError: The template is no valid Jinja template.
    """
    turns = [{"role": message.role, "content": message.content} for message in messages]
    try:
        with _limited(SECONDS):
            return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=generation))
    except TemplateSyntaxError as error:
        raise ModelError(
            f"the chat template is no valid Jinja template: {error.message}",
            where=f"{template_name(tokenizer)}, line {error.lineno}",
            do=f"correct it, or use {OTHER}",
        ) from error
    except _TooSlowError as error:
        raise DataError(
            "the chat template does not end",
            where=f"{place}, {template_name(tokenizer)}",
            value=f"stopped after {SECONDS:g} seconds",
            do=f"correct the template's loops, or use {OTHER}",
        ) from error
    except FAILURES as error:
        raise DataError(
            f"the chat template refuses the dialogue: {str(error) or type(error).__name__}",
            where=f"{place}, {template_name(tokenizer)}",
            value=[message.role for message in messages],
            do=f"correct or leave out this row, or use {OTHER}",
        ) from error


def template_name(tokenizer: object) -> str:
    """Return how messages call a tokenizer's chat template."""
    return f"chat template of {getattr(tokenizer, 'name_or_path', '') or 'the tokenizer'}"


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Stop what takes longer; only the main thread can be stopped, and only where there are such signals."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return
    handler = signal.signal(signal.SIGALRM, _stop) or signal.SIG_DFL
    before = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *before)
        signal.signal(signal.SIGALRM, handler)


def _stop(signum: int, frame: object) -> None:
    raise _TooSlowError
