"""Generating answers: batched, greedy or sampled, the same whatever shares the batch, and resumable.

An answer ends at an end token or at the recipe's limit and nowhere else: no stop strings, nothing is cut from the text.
One that would leave the model's context ends there and counts as truncated. The random numbers of an answer follow from
the seed, the prompt's id and the sample's number alone. Of the model's own generation_config only the end tokens are
used (`sacpo.data.ends`): how to decode is the recipe's to say.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from sacpo.answer.decoding import Row, Sampling, decode
from sacpo.answer.degenerate import degeneration
from sacpo.answer.vllm import ROWS_AT_ONCE, VllmModel
from sacpo.data.answers import ANSWERS as ANSWERS
from sacpo.data.encode import counted
from sacpo.data.ends import end_tokens
from sacpo.data.records import Answer, Prompt, write_jsonl
from sacpo.data.templates import Template
from sacpo.data.tokenize import tokenize_prompts
from sacpo.data.unknown import unknown_notice, unknown_token, unknown_words
from sacpo.errors import DataError, MachineError, RecipeError, RunError
from sacpo.models.loading import context_length
from sacpo.models.tokens import padding_token, require_embedded
from sacpo.recipe.schema import GenerationSpec
from sacpo.system.machine import machine_errors
from sacpo.system.memory import kept_memory
from sacpo.system.progress import QUIET, Progress

TOKEN_BUDGET = 32768  # prompt and answer tokens of a batch: bounds the cache, whatever the batch size

REFILLED = 4
"""Batches that are one piece of work: rows of the later ones take the places of those that have ended."""


@dataclass(frozen=True)
class Request:
    """One answer to generate: `place` is its position in the result, `tokens` the prompt's."""

    place: int
    prompt: Prompt
    sample: int
    tokens: tuple[int, ...]
    limit: int


@kept_memory()
def generate_answers(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    template: Template,
    spec: GenerationSpec,
    *,
    model_name: str,
    seed: int,
    samples: int = 1,
    out: Path | None = None,
    progress: Progress = QUIET,
) -> list[Answer]:
    """Answer every prompt, `samples` times each; return the answers in the prompts' order, samples side by side.

    A prompt that is given again is sampled again: its answers are numbered on.

    Args:
        model: A causal language model, several mixed (`sacpo.merge.MixedModel`), or vLLM's (`VllmModel`).
        tokenizer: Its tokenizer.
        prompts: What to answer.
        template: Turns a prompt into text.
        spec: Decoding options.
        model_name: Kept in the answers.
        seed: The root of all random numbers.
        samples: Answers to each prompt.
        out: A folder for `answers.jsonl`. Finished pieces of work are kept there, and a run that was killed goes on
            behind them: the file ends up the same, bit for bit on a CPU.
        progress: Where to show it.

    Raises:
        DataError: A prompt leaves no room for an answer in the model's context.
        RecipeError: Several samples are asked for without sampling.
        RunError: `out` holds answers to other prompts or of another model.
        MachineError: Memory or disk is full.
    """
    if samples > 1 and not spec.do_sample:
        raise RecipeError(
            "several samples of a prompt need 'do_sample: true'; greedy ones would all be the same",
            where="samples",
            value=samples,
            allowed=1,
            do="set do_sample=true (--generation), or take one sample",
        )
    requests = _requests(model, tokenizer, prompts, template, spec, samples)
    if said := _unknown(requests, tokenizer):
        progress.notice(f"{model_name}: {said}")
    pieces = _whole(requests) if isinstance(model, VllmModel) else pieces_of(plan_batches(requests, spec.batch_size))
    ends = end_tokens(model, template)
    remade = partial(answer_of, tokenizer, ends=ends, model_name=model_name)
    kept = _Kept(out / ANSWERS if out is not None else None, model_name, requests, remade)
    was_training = bool(getattr(model, "training", False))
    model.eval()
    with progress.task(f"answers of {model_name}", len(requests), "answers") as task:
        for piece in pieces:
            if not kept.holds(piece):
                kept.add(piece, _answer(model, tokenizer, piece, spec, ends, model_name, seed))
            task.advance(len(piece))
    model.train(was_training)
    return kept.finish()


def _unknown(requests: Sequence[Request], tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the words of the prompts that the tokenizer does not know, as a notice; "" where there are none."""
    token = unknown_token(tokenizer)
    if token is None:
        return ""
    asked = {request.prompt.id: request.prompt for request in requests}
    odd = [*{request.prompt.id: request.prompt for request in requests if token in request.tokens}.values()]
    words = unknown_words((message.content for prompt in odd for message in prompt.messages), tokenizer)
    return unknown_notice(f"{len(odd):,} of {len(asked):,} prompts hold", words, str(tokenizer.unk_token))


def plan_batches(requests: Sequence[Request], batch_size: int) -> list[list[Request]]:
    """Group requests of similar length into batches of at most `batch_size` rows and `TOKEN_BUDGET` tokens."""
    batches: list[list[Request]] = []
    for request in sorted(requests, key=lambda r: (len(r.tokens) + r.limit, len(r.tokens), r.place)):
        size = len(request.tokens) + request.limit
        full = batches and (len(batches[-1]) + 1) * size > TOKEN_BUDGET
        if not batches or full or len(batches[-1]) == batch_size:
            batches.append([])
        batches[-1].append(request)
    return batches


def pieces_of(batches: Sequence[list[Request]]) -> list[list[Request]]:
    """Return what is decoded, and kept, as one piece of work."""
    return [[*chain(*batches[i : i + REFILLED])] for i in range(0, len(batches), REFILLED)]


def rows_at_once(piece: Sequence[Request], batch_size: int) -> int:
    """Return how many rows of a piece fit into the cache together, whichever they are."""
    longest = max(len(request.tokens) + request.limit for request in piece)
    return max(1, min(batch_size, TOKEN_BUDGET // longest))


def _whole(requests: Sequence[Request]) -> list[list[Request]]:
    return [list(requests[i : i + ROWS_AT_ONCE]) for i in range(0, len(requests), ROWS_AT_ONCE)]


def uniforms(seed: int, prompt_id: str, sample: int, n: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the `n` random numbers in [0, 1) that decide an answer's tokens."""
    word = int.from_bytes(hashlib.sha256(prompt_id.encode("utf-8", "surrogatepass")).digest()[:8], "little")
    return np.random.default_rng([seed, word, sample]).random(n)


def _requests(
    model: object,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    template: Template,
    spec: GenerationSpec,
    samples: int,
) -> list[Request]:
    context = context_length(model)
    requests: list[Request] = []
    seen: Counter[str] = Counter()
    known = tokenize_prompts(prompts, template, tokenizer, limit=context)
    require_embedded(max(chain(*known.values()), default=0), model)
    for prompt in prompts:
        tokens = known[prompt]
        room = spec.max_new_tokens if context is None else min(spec.max_new_tokens, context - len(tokens))
        if room <= 0:
            raise DataError(
                "a prompt leaves no room for an answer in the model's context",
                where=f"prompt {prompt.id}",
                value=counted(len(tokens), context or 0),
                allowed=f"fewer than {context} tokens",
                do="shorten the prompt or leave it out",
            )
        for _ in range(samples):
            requests.append(Request(len(requests), prompt, seen[prompt.id], tokens, room))
            seen[prompt.id] += 1
    return requests


def _answer(
    model: object,
    tokenizer: PreTrainedTokenizerBase,
    batch: Sequence[Request],
    spec: GenerationSpec,
    ends: frozenset[int],
    model_name: str,
    seed: int,
) -> list[Answer]:
    sampling = Sampling(spec.do_sample, spec.temperature, spec.top_p)
    rows = [
        Row(r.tokens, r.limit, uniforms(seed, r.prompt.id, r.sample, r.limit) if spec.do_sample else None)
        for r in batch
    ]
    try:
        at_once = rows_at_once(batch, spec.batch_size)
        decoder = model.decode if isinstance(model, VllmModel) else partial(decode, model, at_once=at_once)
        completions = decoder(rows, sampling, end_ids=ends, pad_id=padding_token(tokenizer, model))
    except torch.OutOfMemoryError as error:
        raise MachineError(
            "not enough memory to generate a batch",
            where="evaluate.generation.batch_size",
            value=len(batch),
            do="choose a smaller batch_size",
        ) from error
    return [answer_of(tokenizer, r, tokens, ends, model_name) for r, tokens in zip(batch, completions, strict=True)]


def answer_of(
    tokenizer: PreTrainedTokenizerBase, request: Request, tokens: list[int], ends: frozenset[int], model_name: str
) -> Answer:
    """Return the answer that decoded tokens are; without an end token it is truncated."""
    ended = tokens[-1] in ends
    content = tokens[:-1] if ended else tokens
    text = tokenizer.decode(content, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert isinstance(text, str)
    return Answer(
        prompt=request.prompt,
        model=model_name,
        text=text,
        n_tokens=len(tokens),
        truncated=not ended,
        degenerate=degeneration(text, content),
        sample=request.sample,
        tokens=tuple(tokens),
    )


class _Kept:
    """The answers so far, in memory and, where a file is given, on the disk.

    While they are made, a hidden file beside theirs holds each line's hash. What is read back must have its hash, and
    be what its request and its tokens make (`remade`).
    """

    def __init__(
        self,
        path: Path | None,
        model_name: str,
        requests: Sequence[Request],
        remade: Callable[[Request, list[int]], Answer],
    ) -> None:
        self.path, self.remade = path, remade
        self.requests = {(r.prompt.id, r.sample): r for r in requests}
        self.answers: dict[int, Answer] = {}
        if path is not None and path.is_file():
            self._read_back(path, model_name)

    def holds(self, batch: Sequence[Request]) -> bool:
        """Tell whether the whole batch is there; a part of one is done again, in the same company."""
        return all(request.place in self.answers for request in batch)

    def add(self, batch: Sequence[Request], answers: Sequence[Answer]) -> None:
        """Keep a batch's answers."""
        self.answers.update({request.place: answer for request, answer in zip(batch, answers, strict=True)})
        if self.path is not None:
            with machine_errors(self.path):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                lines = [_line(answer) for answer in answers]
                with self.path.open("a", encoding="utf-8") as file:
                    file.writelines(lines)
                with self._hashes.open("a", encoding="utf-8") as file:
                    file.writelines(_hash(line.encode()) + "\n" for line in lines)

    def finish(self) -> list[Answer]:
        """Return all answers in order, and put the file in that order."""
        ordered = [self.answers[place] for place in range(len(self.requests))]
        if self.path is not None:
            temporary = self.path.with_name(f".{self.path.name}.tmp")
            with machine_errors(self.path):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                write_jsonl(temporary, ordered)
                self._hashes.unlink(missing_ok=True)  # first: they are those of the order in which answers were made
                temporary.replace(self.path)
        return ordered

    @property
    def _hashes(self) -> Path:
        assert self.path is not None
        return self.path.with_name(f".{self.path.name}.sha256")

    def _read_back(self, path: Path, model_name: str) -> None:
        lines = path.read_bytes().split(b"\n")[:-1]  # behind the last end of a line is what a killed process tore
        hashes = self._hashes.read_text(encoding="utf-8").split("\n")[:-1] if self._hashes.is_file() else None
        lines = lines[: len(lines) if hashes is None else len(hashes)]
        for number, line in enumerate(lines, 1):
            where = f"{path}, line {number}"
            if hashes is not None and _hash(line + b"\n") != hashes[number - 1]:
                raise _changed(path, where)
            answer = _parsed(line, path, number)
            request = self.requests.get((answer.prompt.id, answer.sample))
            if request is None or answer.model != model_name:
                raise RunError(
                    "the folder holds answers to other prompts or of another model",
                    where=where,
                    do=f"delete {path} to generate them again",
                )
            if not answer.tokens or answer != self.remade(request, [*answer.tokens]):
                raise _changed(path, where)
            self.answers[request.place] = answer
        with machine_errors(path):
            with path.open("r+b") as file:
                file.truncate(sum(len(line) + 1 for line in lines))
            if hashes is not None:
                self._hashes.write_text("".join(f"{value}\n" for value in hashes[: len(lines)]), encoding="utf-8")


def _changed(path: Path, where: str) -> RunError:
    return RunError(
        "a kept answer is not what was generated: it was changed or corrupted",
        where=where,
        do=f"delete {path} to generate the answers again",
    )


def _hash(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def _line(answer: Answer) -> str:
    return json.dumps(answer.to_json(), ensure_ascii=False, allow_nan=False) + "\n"


def _parsed(line: bytes, path: Path, number: int) -> Answer:
    try:
        return Answer.from_json(json.loads(line))
    except (ValueError, TypeError, KeyError) as error:
        raise RunError(
            f"a line is not an answer: {error}",
            where=f"{path}, line {number}",
            do=f"delete {path} to generate the answers again",
        ) from error
