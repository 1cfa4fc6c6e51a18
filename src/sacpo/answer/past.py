"""A model and what it remembers of a batch while it decodes: transformers' forward pass and cache."""

from __future__ import annotations

import inspect
from typing import Any, Protocol

import torch


class Past(Protocol):
    """A model with what it remembers of each row of a batch."""

    @property
    def can_select(self) -> bool:
        """Whether rows can be dropped and repeated."""

    def step(self, inputs: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Read the next tokens of every row; return the logits behind the last one.

        Shape: inputs and positions (batch, new); mask (batch, remembered + new), 1 but 0 on padding; result (batch,
        vocabulary).
        """

    def select(self, rows: torch.Tensor) -> None:
        """Keep these rows in this order; a row may be there several times."""


class ModelPast:
    """Any causal language model with a cache, called as transformers' models are."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.accepts = set(inspect.signature(model.forward).parameters)
        self.name = "past_key_values" if "past_key_values" in self.accepts else "cache_params"
        self.cache: Any = None

    @property
    def can_select(self) -> bool:
        """Whether every layer's cache can drop rows: those of recurrent layers cannot in transformers 5."""
        return all(hasattr(layer, "batch_select_indices") for layer in self.cache.layers)

    def step(self, inputs: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Call the model; arguments and result as of `Past.step`."""
        optional = {"position_ids": positions, "logits_to_keep": 1}
        output = self.model(
            input_ids=inputs,
            # A recurrent state already knows what was padding; Mamba fails on a mask of the whole past.
            attention_mask=mask if "past_key_values" in self.accepts or mask.shape == inputs.shape else None,
            use_cache=True,
            **{name: value for name, value in optional.items() if name in self.accepts},
            **{self.name: self.cache},
        )
        self.cache = getattr(output, self.name)
        logits: torch.Tensor = output.logits[:, -1]
        return logits

    def select(self, rows: torch.Tensor) -> None:
        """Keep these rows of the cache."""
        self.cache.batch_select_indices(rows)
