"""Attention over one long row of many trees, part by part: nothing is computed between trees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from sacpo.losses.head import exact

Bools = npt.NDArray[np.bool_]
ALIKE = 8
"""Parts whose queries and keys are as many, counted in steps of so many, are padded and computed in one call."""


@dataclass(frozen=True)
class Part:
    """Queries that stand together in a row, and the keys that any of them sees.

    Attributes:
        queries: Their first column, and the one behind their last.
        keys: The same of each stretch of keys.
        seen: Which key each query sees; None: all that stand before it, and itself. Shape: (queries, keys) bool.
    """

    queries: tuple[int, int]
    keys: tuple[tuple[int, int], ...]
    seen: Bools | None

    @property
    def size(self) -> int:
        """The queries."""
        return self.queries[1] - self.queries[0]

    @property
    def n_keys(self) -> int:
        """The keys."""
        return sum(end - first for first, end in self.keys)


@dataclass(frozen=True)
class _Batch:
    """Parts of about one size, padded to one.

    Attributes:
        shape: Parts, queries and keys of each.
        queries: Their columns, 0 for padding. Shape: (parts x queries,).
        keys: The same of the keys. Shape: (parts x keys,).
        seen: Which key each query sees; None: causal. Shape: (parts, 1, queries, keys) bool.
    """

    shape: tuple[int, int, int]
    queries: npt.NDArray[np.int64]
    keys: npt.NDArray[np.int64]
    seen: torch.Tensor | None


@dataclass(frozen=True)
class _Plan:
    """How a mask's parts are computed: what is gathered from the row, in which calls, and where it goes back.

    Attributes:
        queries: Columns of all batches' queries.
        keys: Columns of all batches' keys.
        batches: What of these is computed together.
        back: Where each column of the row stands among `queries`. Shape: (width,) long.
    """

    queries: torch.Tensor
    keys: torch.Tensor
    batches: Sequence[_Batch]
    back: torch.Tensor


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

    @cached_property
    def plan(self) -> _Plan:
        """How the parts are computed, which is the same in all layers."""
        return _planned(self.parts, self.device)

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
    if is_causal or (query.shape[2], key.shape[2]) != attn_mask.shape[2:]:
        raise TypeError("a mask in parts needs all queries and keys of its row, and is causal as it is")
    plan, size = attn_mask.plan, query.shape[3]
    with torch.autocast(query.device.type, enabled=False):
        # the CPU's kernel is 1.6 times slower in bfloat16, and less exact
        queries = _gathered(query, plan.queries).split([len(batch.queries) for batch in plan.batches])
        pieces = (_gathered(t, plan.keys).split([len(batch.keys) for batch in plan.batches]) for t in (key, value))
        found = []
        for batch, q, k, v in zip(plan.batches, queries, *pieces, strict=True):
            parts, n_queries, n_keys = batch.shape
            attended = functional.scaled_dot_product_attention(
                q.view(parts, n_queries, -1, size).transpose(1, 2),
                k.view(parts, n_keys, -1, size).transpose(1, 2),
                v.view(parts, n_keys, -1, size).transpose(1, 2),
                attn_mask=batch.seen,
                is_causal=batch.seen is None,
                dropout_p=dropout_p,
                **options,
            )
            found.append(attended.transpose(1, 2).reshape(parts * n_queries, -1))
        row = functional.embedding(plan.back, torch.cat(found))
    return row.view(1, query.shape[2], -1, size).transpose(1, 2).to(query.dtype)


def _gathered(row: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Return columns of a row. An embedding's gradient is one loop, where that of an index goes through its caller.

    Shape: (1, heads, width, size) to (columns, heads x size).
    """
    return functional.embedding(columns, exact(row)[0].transpose(0, 1).reshape(row.shape[2], -1))


def _planned(parts: Sequence[Part], device: torch.device) -> _Plan:
    alike: dict[tuple[int, int], list[Part]] = {}
    for part in parts:
        alike.setdefault((-(-part.size // ALIKE), -(-part.n_keys // ALIKE)), []).append(part)
    batches = [_batch(members, device) for members in alike.values()]
    back = np.empty(parts[-1].queries[1], dtype=np.int64)
    start = 0
    for members, batch in zip(alike.values(), batches, strict=True):
        for part in members:
            back[slice(*part.queries)] = np.arange(start, start + part.size)
            start += batch.shape[1]
    columns = (np.concatenate([getattr(batch, name) for batch in batches]) for name in ("queries", "keys"))
    queries, keys = (torch.from_numpy(array).to(device) for array in columns)
    return _Plan(queries, keys, batches, torch.from_numpy(back).to(device))


def _batch(parts: Sequence[Part], device: torch.device) -> _Batch:
    """Return parts padded to the largest of them; a padded query sees the first key, so that no softmax is empty."""
    n_queries, n_keys = max(part.size for part in parts), max(part.n_keys for part in parts)
    causal = n_queries == n_keys and all(part.seen is None for part in parts)
    queries = np.zeros((len(parts), n_queries), dtype=np.int64)
    keys = np.zeros((len(parts), n_keys), dtype=np.int64)
    seen = np.zeros((len(parts), 1, n_queries, n_keys), dtype=bool)
    for number, part in enumerate(parts):
        queries[number, : part.size] = np.arange(*part.queries)
        keys[number, : part.n_keys] = np.concatenate([np.arange(*stretch) for stretch in part.keys])
        if causal:
            continue
        seen[number, 0, part.size :, 0] = True
        own = np.tri(part.size, dtype=bool) if part.seen is None else part.seen
        seen[number, 0, : part.size, : part.n_keys] = own
    mask = None if causal else torch.from_numpy(seen).to(device)
    return _Batch((len(parts), n_queries, n_keys), queries.ravel(), keys.ravel(), mask)
