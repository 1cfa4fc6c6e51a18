"""Attention over one long row of many trees, block by block: nothing is computed between trees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from sacpo.losses.head import exact


class DiagonalMask(torch.Tensor):
    """A mask of one row that is False outside of blocks on its diagonal, of which only the blocks exist.

    It stands where a model takes a mask of shape (1, 1, width, width) bool, and does one thing: in
    `scaled_dot_product_attention` every block of queries meets its own block of keys, in float32 or wider. Attention's
    cost is then the sum of the squares of the blocks, not the square of the row. A model that does anything else with
    its mask gets a TypeError, and needs another layout.

    Args:
        blocks: Which key each query sees, block after block. Shape of each: (1, 1, size, size) bool.
    """

    blocks: Sequence[torch.Tensor]

    @staticmethod
    def __new__(cls, blocks: Sequence[torch.Tensor]) -> DiagonalMask:  # noqa: D102
        width = sum(block.shape[-1] for block in blocks)
        device = blocks[0].device
        made: DiagonalMask = torch.Tensor._make_wrapper_subclass(
            cls, (1, 1, width, width), dtype=torch.bool, device=device
        )
        made.blocks = blocks
        return made

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        """Return the sizes of the blocks."""
        return f"DiagonalMask({[block.shape[-1] for block in self.blocks]})"

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
        raise TypeError(f"a mask in blocks is for scaled_dot_product_attention only, not for {func}")


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: DiagonalMask,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **options: Any,
) -> torch.Tensor:
    """Attend block by block; see `scaled_dot_product_attention`. Shape: (1, heads, width, size)."""
    sizes = [block.shape[-1] for block in attn_mask.blocks]
    if is_causal or {query.shape[2], key.shape[2]} != {sum(sizes)}:
        raise TypeError("a mask in blocks needs all queries and keys of its row, and is causal as it is")
    with torch.autocast(query.device.type, enabled=False):
        # the CPU's kernel is 1.6 times slower in bfloat16, and less exact
        parts = [exact(tensor).split(sizes, dim=2) for tensor in (query, key, value)]
        found = [
            functional.scaled_dot_product_attention(q, k, v, attn_mask=block, dropout_p=dropout_p, **options)
            for q, k, v, block in zip(*parts, attn_mask.blocks, strict=True)
        ]
    return torch.cat(found, dim=2).to(query.dtype)
