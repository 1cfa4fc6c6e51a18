"""Greedy answers in one batch: this package's decoding, transformers' `generate`, and vLLM where it is installed."""

from __future__ import annotations

import importlib.util
import random
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.gpu import shapes
from benchmarks.gpu.emit import Clock, emit, told


def run(clock: Clock, *, shape: str, prompts: int = 64, new_tokens: int = 64, lengths: str = "pku") -> None:
    """Time all three on the same prompts, and say how many tokens are the same."""
    from sacpo.models.loading import save_model

    tokenizer = shapes.tokenizer()
    model = shapes.build(shapes.config_of(shape), clock.device)
    draw = random.Random(shapes.SEED)
    asked = [
        [draw.randrange(4, shapes.WORDS) for _ in range(prompt)] for prompt, *_ in shapes.lengths(lengths, prompts)[0]
    ]
    ours = _timed(clock, "sacpo", _sacpo, model, asked, new_tokens)
    theirs = _timed(clock, "transformers", _transformers, model, asked, new_tokens)
    emit("same", peer="transformers", share=_same(ours, theirs))
    if importlib.util.find_spec("vllm") is None:
        emit("notice", text="vLLM is not installed")
        return
    with tempfile.TemporaryDirectory() as folder:
        save_model(model, tokenizer, Path(folder))
        del model
        clock.reset_peak()
        try:
            found = _vllm(clock, folder, asked, new_tokens)
        except Exception as error:  # noqa: BLE001 - what the peer raises is a result
            emit("notice", text=f"vLLM fails: {told(error)}")
            return
    emit("same", peer="vLLM", share=_same(ours, found))


def _timed(clock: Clock, name: str, function: Any, model: Any, asked: Any, new_tokens: int) -> list[list[int]]:
    function(model, asked, 2)  # kernels are loaded
    started = clock.now()
    found: list[list[int]] = function(model, asked, new_tokens)
    seconds, tokens = clock.now() - started, sum(map(len, found))
    emit("generated", by=name, tokens=tokens, seconds=seconds, tokens_per_second=tokens / seconds)
    return found


def _sacpo(model: Any, asked: Any, new_tokens: int) -> list[list[int]]:
    from sacpo.answer.decoding import Row, Sampling, decode

    return decode(model, [Row(p, new_tokens) for p in asked], Sampling(), end_ids=frozenset([2]), pad_id=0)


def _transformers(model: Any, asked: Any, new_tokens: int) -> list[list[int]]:
    import torch

    width = max(map(len, asked))
    ids = torch.tensor([[0] * (width - len(p)) + p for p in asked], device=model.device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in asked], device=model.device)
    settings = {"do_sample": False, "max_new_tokens": new_tokens, "pad_token_id": 0, "eos_token_id": 2}
    with torch.no_grad():
        found = model.generate(input_ids=ids, attention_mask=mask, **settings)[:, width:].tolist()
    return [row[: row.index(2) + 1] if 2 in row else row for row in found]


def _vllm(clock: Clock, folder: str, asked: Any, new_tokens: int) -> list[list[int]]:
    from sacpo.answer.decoding import Row, Sampling
    from sacpo.answer.vllm import VllmModel

    engine = VllmModel(folder, dtype="bfloat16")

    def answers(model: Any, prompts: Any, n: int) -> list[list[int]]:
        return engine.decode([Row(p, n) for p in prompts], Sampling(), end_ids=frozenset([2]), pad_id=0)

    return _timed(clock, "vLLM", answers, engine, asked, new_tokens)


def _same(first: list[list[int]], other: list[list[int]]) -> float:
    """Return the share of tokens before two answers part, over all of them."""
    same = sum(
        next((i for i, pair in enumerate(zip(a, b, strict=False)) if pair[0] != pair[1]), min(len(a), len(b)))
        for a, b in zip(first, other, strict=True)
    )
    return same / max(sum(map(len, first)), 1)
