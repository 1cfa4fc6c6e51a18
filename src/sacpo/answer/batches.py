"""Batches of token trees for forward passes without gradient: how rows hold them, and how many tokens they have."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sacpo.data.packing import LayRows, Tree, flat_rows, packed_rows
from sacpo.losses.agreement import check_layout
from sacpo.losses.head import LOGITS_AT_ONCE
from sacpo.losses.logps import unwrapped
from sacpo.losses.sharing import takes_flat
from sacpo.models.tokens import padding_token

TOKENS_AT_ONCE = 8192


def shared_layout(model: Any, tokenizer: PreTrainedTokenizerBase, trees: Sequence[Tree]) -> LayRows | None:
    """Return how rows hold each prompt once, or None where this model computes something else from them.

    Nothing is agreed on with other processes, which wait while one does a stage; the model's attention stays as it is.
    """
    if not isinstance(unwrapped(model), PreTrainedModel):  # several mixed
        return None
    pad_id = padding_token(tokenizer, model)
    for layout in (*([flat_rows] if takes_flat(model) else []), packed_rows):
        rows = partial(layout, pad_id=pad_id)
        if trees and check_layout(model, trees, pad_id=pad_id, shared=rows).ok:
            return rows
    return None


def rows_at_once(model: Any) -> int:
    """Return of how many completions a forward pass may be whose first tokens' log-probs are held together."""
    return max(1, LOGITS_AT_ONCE // int(model.config.get_text_config().vocab_size))


def batched(
    trees: Sequence[Tree], tokens: int = TOKENS_AT_ONCE, rows: int | None = None, *, together: bool
) -> list[list[int]]:
    """Return the places of trees in batches: those of like lengths, or those of a prompt one after another.

    Args:
        trees: Prompts with one completion each.
        tokens: Tokens of a batch, or one completion that has more: `together` with prompts of each completion, else
            with what fills its rows.
        rows: Most completions of a batch; None: any number.
        together: Whether completions to one prompt stand together, for rows that hold it once.
    """
    keys = [(len(tree.prompt), tree.prompt) if together else (len(tree), ()) for tree in trees]
    ordered = sorted(range(len(trees)), key=lambda place: (*keys[place], place))
    batches: list[list[int]] = []
    held = 0
    for place in ordered:
        size = len(trees[place])
        held = held + size if together or not batches else (len(batches[-1]) + 1) * size
        if not batches or held > tokens or len(batches[-1]) == rows:
            batches.append([])
            held = size
        batches[-1].append(place)
    return batches
