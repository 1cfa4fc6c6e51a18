"""Laying token trees out in rows: one completion a row, or several trees a row with each prompt once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from sacpo.data.rows import Rows, Tree

__all__ = ["Rows", "Tree", "padded_rows"]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Placed:
    """A sequence's place: a prompt at a column of a row, and its branches, each at its own column."""

    tree: Tree
    row: int
    column: int
    branches: tuple[int, ...]
    owners: tuple[int, ...]


def padded_rows(trees: Sequence[Tree], *, pad_id: int, side: Literal["right", "left"] = "right") -> Rows:
    """Lay out every completion as a row of its own: the prompt, the completion, and padding on one side.

    Args:
        trees: Prompts with their completions.
        pad_id: The token that fills the rows; it is never seen.
        side: Where the padding stands.
    """
    plain = [Tree(tree.prompt, (completion,)) for tree in trees for completion in tree.completions]
    width = max(map(len, plain))
    placed = []
    for row, tree in enumerate(plain):
        column = 0 if side == "right" else width - len(tree)
        placed.append(_Placed(tree, row, column, (column + len(tree.prompt),), (row,)))
    return _assembled(placed, len(plain), width, len(plain), pad_id)


def _assembled(placed: Sequence[_Placed], n_rows: int, width: int, n_completions: int, pad_id: int) -> Rows:
    ids = np.full((n_rows, width), pad_id, dtype=np.int64)
    positions, mask = np.zeros_like(ids), np.zeros_like(ids)
    sources: list[Ints] = [np.empty(0, dtype=np.int64)] * n_completions
    targets: list[tuple[int, ...]] = [()] * n_completions
    for place in placed:
        row, prompt = place.row, place.tree.prompt
        _write(ids, positions, mask, row, place.column, prompt, 0)
        for column, owner, completion in zip(place.branches, place.owners, place.tree.completions, strict=True):
            _write(ids, positions, mask, row, column, completion, len(prompt))
            sources[owner] = row * width + np.arange(column - 1, column - 1 + len(completion))
            sources[owner][:1] = row * width + place.column + len(prompt) - 1
            targets[owner] = completion
    return Rows(
        input_ids=torch.from_numpy(ids),
        position_ids=torch.from_numpy(positions),
        attention_mask=torch.from_numpy(mask),
        source=torch.from_numpy(np.concatenate(sources)),
        targets=torch.tensor([token for completion in targets for token in completion], dtype=torch.long),
        owner=torch.repeat_interleave(torch.arange(n_completions), torch.tensor([len(t) for t in targets])),
        n_completions=n_completions,
    )


def _write(
    ids: Ints, positions: Ints, mask: Ints, row: int, column: int, tokens: tuple[int, ...], position: int
) -> None:
    part = slice(column, column + len(tokens))
    ids[row, part] = tokens
    positions[row, part] = np.arange(position, position + len(tokens))
    mask[row, part] = 1
