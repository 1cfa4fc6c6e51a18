"""From rendered texts to token ids: what begins a text stands once, and very long texts are not tokenised whole."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from sacpo.data.specials import CLOSE, OPEN
from sacpo.data.templates import Template

Ids = tuple[int, ...]

CHARACTERS = 100_000
"""Of a longer text only its beginning is tokenised, where that is more than enough to fill the limit."""
MARGIN = 64  # tokens behind the limit: where a text is cut changes none in front of it


def encode_all(
    texts: Sequence[str],
    places: Sequence[str],
    template: Template,
    tokenizer: PreTrainedTokenizerBase,
    limit: int | None,
) -> list[Ids]:
    """Tokenise texts that stand at the beginning of a sequence.

    They begin as the tokenizer begins texts, unless the template writes that; what a text begins with already is not
    repeated.

    Args:
        texts: Texts of this template.
        places: Their rows, for messages.
        template: Wrote them.
        tokenizer: The model's tokenizer.
        limit: How many tokens of each can be used; None: all.

    Raises:
        DataError: A text spells a special token that the tokenizer cannot read as text.
    """
    begin = () if template.special else beginning(tokenizer)
    together = [text for text in texts if not _apart(text, limit)]
    ids = iter(tokenizer(together, add_special_tokens=False)["input_ids"] if together else [])
    return [
        _begun(begin, encode_alone(text, place, template, tokenizer, limit) if _apart(text, limit) else (*next(ids),))
        for text, place in zip(texts, places, strict=True)
    ]


def encode_alone(
    text: str, place: str, template: Template, tokenizer: PreTrainedTokenizerBase, limit: int | None
) -> Ids:
    """Tokenise one text wherever it stands, or of a very long one as much as can be used; see `encode_all`."""
    size = len(text) if limit is None else _most(limit)
    while True:
        part = text[:size]
        if part.rfind(OPEN) > part.rfind(CLOSE):  # cut within quotes
            part = part[: part.rfind(OPEN)]
        encoded = template.specials.encode(part, place) if OPEN in part else tokenizer(part, add_special_tokens=False)
        ids = encoded if isinstance(encoded, list) else encoded["input_ids"]
        if size >= len(text) or (limit is not None and len(ids) > limit + MARGIN):
            return tuple(ids)
        size *= 2


def counted(n: int, limit: int) -> str:
    """Return how many tokens a text has, for messages; of a long one not all were counted."""
    return f"{n} tokens" if n <= limit + MARGIN else f"at least {n} tokens"


def _apart(text: str, limit: int | None) -> bool:
    return OPEN in text or (limit is not None and len(text) > _most(limit))


def _most(limit: int) -> int:
    return max(CHARACTERS, 16 * limit)


def _begun(begin: Ids, ids: Ids) -> Ids:
    """Return the ids behind a beginning, of which those that they begin with themselves are not repeated."""
    same = next(n for n in range(min(len(begin), len(ids)), -1, -1) if begin[len(begin) - n :] == ids[:n])
    return begin[: len(begin) - same] + ids


def beginning(tokenizer: PreTrainedTokenizerBase) -> Ids:
    """Return the tokens that the tokenizer begins texts with by itself; those that it ends them with are left out."""
    alone, whole = (tuple(tokenizer("a", add_special_tokens=special)["input_ids"]) for special in (False, True))
    starts = (i for i in range(len(whole) - len(alone) + 1) if whole[i : i + len(alone)] == alone)
    return whole[: next(starts, 0)]
