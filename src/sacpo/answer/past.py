"""A model and what it remembers of a batch while it decodes: transformers' forward pass and cache."""

from __future__ import annotations

import inspect
from typing import Any, Protocol

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from sacpo.answer.head import LastHead, LastStates
from sacpo.errors import DataError
from sacpo.losses.kernels import steady_kernels

CACHES = ("past_key_values", "cache_params")
"""What models take and give back of what they have read."""
JOINED = (DynamicLayer, DynamicSlidingWindowLayer)


class Past(Protocol):
    """A model with what it remembers of each row of a batch."""

    @property
    def can_select(self) -> bool:
        """Whether rows can be dropped and repeated."""

    @property
    def can_join(self) -> bool:
        """Whether the rows of another batch can be taken in."""

    def step(self, inputs: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor) -> LastStates:
        """Read the next tokens of every row; return what comes behind the last one.

        Shape: inputs and positions (batch, new); mask (batch, remembered + new), 1 but 0 on padding.
        """

    def select(self, rows: torch.Tensor) -> None:
        """Keep these rows in this order; a row may be there several times."""

    def join(self, other: Any, width: int) -> None:
        """Take in the rows of another past of the same model, behind its own.

        Both end at the same column. Of each, `width` columns are kept or filled up with zeros on the left: none of a
        row's own tokens is cut, and all before them is masked.
        """


class ModelPast:
    """Any causal language model with a cache, called as transformers' models are.

    Args:
        model: The model.
        head: Its head, where that is met here.
    """

    def __init__(self, model: Any, head: LastHead | None = None) -> None:
        self.accepts = set(inspect.signature(model.forward).parameters)
        self.head = head if "past_key_values" in self.accepts else None
        self.model = model if self.head is None else self.head.split.base
        if not self.accepts & {*CACHES}:
            raise DataError(
                "this model remembers nothing of what it has read, so every token would take as long as all before it",
                where="model",
                value=type(model).__name__,
                allowed="a causal language model with a cache of keys and values, or of states",
                do="take another model",
            )
        self.name = next(name for name in CACHES if name in self.accepts)
        self.cache: Any = None

    @property
    def can_select(self) -> bool:
        """Whether every layer's cache can drop rows: those of recurrent layers cannot in transformers 5."""
        return all(hasattr(layer, "batch_select_indices") for layer in self.cache.layers)

    @property
    def can_join(self) -> bool:
        """Whether the cache is transformers' own, with layers whose columns are a row's last tokens."""
        return type(self.cache) is DynamicCache and all(
            type(layer) in JOINED and getattr(layer, "is_initialized", False) for layer in self.cache.layers
        )

    @steady_kernels()
    def step(self, inputs: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor) -> LastStates:
        """Call the model; arguments and result as of `Past.step`."""
        optional = {"position_ids": positions, **({"logits_to_keep": 1} if self.head is None else {})}
        output = self.model(
            input_ids=inputs,
            # A recurrent state already knows what was padding; Mamba fails on a mask of the whole past.
            attention_mask=mask if "past_key_values" in self.accepts or mask.shape == inputs.shape else None,
            use_cache=True,
            **{name: value for name, value in optional.items() if name in self.accepts},
            **{self.name: self.cache},
        )
        self.cache = getattr(output, self.name)
        return LastStates((output.logits if self.head is None else output.last_hidden_state)[:, -1], self.head)

    def select(self, rows: torch.Tensor) -> None:
        """Keep these rows of the cache."""
        self.cache.batch_select_indices(rows)

    def join(self, other: ModelPast, width: int) -> None:
        """Take in another cache's rows."""
        for mine, theirs in zip(self.cache.layers, other.cache.layers, strict=True):
            shown = min(width, mine.sliding_window - 1) if mine.is_sliding else width
            for name in ("keys", "values"):
                sides = [last_columns(getattr(layer, name), shown) for layer in (mine, theirs)]
                setattr(mine, name, torch.cat(sides))
            if mine.is_sliding:
                mine.cumulative_length = width


def last_columns(memory: torch.Tensor, width: int) -> torch.Tensor:
    """Return the last `width` columns of (batch, heads, columns, size), with zeros in front where there are fewer."""
    return torch.nn.functional.pad(memory, (0, 0, width - memory.shape[2], 0))
