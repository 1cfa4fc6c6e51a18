"""Byte-level tokenizers with special tokens and a chat template of one's choice."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LEARNT = ["the cat sat.\n\n\n on the mat\n\n  it slept</end>"] * 9


def byte_level(
    special: Sequence[str] = (),
    *,
    eos: str = "</end>",
    bos: str | None = None,
    prefix: Sequence[str] = (),
    chat: str | None = None,
    pad: str = "<pad>",
) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE whose runs of line breaks merge; `prefix` stands in front of every text."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    names = [name for name in dict.fromkeys([pad, eos, bos, *prefix, *special]) if name]
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=names,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(LEARNT, trainer)
    if prefix:
        inner.post_processor = processors.TemplateProcessing(
            single=" ".join([*prefix, "$A"]), special_tokens=[(name, inner.token_to_id(name)) for name in prefix]
        )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=eos, bos_token=bos, pad_token=pad)
    tokenizer.chat_template = chat
    return tokenizer
