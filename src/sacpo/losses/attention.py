"""Which token sees which, in the form that a model takes it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from transformers import PretrainedConfig

from sacpo.data.rows import Rows
from sacpo.losses.diagonal import DiagonalMask, Part

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
SMALL, WASTED = 128, 0.3
"""Attention over a tree goes branch by branch from these on: its tokens, the share of its square between branches."""


@dataclass(frozen=True)
class Reach:
    """How far back a layer looks.

    Attributes:
        window: A query sees this many positions, itself included; None: all.
        block: A query sees only positions of its own block of this many; None: all.
    """

    window: int | None = None
    block: int | None = None

    def within(self, longest: int) -> Reach:
        """Return the reach without what makes no difference to sequences of at most this many tokens."""
        window = self.window if self.window is not None and self.window < longest else None
        block = self.block if self.block is not None and self.block < longest else None
        return Reach(window, block)

    def limit(self, seen: Any, query: Any, key: Any) -> Any:
        """Return which of the keys that are seen, given their positions and the queries', are within reach.

        Tensors or arrays.
        """
        if self.window is not None:
            seen = seen & (query - key < self.window)
        if self.block is not None:
            seen = seen & (query // self.block == key // self.block)
        return seen


def reaches(config: PretrainedConfig) -> dict[str, Reach]:
    """Return the reach of each kind of attention layer of a model; "" is the only kind where all are alike."""
    config = config.get_text_config()
    window, block = getattr(config, "sliding_window", None), getattr(config, "attention_chunk_size", None)
    kinds = {
        "full_attention": Reach(),
        "sliding_attention": Reach(window=window),
        "chunked_attention": Reach(block=block),
    }
    types = getattr(config, "layer_types", None)
    if not types:
        return {"": Reach(window, block)}
    return {kind: kinds[kind] for kind in dict.fromkeys(types) if kind in kinds}


def visible(rows: Rows, reach: Reach = Reach()) -> torch.Tensor:
    """Return which key each query sees: those before it in its own branch and in its prompt.

    Windows and blocks are counted in positions, not in columns, so that a branch sees as much of its prompt as it
    would in a row of its own.

    Shape: (rows, 1, queries, keys) bool.
    """
    assert rows.visible_until is not None
    position, until = rows.position_ids, rows.visible_until
    columns = torch.arange(position.shape[1], device=position.device)
    query = columns[:, None]
    seen = (columns <= query) & (query < until[:, None, :])
    return reach.limit(seen, position[:, :, None], position[:, None, :])[:, None]


def visible_on_diagonal(rows: Rows, reach: Reach = Reach()) -> DiagonalMask:
    """Return what `visible` returns for one row of blocks on a CPU, of which only the blocks are computed."""
    assert rows.visible_until is not None and rows.blocks is not None
    until, position = (tensor[0].numpy() for tensor in (rows.visible_until, rows.position_ids))
    parts: list[Part] = []
    start = 0
    for number, size in enumerate(rows.blocks):
        columns = slice(start, start + size)
        own, place = until[columns] - start, position[columns]
        if rows.past is not None:
            parts.append(_continuing(start, place, own, rows.past[number], rows.past_width, reach))
        elif reach == Reach() and (branches := _branches(own.tolist())) is not None:
            parts += _tree_parts(start, *branches, own)
        else:
            seen = reach.limit(_seen(own), place[:, None], place)
            parts.append(Part((start, start + size), ((start, start + size),), _mask_of(seen)))
        start += size
    return DiagonalMask(parts, rows.past_width + start, rows.visible_until.device)


def _seen(until: Ints) -> Bools:
    """Return which column each column sees, of columns that see no others. Shape: (columns,) to (columns, columns)."""
    columns = np.arange(len(until))
    return (columns <= columns[:, None]) & (columns[:, None] < until)


def _continuing(start: int, position: Ints, until: Ints, past: tuple[int, int], past_width: int, reach: Reach) -> Part:
    """Return a block that sees a prompt in the row that it continues, but for the prompt's last token, and itself."""
    columns = np.arange(past[1] - past[0])
    before = reach.limit(np.ones((len(until), len(columns)), dtype=bool), position[:, None], columns)
    seen = reach.limit(_seen(until), position[:, None], position)
    own = (past_width + start, past_width + start + len(until))
    return Part((start, start + len(until)), (past, own), _mask_of(np.concatenate([before, seen], axis=1)))


def _branches(until: list[int]) -> tuple[int, list[tuple[int, int]]] | None:
    """Return a tree's prompt and branches as columns; None: not one tree, or one that is as cheap as a whole square.

    Args:
        until: `Rows.visible_until` of a block, counted from its start.
    """
    size = len(until)
    prompt = next((column for column, end in enumerate(until) if end < size), size)
    edges = [prompt]
    while edges[-1] < size:
        edges.append(until[edges[-1]])
    branches = [*itertools.pairwise(edges)]
    between = (size - prompt) ** 2 - sum((end - first) ** 2 for first, end in branches)
    worth_it = not branches or (size >= SMALL and between > WASTED * size**2)
    return (prompt, branches) if until[0] == size and worth_it else None


def _tree_parts(start: int, prompt: int, branches: list[tuple[int, int]], until: Ints) -> list[Part]:
    """Return the prompt with the first branch as one part, and each further branch as one that sees the prompt."""
    first = branches[0][1] if branches else prompt
    plain = bool((until[:first] >= first).all())
    whole = None if plain else _mask_of(_seen(until[:first]))
    parts = [Part((start, start + first), ((start, start + first),), whole)]
    for begin, end in branches[1:]:
        own = (start + begin, start + end)
        seen = np.concatenate([np.ones((end - begin, prompt), dtype=bool), _seen(until[begin:end] - begin)], axis=1)
        parts.append(Part(own, ((start, start + prompt), own), _mask_of(seen)))
    return parts


def _mask_of(seen: Bools) -> torch.Tensor:
    return torch.from_numpy(seen)[None, None]


def visible_blocks(rows: Rows, reach: Reach = Reach()) -> BlockMask:
    """Return what `visible` returns as FlexAttention's block mask, whose empty blocks are never computed."""
    until, position = rows.visible_until, rows.position_ids
    assert until is not None

    def sees(batch: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        seen = (key <= query) & (query < until[batch, key])
        return reach.limit(seen, position[batch, query], position[batch, key])

    n_rows, width = rows.input_ids.shape
    on_gpu = until.device.type == "cuda"
    return create_block_mask(sees, n_rows, None, width, width, device=until.device, _compile=on_gpu)


def attention_mask(config: PretrainedConfig, rows: Rows, dtype: torch.dtype) -> Any:
    """Return the `attention_mask` argument of a forward pass: one mask, or one for each kind of layer.

    Args:
        config: The model's configuration; its attention implementation decides the form of a mask.
        rows: Rows of tokens.
        dtype: The model's type, which masks that are added to scores have.
    """
    if not rows.shared:
        return rows.attention_mask
    kinds = {kind: reach.within(rows.longest) for kind, reach in reaches(config).items()}
    masks = {reach: _mask(config, rows, reach, dtype) for reach in set(kinds.values())}
    if len(masks) == 1:
        return next(iter(masks.values()))
    return {kind: masks[reach] for kind, reach in kinds.items()}


def _mask(config: PretrainedConfig, rows: Rows, reach: Reach, dtype: torch.dtype) -> torch.Tensor | BlockMask:
    implementation = config._attn_implementation
    if implementation == "flex_attention":
        return visible_blocks(rows, reach)
    if rows.blocks is not None and implementation == "sdpa":
        return visible_on_diagonal(rows, reach)
    seen = visible(rows, reach)
    if implementation == "eager":  # added to the scores, where True would count as 1
        return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min)
    return seen
