"""Answers in one batch: this package's decoding, transformers' `generate`, and vLLM where it is installed."""

from __future__ import annotations

import gc
import importlib.util
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.gpu import shapes
from benchmarks.gpu.emit import Clock, emit, told

Answers = Callable[[Any, list[list[int]], int], list[list[int]]]
EXACT = {"num_hidden_layers": 4, "initializer_range": 0.1}
"""A model whose largest logits are far apart; with the weights of the others they nearly tie, and rounding decides."""
TOP_P = 0.9


def run(clock: Clock, *, shape: str, prompts: int = 64, new_tokens: int = 64, lengths: str = "pku") -> None:
    """Say how many greedy tokens are the same in float32, then time all on the same prompts in bf16."""
    draw = random.Random(shapes.SEED)
    asked = [
        [draw.randrange(4, shapes.WORDS) for _ in range(prompt)] for prompt, *_ in shapes.lengths(lengths, prompts)[0]
    ]
    compare(clock, shape, asked, new_tokens)
    model = shapes.build(shapes.config_of(shape), clock.device)
    ours = _timed(clock, "sacpo", _sacpo, model, asked, new_tokens)
    _timed(clock, "transformers, no attention of cuDNN's", _steady, model, asked, new_tokens)
    _timed(clock, "sacpo, sampled", _sacpo_sampled, model, asked, new_tokens)
    _timed(clock, "transformers, sampled, no attention of cuDNN's", _steady_sampled, model, asked, new_tokens)
    _timed(clock, "transformers", _transformers, model, asked, new_tokens)  # cuDNN may plan each token anew
    if importlib.util.find_spec("vllm") is None:
        emit("notice", text="vLLM is not installed")
        return
    with tempfile.TemporaryDirectory() as folder:
        _save(model, folder)
        del model
        gc.collect()
        clock.reset_peak()
        try:
            found = _vllm(clock, folder, asked, new_tokens)
        except Exception as error:  # noqa: BLE001 - what the peer raises is a result
            emit("notice", text=f"vLLM fails: {told(error)}")
            return
    emit("same", peer="vLLM, in bf16", share=_same(ours, found))


def compare(clock: Clock, shape: str, asked: list[list[int]], new_tokens: int) -> None:
    """Say how many greedy tokens are those of transformers, and how likely sampled tokens are on both sides."""
    import torch

    torch.set_float32_matmul_precision("highest")
    model = shapes.build(shapes.config_of(shape, **EXACT), clock.device, dtype="float32")
    ours, theirs = (answers(model, asked, new_tokens) for answers in (_sacpo, _steady))
    emit("same", peer="transformers, in float32", share=_same(ours, theirs))
    for name, answers in (("sacpo", _sacpo_sampled), ("transformers", _steady_sampled)):
        found = answers(model, asked, new_tokens)
        emit("sampled", by=name, top_p=TOP_P, tokens=sum(map(len, found)), mean=_likelihood(clock, model, asked, found))
    del model
    clock.reset_peak()


def _likelihood(clock: Clock, model: Any, asked: list[list[int]], answers: list[list[int]]) -> float:
    """Return the mean log-prob of answers' tokens, in nats."""
    import torch

    from sacpo.data.packing import Tree, padded_rows
    from sacpo.losses.logps import completion_token_logps

    trees = [Tree(tuple(prompt), (tuple(answer),)) for prompt, answer in zip(asked, answers, strict=True)]
    with torch.no_grad():
        return float(completion_token_logps(model, padded_rows(trees, pad_id=0).to(clock.device)).mean())


def _timed(
    clock: Clock, name: str, answers: Answers, model: Any, asked: list[list[int]], new_tokens: int
) -> list[list[int]]:
    answers(model, asked, 2)  # kernels are loaded
    started = clock.now()
    found = answers(model, asked, new_tokens)
    seconds, tokens = clock.now() - started, sum(map(len, found))
    emit("generated", by=name, tokens=tokens, seconds=seconds, tokens_per_second=tokens / seconds)
    return found


def _sacpo(model: Any, asked: list[list[int]], new_tokens: int) -> list[list[int]]:
    from sacpo.answer.decoding import Row, Sampling, decode

    return decode(model, [Row(p, new_tokens) for p in asked], Sampling(), end_ids=frozenset([2]), pad_id=0)


def _sacpo_sampled(model: Any, asked: list[list[int]], new_tokens: int) -> list[list[int]]:
    import numpy as np

    from sacpo.answer.decoding import Row, Sampling, decode

    draw = np.random.default_rng(shapes.SEED)
    rows = [Row(prompt, new_tokens, draw.random(new_tokens)) for prompt in asked]
    return decode(model, rows, Sampling(do_sample=True, top_p=TOP_P), end_ids=frozenset([2]), pad_id=0)


def _transformers(model: Any, asked: list[list[int]], new_tokens: int, **sampling: Any) -> list[list[int]]:
    import torch

    torch.manual_seed(shapes.SEED)
    width = max(map(len, asked))
    ids = torch.tensor([[0] * (width - len(p)) + p for p in asked], device=model.device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in asked], device=model.device)
    settings = {"do_sample": False, "max_new_tokens": new_tokens, "pad_token_id": 0, "eos_token_id": 2, **sampling}
    with torch.no_grad():
        found = model.generate(input_ids=ids, attention_mask=mask, **settings)[:, width:].tolist()
    return [row[: row.index(2) + 1] if 2 in row else row for row in found]


def _steady(model: Any, asked: list[list[int]], new_tokens: int, **sampling: Any) -> list[list[int]]:
    """Return what transformers answers without cuDNN's attention, which this package leaves out, too."""
    from sacpo.losses.kernels import steady_kernels

    with steady_kernels():
        return _transformers(model, asked, new_tokens, **sampling)


def _steady_sampled(model: Any, asked: list[list[int]], new_tokens: int) -> list[list[int]]:
    return _steady(model, asked, new_tokens, do_sample=True, top_p=TOP_P, top_k=0)


def _save(model: Any, folder: str) -> None:
    from sacpo.models.loading import save_model

    save_model(model, shapes.tokenizer(), Path(folder))


def _vllm(clock: Clock, folder: str, asked: list[list[int]], new_tokens: int) -> list[list[int]]:
    from sacpo.answer.decoding import Row, Sampling
    from sacpo.answer.vllm import VllmModel

    engine = VllmModel(folder, dtype="bfloat16")

    def answers(model: Any, prompts: list[list[int]], n: int) -> list[list[int]]:
        return engine.decode([Row(p, n) for p in prompts], Sampling(), end_ids=frozenset([2]), pad_id=0)

    return _timed(clock, "vLLM", answers, engine, asked, new_tokens)


def _same(first: list[list[int]], other: list[list[int]]) -> float:
    """Return the share of tokens before two answers part, over all of them."""
    same = sum(
        next((i for i, pair in enumerate(zip(a, b, strict=False)) if pair[0] != pair[1]), min(len(a), len(b)))
        for a, b in zip(first, other, strict=True)
    )
    return same / max(sum(map(len, first)), 1)
