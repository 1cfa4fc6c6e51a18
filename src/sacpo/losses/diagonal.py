"""Attention over one long row of many trees, part by part: nothing is computed between trees."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from sacpo.losses.head import exact


@dataclass(frozen=True)
class Part:
    """Queries that stand together in a row, and the keys that any of them sees.

    Attributes:
        queries: Their first column, and the one behind their last.
        keys: The same of each stretch of keys.
        seen: Which key each query sees; None: all that stand before it, and itself. Shape: (1, 1, queries, keys) bool.
    """

    queries: tuple[int, int]
    keys: tuple[tuple[int, int], ...]
    seen: torch.Tensor | None

    @property
    def size(self) -> int:
        """The queries."""
        return self.queries[1] - self.queries[0]


class DiagonalMask(torch.Tensor):
    """A mask of one row that is False nearly everywhere, of which only the parts near the diagonal exist.

    It stands where a model takes a mask of shape (1, 1, width, width) bool, and does one thing: in
    `scaled_dot_product_attention` every part's queries meet their own keys, in float32 or wider. Attention's cost is
    then the sum of the parts' areas, not the square of the row. A model that does anything else with its mask gets a
    TypeError, and needs another layout.

    Args:
        parts: All queries of the row, in order.
        keys: How many keys there are; None: as many as queries.
        device: Where the row is.
    """

    parts: Sequence[Part]

    @staticmethod
    def __new__(
        cls, parts: Sequence[Part], keys: int | None = None, device: torch.device | str = "cpu"
    ) -> DiagonalMask:
        """Return the mask, which holds no numbers of its own."""
        width = parts[-1].queries[1]
        made: DiagonalMask = torch.Tensor._make_wrapper_subclass(
            cls, (1, 1, width, width if keys is None else keys), dtype=torch.bool, device=torch.device(device)
        )
        made.parts = parts
        return made

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        """Return the parts' numbers of queries."""
        return f"DiagonalMask({[part.size for part in self.parts]})"

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = dict(kwargs or {})
        if func is functional.scaled_dot_product_attention and isinstance(options.get("attn_mask"), cls):
            return _attend(*args, **options)
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **options)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        if func in (torch.ops.aten.detach.default, torch.ops.aten.alias.default):
            return args[0]
        raise TypeError(f"a mask in parts is for scaled_dot_product_attention only, not for {func}")


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: DiagonalMask,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **options: Any,
) -> torch.Tensor:
    """Attend part by part; see `scaled_dot_product_attention`. Shape: (1, heads, width, size)."""
    parts = attn_mask.parts
    if is_causal or (query.shape[2], key.shape[2]) != attn_mask.shape[2:]:
        raise TypeError("a mask in parts needs all queries and keys of its row, and is causal as it is")
    # split, not sliced: the gradient of a slice is as wide as the row
    cuts = sorted({0, key.shape[2], *(edge for part in parts for stretch in part.keys for edge in stretch)})
    numbers = {column: number for number, column in enumerate(cuts)}
    with torch.autocast(query.device.type, enabled=False):
        # the CPU's kernel is 1.6 times slower in bfloat16, and less exact
        queries = exact(query).split([part.size for part in parts], dim=2)
        pieces = [exact(t).split([b - a for a, b in itertools.pairwise(cuts)], dim=2) for t in (key, value)]
        found = []
        for q, part in zip(queries, parts, strict=True):
            chosen = [n for first, end in part.keys for n in range(numbers[first], numbers[end])]
            k, v = (_joined([piece[n] for n in chosen]) for piece in pieces)
            causal = part.seen is None
            found.append(
                functional.scaled_dot_product_attention(
                    q, k, v, attn_mask=part.seen, is_causal=causal, dropout_p=dropout_p, **options
                )
            )
    return torch.cat(found, dim=2).to(query.dtype)


def _joined(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat([*tensors], dim=2)
