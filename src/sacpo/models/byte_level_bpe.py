"""A byte-level BPE tokenizer trained on a recipe's own texts."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

PAD, BOS, EOS = "<|pad|>", "<|begin|>", "<|end|>"
CHAT = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ message['content'] }}{{ eos_token }}"
    "{% else %}{{ '### ' + message['role'] + ':\n' + message['content'] + '\n### assistant:\n' }}{% endif %}"
    "{% endfor %}"
)
"""Every turn that is no answer ends with the generation prompt, so a prompt is always a prefix of its conversation."""


def byte_level_bpe(texts: Sequence[str], vocab_size: int) -> PreTrainedTokenizerBase:
    """Return a tokenizer with a chat template, trained on texts; every text can be written in it.

    Args:
        texts: What it learns merges from.
        vocab_size: Most tokens; at least the 256 bytes and three special tokens.
    """
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token=PAD, bos_token=BOS, eos_token=EOS)
    tokenizer.chat_template = CHAT
    return tokenizer
