"""Tiny checkpoints to merge."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = ("<pad>", "</s>", "<unk>", "stir", "the", "soup", "no")


def word_tokenizer(words: tuple[str, ...] = WORDS) -> PreTrainedTokenizerFast:
    inner = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", chat_template="{{ messages }}"
    )


@pytest.fixture
def checkpoint(tmp_path: Path) -> Callable[..., Path]:
    def make(
        name: str,
        seed: int,
        *,
        dtype: torch.dtype = torch.float32,
        shard: str = "5GB",
        words: tuple[str, ...] = WORDS,
        **config: Any,
    ) -> Path:
        sizes = {"vocab_size": 24, "hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 2}
        torch.manual_seed(seed)
        model = LlamaForCausalLM(LlamaConfig(**{**sizes, "num_attention_heads": 2, **config}))
        with torch.no_grad():
            for parameter in model.parameters():  # norms start at 1 everywhere, which would hide mistakes
                parameter.add_(torch.randn_like(parameter) * 0.3)
        folder = tmp_path / name
        model.to(dtype).save_pretrained(folder, max_shard_size=shard)
        word_tokenizer(words).save_pretrained(folder)
        return folder

    return make
