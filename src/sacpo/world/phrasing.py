"""Phrasings: the thousands of ways to ask for a task, each wording in exactly one split."""

from __future__ import annotations

import hashlib
import itertools
import re
from functools import cache

from sacpo.errors import DataError
from sacpo.world.lexicon import ENDINGS, FRAMES, OPENERS, WHEN

SPLITS = ("sft", "pairs", "tuning", "report", "certification", "fresh")


@cache
def phrasings(seed: int) -> dict[str, tuple[str, ...]]:
    """Return each split's phrasings: texts in which {} stands for the task.

    No two splits share a phrasing, nor phrasings that differ only in their marks, for any task.
    """
    found: dict[str, list[str]] = {split: [] for split in SPLITS}
    for opener, frame, when, ending in itertools.product(OPENERS, FRAMES, WHEN, ENDINGS):
        text = f"{opener}{frame}{when}{ending}"
        found[split_of(text, seed)].append(text)
    return {split: tuple(texts) for split, texts in found.items()}


def split_of(phrasing: str, seed: int) -> str:
    """Return the one split that a phrasing belongs to: a hash of the world's seed and of its words without marks."""
    words = " ".join(re.findall(r"[a-z]+|{}", phrasing))
    digest = hashlib.blake2b(f"{seed}:{words}".encode(), digest_size=8).digest()
    return SPLITS[int.from_bytes(digest, "big") % len(SPLITS)]


def phrasings_of(split: str, seed: int) -> tuple[str, ...]:
    """Return the phrasings of one split.

    Raises:
        DataError: There is no such split.
    """
    if split not in SPLITS:
        raise DataError(
            "the world has no such split", where="split", value=split, allowed=SPLITS, do="name one of these splits"
        )
    return phrasings(seed)[split]
