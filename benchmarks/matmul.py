"""The work that a DPO training needs, and how fast this machine multiplies matrices of the model's shapes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from benchmarks.cases import SEED, Case

TOKENS, SECONDS = 512, 2.0


def needed(case: Case, records: list[Any], base: Path) -> float:
    """Return the floating-point operations of all passes, a multiplication and an addition counted as two.

    A token takes 2 x (weights of the layers), and 4 x hidden for each token that it attends to in each layer; a
    completion's token takes 2 x hidden x vocabulary in the head. A prompt counts once for both completions; no padding
    does. A training step is three forward passes (backward: two), the reference pass one.
    """
    from transformers import AutoConfig, AutoTokenizer

    from sacpo.data.templates import make_template
    from sacpo.data.tokenize import tokenize_pairs

    tokenizer, config = AutoTokenizer.from_pretrained(base), AutoConfig.from_pretrained(base)
    template = make_template("plain", tokenizer)
    pairs, _ = tokenize_pairs(records, tokenizer, template, max_length=case.longest, too_long="truncate")
    hidden, layers = config.hidden_size, config.num_hidden_layers
    weights = layers * (4 * hidden**2 + 3 * hidden * config.intermediate_size)
    forward = 0.0
    for pair in pairs:
        prompt, branches = len(pair.prompt), [len(pair.chosen), len(pair.rejected)]
        attended = prompt**2 / 2 + sum(n * prompt + n**2 / 2 for n in branches)
        forward += 2 * weights * (prompt + sum(branches))
        forward += 4 * hidden * layers * attended
        forward += 2 * hidden * config.vocab_size * sum(branches)
    return forward * (3 * case.epochs * len(case.betas) + 1)


def rate(case: Case) -> float:
    """Return the floating-point operations a second of matrix products at the model's shapes.

    512 tokens, as a packed row holds them, meet each kind of weight as often as in the model.
    """
    import torch

    shape = case.shape
    hidden, ff, layers = shape["hidden_size"], shape["intermediate_size"], shape["num_hidden_layers"]
    kinds = [(hidden, hidden)] * (4 * layers) + [(hidden, ff)] * (2 * layers) + [(ff, hidden)] * layers
    generator = torch.Generator().manual_seed(SEED)
    dtype = torch.bfloat16 if case.bf16 else torch.float32
    weights = {kind: torch.randn(kind, generator=generator).to(dtype) for kind in {*kinds}}
    inputs = {n: torch.randn((TOKENS, n), generator=generator).to(dtype) for n in (hidden, ff)}
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < SECONDS:
        for kind in kinds:
            inputs[kind[0]] @ weights[kind]
        done += sum(2 * TOKENS * rows * columns for rows, columns in kinds)
    return done / (time.perf_counter() - started)
