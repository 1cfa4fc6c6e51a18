"""Which token sees which, in the form that a model takes it."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel

from sacpo.data.rows import Rows


def visible(rows: Rows, *, window: int | None = None, block: int | None = None) -> torch.Tensor:
    """Return which key each query sees: those before it in its own branch and in its prompt.

    Args:
        rows: Rows with shared prompts.
        window: A query sees this many positions, itself included; None: all.
        block: A query sees only positions of its own block of this many; None: all.

    Shape: (rows, 1, queries, keys) bool.
    """
    assert rows.visible_until is not None
    columns = torch.arange(rows.input_ids.shape[1], device=rows.input_ids.device)
    query, position = columns[:, None], rows.position_ids
    seen = (columns <= query) & (query < rows.visible_until[:, None, :])
    if window is not None:
        seen &= position[:, :, None] - position[:, None, :] < window
    if block is not None:
        seen &= position[:, :, None] // block == position[:, None, :] // block
    return seen[:, None]


def attention_mask(model: PreTrainedModel, rows: Rows) -> Any:
    """Return the `attention_mask` argument of a model's forward pass for these rows."""
    if not rows.shared:
        return rows.attention_mask
    return visible(rows)
