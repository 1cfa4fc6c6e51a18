"""Models with random weights, and preference pairs of real lengths with random tokens: no data and no hub is needed."""

from __future__ import annotations

import os
import random
import re
from pathlib import Path
from typing import Any

SEED = 0
WORDS = 32_000
LLAMAS: dict[str, dict[str, int]] = {
    "7b": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32},
    "1.5b": {"hidden_size": 2048, "intermediate_size": 5504, "num_hidden_layers": 28, "num_attention_heads": 16},
    "small": {"hidden_size": 1024, "intermediate_size": 2752, "num_hidden_layers": 8, "num_attention_heads": 8},
    "toy": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2},
}
"""Llama shapes, head and embedding apart: 6.7, 1.5 and 0.17 billion parameters with 32,000 words, and a toy."""

SHARES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
LENGTHS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "pku": ((2, 6, 9, 14, 21, 40, 88, 186), (2, 13, 37, 70, 104, 162, 239, 483)),
    "hh": ((4, 8, 24, 79, 148, 325, 512, 791), (1, 7, 17, 33, 63, 136, 233, 581)),
    "toy": ((2, 3, 4, 6, 9, 16, 20, 24), (2, 3, 4, 6, 9, 16, 20, 24)),
}
"""Tokens of prompts and of completions at the shares in `SHARES`: of 2,048 pairs each of PKU-SafeRLHF and HH harmless,
cut at 1,024 tokens, in the byte-level BPE of `python -m benchmarks.tokens`."""
FILES = {"pku": "pku_saferlhf/safety_pairs_train.jsonl", "hh": "hh_rlhf/harmless-base-test.jsonl.gz"}
LONGEST = 1024


def lengths(kind: str, n: int) -> tuple[list[tuple[int, int, int]], str]:
    """Return the tokens of prompt, chosen and rejected of `n` pairs, and where they come from.

    Real pairs are counted in words and marks where `SACPO_DATA` names a folder of real data; else lengths are drawn by
    the seed from the table, each part by itself.
    """
    place = Path(os.environ.get("SACPO_DATA", "/nowhere")) / FILES.get(kind, "none")
    if place.is_file():
        return _real(kind, n), "the lengths of real pairs"
    draw = random.Random(SEED)
    prompt, completion = LENGTHS[kind]
    found = []
    for _ in range(n):
        before, *both = (_quantile(table, draw.random()) for table in (prompt, completion, completion))
        found.append((before, *(min(size, LONGEST - 1 - before) for size in both)))
    return found, "lengths drawn from quantiles"  # type: ignore[return-value]


def _real(kind: str, n: int) -> list[tuple[int, int, int]]:
    from sacpo.data.prepare import prepare
    from sacpo.data.sources import read_source
    from sacpo.recipe.schema import DataSpec

    spec = DataSpec(
        format={"pku": "pku-safe-rlhf", "hh": "hh-rlhf"}[kind],  # type: ignore[arg-type]
        path=str(Path(os.environ["SACPO_DATA"]) / FILES[kind]),
    )
    records = prepare(read_source(spec, name=kind, seed=SEED).records, spec, name=kind, seed=SEED).train
    chosen = random.Random(SEED).sample([*records], min(n, len(records)))
    counted = [
        (sum(_words(m.content) for m in r.prompt.messages), _words(r.chosen), _words(r.rejected)) for r in chosen
    ]
    return [(min(p, LONGEST // 2), min(c, LONGEST // 2 - 1), min(r, LONGEST // 2 - 1)) for p, c, r in counted]


def _words(text: str) -> int:
    return max(len(re.findall(r"\w+|[^\w\s]", text)), 1)


def _quantile(table: tuple[int, ...], share: float) -> int:
    """Return the length at a share, straight between the table's."""
    place = max(i for i, edge in enumerate(SHARES[:-1]) if edge <= share)
    low, high = SHARES[place], SHARES[place + 1]
    return round(table[place] + (table[place + 1] - table[place]) * (share - low) / (high - low))


def rows(kind: str, n: int) -> list[dict[str, str]]:
    """Return pairs in TRL's columns: words that are one token each, drawn by the seed, of the lengths of `lengths`.

    What is chosen has words of the vocabulary's first half, what is rejected of its second, so that a loss falls.
    """
    draw = random.Random(SEED + 1)
    found = []
    for parts in lengths(kind, n)[0]:
        halves = ((4, WORDS), (4, WORDS // 2), (WORDS // 2, WORDS))
        prompt, chosen, rejected = (
            " ".join(f"w{draw.randrange(*half)}" for _ in range(size)) for half, size in zip(halves, parts, strict=True)
        )
        found.append({"prompt": prompt, "chosen": f" {chosen}", "rejected": f" {rejected}"})
    return found


def tokenizer() -> Any:
    """Return a tokenizer of words between spaces, each one token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<s>", "</s>", "<unk>"]
    words = {word: number for number, word in enumerate([*special, *(f"w{i}" for i in range(4, WORDS))])}
    plain = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def config_of(shape: str, **changes: Any) -> Any:
    """Return the configuration of a Llama shape."""
    from transformers import AutoConfig

    options = {"max_position_embeddings": 2048, "tie_word_embeddings": False, "vocab_size": WORDS}
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    return AutoConfig.for_model("llama", **{**LLAMAS[shape], **options, **tokens, **changes})


def build(config: Any, device: str, *, dtype: str = "bfloat16", attention: str = "sdpa") -> Any:
    """Return a model with weights drawn from the seed, made on its device."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(SEED)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype), attn_implementation=attention)
    return model.to(device).eval()  # tables of positions may have stayed behind


def needed(config: Any, n_tokens: list[tuple[int, int, int]], *, lora: bool) -> float:
    """Return the floating-point operations of DPO on pairs of these lengths, reference pass included.

    A multiplication and an addition count as two. A token takes 2 x (weights of the layers), and 4 x hidden for each
    token that it attends to in each layer; a completion's token takes 2 x hidden x vocabulary in the head. A prompt
    counts once for both completions; padding, adapters and what checkpointing computes again do not count. The
    reference pass is one forward pass, a step is three; with LoRA two, for frozen weights have no gradient.
    """
    hidden, layers = config.hidden_size, config.num_hidden_layers
    weights = layers * (4 * hidden**2 + 3 * hidden * config.intermediate_size)
    forward = 0.0
    for prompt, *completions in n_tokens:
        ended = [n + 1 for n in completions]  # the end token
        attended = prompt**2 / 2 + sum(n * prompt + n**2 / 2 for n in ended)
        forward += 2 * weights * (prompt + sum(ended)) + 4 * hidden * layers * attended
        forward += 2 * hidden * config.vocab_size * sum(ended)
    return forward * (3 if lora else 4)
