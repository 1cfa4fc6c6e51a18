"""Keys and values of one row, kept so that another row can continue its prompts without computing them again."""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache

KeysAndValues = dict[int, tuple[torch.Tensor, torch.Tensor]]
"""Those of each layer. Shape of each: (1, heads, width, size)."""


class KeptRow(DynamicCache):
    """Takes the keys and values that a forward pass computes, without gradient; the pass itself does not change."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: KeysAndValues = {}

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keep a layer's keys and values, and return them."""
        self.kept[layer_idx] = key_states.detach(), value_states.detach()
        return key_states, value_states


class ContinuedRow(DynamicCache):
    """Puts a kept row's keys and values before those of the row that continues it, whose mask chooses among them."""

    def __init__(self, row: KeptRow) -> None:
        super().__init__()
        self.kept = row.kept

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a layer's keys and values of both rows."""
        keys, values = self.kept[layer_idx]
        return torch.cat([keys, key_states], dim=2), torch.cat([values, value_states], dim=2)
