"""The world's words and the tokenizer of them: one token a word or mark."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from sacpo.world.lexicon import (
    ALTERNATIVE,
    ENDINGS,
    FILLER,
    FRAMES,
    OPENERS,
    REFUSAL,
    RUDE,
    WHEN,
)
from sacpo.world.tasks import KINDS, all_tasks

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, EOS, BOS, UNK, ASK, REPLY = SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>", "<ask>", "<reply>")
CHAT = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ message['content'] }}{{ eos_token }}"
    "{% else %}{{ '<ask>' + message['content'] + '<reply>' }}{% endif %}"
    "{% endfor %}"
)
"""Every turn that is no answer ends with the generation prompt, so a prompt is always a prefix of its conversation."""


@cache
def words() -> tuple[str, ...]:
    """Return every word and mark of the world, of every seed and size, in alphabetical order."""
    texts = [*OPENERS, *FRAMES, *WHEN, *ENDINGS, *FILLER, *RUDE, *REFUSAL, *ALTERNATIVE]
    for kind in KINDS:
        for task in all_tasks(kind):
            texts += [task.words, *task.steps]
    return tuple(sorted({word for text in texts for word in re.findall(r"[a-z]+|[.,?]", text)}))


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Return a new tokenizer of the world's words with a chat template; it decodes to the text it encoded."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    ids = {word: i for i, word in enumerate((*SPECIAL, *words()))}
    inner = Tokenizer(models.WordLevel(ids, unk_token=UNK))
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("isolated")]
    )
    inner.decoder = decoders.WordPiece(prefix="##", cleanup=True)  # joins words with spaces, but not in front of marks
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token=PAD,
        eos_token=EOS,
        bos_token=BOS,
        unk_token=UNK,
        additional_special_tokens=[ASK, REPLY],
    )
    tokenizer.chat_template = CHAT
    return tokenizer
