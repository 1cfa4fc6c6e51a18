"""Answers as they are decoded, one at a time, and what the judges say of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from sacpo.answer.decoding import Row, Sampling, steps
from sacpo.answer.generate import Request, answer_of, uniforms
from sacpo.chat.history import Fitted, fitted
from sacpo.chat.setting import Setting
from sacpo.data.ends import end_tokens
from sacpo.data.records import Answer, Message
from sacpo.errors import DataError, MachineError, ModelError, UserError
from sacpo.judging.question import Judge, Question
from sacpo.merge.moving import open_moving
from sacpo.merge.source import Checkpoint
from sacpo.models.loading import context_length, resolve_device
from sacpo.models.template import tokenizer_and_template
from sacpo.models.tokens import padding_token, require_embedded
from sacpo.plain import JsonObject

WAIT = 0.2  # seconds between looks whether a waiting client is still there
UNFINISHED = "\ufffd"
"""What a tokenizer writes for the bytes of a letter that is not complete yet."""


@dataclass(frozen=True)
class Asked:
    """A question to one model.

    Attributes:
        messages: The conversation; the last turn is the user's.
        q: The place on the path.
        beside: Ask the model beside the path.
        temperature: 0 takes the most probable tokens.
        sample: Number of the answer among those to this question.
    """

    messages: tuple[Message, ...]
    q: float = 1.0
    beside: bool = False
    temperature: float = 0.0
    sample: int = 0


class Talk:
    """A conversation's models, loaded; answers to several clients come one after the other.

    Args:
        setting: What is talked to.

    Raises:
        UserError: A model cannot be loaded, or the models do not fit together.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting, base = setting, setting.base
        self._lock = threading.Lock()
        self._judges: dict[str, Judge] = {}
        self._known = {prompt.messages: prompt for prompt in setting.examples}
        last = setting.path if isinstance(setting.path, Checkpoint) else setting.path.later
        self._tokenizer, self._template = tokenizer_and_template(last.place, last.revision, base)
        self._moving = open_moving(
            setting.path,
            setting.beside[1] if setting.beside is not None else None,
            dtype=base.dtype,
            device=resolve_device(base.device),
            trust_remote_code=base.trust_remote_code,
            attn_implementation=base.attn_implementation,
            quantization=base.quantization,
        )
        self.how = self._moving.how

    def answer(self, asked: Asked) -> Iterator[JsonObject]:
        """Yield an answer as it is decoded.

        Events are `notice` (something to be said), `add` (text that follows), `text` (all of the text anew) and at the
        end `done`, with `record` (the answer as `sacpo judge` reads it) and `judged`. An empty event says only that
        something goes on; closing the iterator ends the answer.

        Raises:
            UserError: The question cannot be asked.
        """
        waited = False
        while not self._lock.acquire(timeout=WAIT):
            yield {} if waited else {"notice": "another answer is being written; this one waits for it"}
            waited = True
        try:
            yield from self._decoded(asked)
        except torch.OutOfMemoryError as error:
            raise MachineError(
                "not enough memory for this answer", where="the model's device", do="ask something shorter"
            ) from error
        finally:
            self._lock.release()

    def _decoded(self, asked: Asked) -> Iterator[JsonObject]:
        name, model = self._model(asked)
        found = self._fitted(asked, model)
        if found.notice:
            yield {"notice": found.notice}
        ends = end_tokens(model, self._template)
        request = Request(0, found.prompt, asked.sample, found.tokens, found.room)
        row = Row(found.tokens, found.room, self._uniforms(request) if asked.temperature > 0 else None)
        sampling = Sampling(asked.temperature > 0, asked.temperature or 1.0, self.setting.generation.top_p)
        tokens: list[int] = []
        shown = ""
        pad = padding_token(self._tokenizer, model)
        for step in steps(model, [row], sampling, end_ids=ends, pad_id=pad):
            tokens += [token for _, token in step]
            text = answer_of(self._tokenizer, request, tokens, ends, name).text.rstrip(UNFINISHED)
            yield _change(shown, text)
            shown = text
        answer = answer_of(self._tokenizer, request, tokens, ends, name)
        yield _change(shown, answer.text)
        yield {"done": {"record": answer.to_json(), "judged": self._judged(answer)}}

    def _model(self, asked: Asked) -> tuple[str, Any]:
        if not asked.beside:
            return self.setting.name_at(asked.q), self._moving.at(asked.q)
        if self.setting.beside is None:
            raise ModelError("there is no model beside this one", do="name one: --beside MODEL")
        name, checkpoint = self.setting.beside
        return name, self._moving.of(checkpoint)

    def _fitted(self, asked: Asked, model: object) -> Fitted:
        if not asked.messages or asked.messages[-1].role != "user" or not asked.messages[-1].content.strip():
            raise DataError("a question needs a text")
        messages = asked.messages
        if self.setting.alone:
            messages = (*(m for m in messages[:-1] if m.role == "system"), messages[-1])
        found = fitted(
            messages, self._template, self._tokenizer, context_length(model), self.setting.generation.max_new_tokens
        )
        require_embedded(max(found.tokens, default=0), model)
        return replace(found, prompt=self._known.get(found.prompt.messages, found.prompt))

    def _uniforms(self, request: Request) -> Any:
        return uniforms(self.setting.seed, request.prompt.id, request.sample, request.limit)

    def _judged(self, answer: Answer) -> list[JsonObject]:
        """Return what each judge says; one that cannot judge this answer says why."""
        said: list[JsonObject] = []
        for criterion, make in self.setting.judges.items():
            try:
                if criterion not in self._judges:
                    self._judges[criterion] = make()
                verdicts = self._judges[criterion].judge([Question(answer.prompt, answer)])
            except UserError as error:
                said.append({"criterion": criterion, "problem": error.what})
                continue
            said += [{"criterion": criterion, "judge": v.judge, "label": v.label, "score": v.score} for v in verdicts]
        return said


def _change(shown: str, text: str) -> JsonObject:
    """Return the event that turns what is shown into a text."""
    if text == shown:
        return {}
    return {"add": text[len(shown) :]} if text.startswith(shown) else {"text": text}
