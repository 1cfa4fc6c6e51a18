"""Answers of models with random weights beside transformers' `generate`: CPU seconds of one thread, in turn.

    python -m benchmarks.generation_random SHAPE [--prompts 48] [--batch 8] [--new 64] [--ends 16] [--greedy]
        [--dtype bfloat16]

Prompts have the lengths of PKU-SafeRLHF's; one token of `--ends` ends an answer, so that answers are of different
lengths. `generate` takes the prompts as they come, since it does not sort them, and pads them on the left. A side's
rate is its tokens by its seconds: sampled answers are not the same ones. Greedy answers must be.
"""

from __future__ import annotations

import argparse
import random
from typing import Any

import numpy as np
import torch

from benchmarks.generation import seconds
from benchmarks.gpu.shapes import SEED, lengths
from benchmarks.measure import machine, ratios
from sacpo.answer.decoding import Row, Sampling, decode
from sacpo.answer.generate import Request, pieces_of, plan_batches, rows_at_once
from sacpo.data.records import Prompt

TOKENS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 1, "tie_word_embeddings": False}
LLAMA = {"model_type": "llama", "vocab_size": 32_000, "max_position_embeddings": 2048}
SHAPES: dict[str, dict[str, Any]] = {
    "llama-toy": {
        **LLAMA,
        "vocab_size": 300,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    },
    "llama-100m": {
        **LLAMA,
        "hidden_size": 768,
        "intermediate_size": 2048,
        "num_hidden_layers": 8,
        "num_attention_heads": 12,
        "num_key_value_heads": 4,
    },
    "llama-270m": {
        **LLAMA,
        "hidden_size": 1024,
        "intermediate_size": 2816,
        "num_hidden_layers": 18,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
    },
    "gemma3-270m": {
        "model_type": "gemma3_text",
        "vocab_size": 262_144,
        "max_position_embeddings": 2048,
        "hidden_size": 640,
        "intermediate_size": 2048,
        "num_hidden_layers": 18,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 256,
        "query_pre_attn_scalar": 256,
        "sliding_window": 512,
    },
}
"""Heads are not tied to embeddings: with random weights a tied one says its input again."""


class Sides:
    """Both ways to answer the same prompts with the same model."""

    def __init__(self, shape: str, prompts: int, batch: int, new: int, ends: int, dtype: str = "float32") -> None:
        from transformers import AutoConfig, AutoModelForCausalLM

        torch.manual_seed(SEED)
        config = AutoConfig.for_model(**SHAPES[shape], **TOKENS)
        self.model: Any = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype)).eval()
        draw, words = random.Random(SEED), range(4, config.vocab_size)
        self.prompts = [tuple(draw.choices(words, k=length)) for length, *_ in lengths("pku", prompts)[0]]
        self.ends, self.batch, self.new = frozenset(draw.sample(words, config.vocab_size // ends)), batch, new

    def ours(self, sample: bool) -> list[list[int]]:
        """Answer as `sacpo.answer.generate` does, without texts."""
        asked = [Request(i, Prompt.from_text(str(i)), 0, p, self.new) for i, p in enumerate(self.prompts)]
        found: list[list[int]] = [[] for _ in asked]
        for piece in pieces_of(plan_batches(asked, self.batch)):
            numbers = [np.random.default_rng([SEED, r.place]).random(self.new) if sample else None for r in piece]
            rows = [Row(r.tokens, r.limit, line) for r, line in zip(piece, numbers, strict=True)]
            at_once = rows_at_once(piece, self.batch)
            answers = decode(self.model, rows, Sampling(sample), end_ids=self.ends, pad_id=0, at_once=at_once)
            for request, answer in zip(piece, answers, strict=True):
                found[request.place] = answer
        return found

    @torch.no_grad()
    def theirs(self, sample: bool) -> list[list[int]]:
        """Answer with transformers."""
        found = []
        options: dict[str, Any] = {"do_sample": True, "top_k": 0} if sample else {"do_sample": False}
        for start in range(0, len(self.prompts), self.batch):
            rows = self.prompts[start : start + self.batch]
            width = max(map(len, rows))
            ids = torch.tensor([[0] * (width - len(row)) + [*row] for row in rows])
            mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
            options |= {"max_new_tokens": self.new, "eos_token_id": sorted(self.ends), "pad_token_id": 0}
            for tokens in self.model.generate(input_ids=ids, attention_mask=mask, **options)[:, width:].tolist():
                end = next((place + 1 for place, token in enumerate(tokens) if token in self.ends), len(tokens))
                found.append(tokens[:end])
        return found


def main() -> None:
    """Measure, and print a line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("shape", choices=[*SHAPES])
    for name, default in (("prompts", 48), ("batch", 8), ("new", 64), ("ends", 16), ("pairs", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--greedy", action="store_true")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sides = Sides(options.shape, options.prompts, options.batch, options.new, options.ends, options.dtype)
    print(machine(), flush=True)
    ours, theirs, said = [], [], ""
    for _ in range(options.pairs):
        (own, answers), (other, others) = (seconds(side, not options.greedy) for side in (sides.ours, sides.theirs))
        ours.append(sum(map(len, answers)) / own)
        theirs.append(sum(map(len, others)) / other)
        if options.greedy:
            said = f"; {sum(a == b for a, b in zip(answers, others, strict=True))} of {len(answers)} the same"
        print(f"{ours[-1]:.1f} tokens/s of CPU, {theirs[-1]:.1f} of generate", flush=True)
    print(f"{options.shape}, {options.dtype}: {ratios(ours, theirs)}{said}", flush=True)


if __name__ == "__main__":
    main()
