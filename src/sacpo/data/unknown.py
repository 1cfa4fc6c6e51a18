"""Words that a tokenizer does not know: it reads each as one and the same token, and what they say is lost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SHOWN = 5
"""Unknown words that a notice names."""


def unknown_token(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return the token that stands for unknown words; None where every text has tokens, or it has another meaning."""
    token: int | None = tokenizer.unk_token_id
    others = (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id)
    return None if token in others else token


def unknown_words(texts: Iterable[str], tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return the parts of texts that the tokenizer does not know, each once, in order; its token where it cannot tell.

    Only a tokenizer of the library `tokenizers` knows where in a text its tokens are.
    """
    token = unknown_token(tokenizer)
    if token is None:
        return []
    found: dict[str, None] = {}
    for text in texts:
        if not tokenizer.is_fast:
            found |= (
                {tokenizer.unk_token: None} if token in tokenizer(text, add_special_tokens=False)["input_ids"] else {}
            )
            continue
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        places = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        found |= {text[start:end]: None for one, (start, end) in places if one == token}
    return [*found]


def unknown_notice(what: str, words: Sequence[str], reads: str) -> str:
    """Return the words that a model does not know as a notice; "" where there are none.

    Args:
        what: What holds them.
        words: The words.
        reads: The token that stands for them.
    """
    if not words:
        return ""
    more = f" and {len(words) - SHOWN:,} more" if len(words) > SHOWN else ""
    named = ", ".join(repr(word) for word in words[:SHOWN])
    return f"{what} words that the tokenizer does not know and reads as {reads}: {named}{more}"
