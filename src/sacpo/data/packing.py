"""Laying token trees out in rows: one completion a row, or several trees a row with each beginning once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from sacpo.data.rows import Rows, Tree
from sacpo.data.trie import Trie, trie

__all__ = ["WIDTH", "LayRows", "Rows", "Tree", "continuing_row", "flat_rows", "packed_rows", "padded_rows"]

Ints = npt.NDArray[np.int64]
LayRows = Callable[[Sequence[Tree]], Rows]
"""Lays token trees out in rows: one completion a row, or packed."""

WIDTH, TREES_A_ROW = 512, 4
"""Most tokens of a packed row, and trees of mean length that it has room for: long enough to fill well, short enough
that dense attention over a row costs little beside the rest; one longer tree makes all rows as wide as it needs."""
BLOCK = 128
"""Tokens that short trees are joined to in a block of a flat row: attention is called once a block."""


@dataclass(frozen=True)
class _Placed:
    """A tree and its columns, which completions of the batch its branches are, and its row and first column there."""

    tree: Tree
    trie: Trie
    owners: tuple[int, ...]
    row: int = 0
    column: int = 0


def padded_rows(trees: Sequence[Tree], *, pad_id: int, side: Literal["right", "left"] = "right") -> Rows:
    """Lay out every completion as a row of its own: the prompt, the completion, and padding on one side.

    Args:
        trees: Prompts with their completions.
        pad_id: The token that fills the rows; it is never seen.
        side: Where the padding stands.
    """
    plain = [Tree(tree.prompt, (completion,)) for tree in trees for completion in tree.completions]
    width = max(map(len, plain))
    columns = [0 if side == "right" else width - len(tree) for tree in plain]
    placed = [_Placed(tree, trie(tree), (row,), row, columns[row]) for row, tree in enumerate(plain)]
    return _assembled(placed, len(plain), width, len(plain), pad_id, shared=False)


def packed_rows(trees: Sequence[Tree], *, pad_id: int, width: int | None = None) -> Rows:
    """Lay out several trees a row, each prompt once, followed by its completions as branches.

    Trees with the same prompt become one, and what several completions of it begin with stands once. No tree is split:
    a row is as wide as the longest tree needs, if that is more than `width`. The same trees in the same order always
    give the same rows.

    Args:
        trees: Prompts with their completions.
        pad_id: The token that fills the rows; it is never seen.
        width: Most tokens of a row; None: room for `TREES_A_ROW` trees of mean length, at most `WIDTH`.
    """
    n_completions = sum(len(tree.completions) for tree in trees)
    wanted = width or min(WIDTH, TREES_A_ROW * sum(map(len, trees)) // len(trees))
    limit = max(wanted, *map(len, trees))
    merged = _merged(trees, limit)
    rows = _filled([len(branches.trie) for branches in merged], limit)
    placed = []
    for row, members in enumerate(rows):
        column = 0
        for member in members:
            placed.append(replace(merged[member], row=row, column=column))
            column += len(merged[member].trie)
    used = max(sum(len(merged[member].trie) for member in members) for members in rows)
    return _assembled(placed, len(rows), used, n_completions, pad_id, shared=True)


def flat_rows(trees: Sequence[Tree], *, pad_id: int) -> Rows:
    """Lay out all trees in one row without any padding, for attention that goes block by block.

    Args:
        trees: Prompts with their completions; those with the same prompt become one, of at most `WIDTH` tokens before
            what several completions of it begin with is taken together, which then stands once.
        pad_id: The padding token; there is no padding.
    """
    n_completions = sum(len(tree.completions) for tree in trees)
    merged = _merged(trees, WIDTH)
    placed, blocks, column = [], [0], 0
    for branches in merged:
        size = len(branches.trie)
        if blocks[-1] and blocks[-1] + size > BLOCK:
            blocks.append(0)
        blocks[-1] += size
        placed.append(replace(branches, column=column))
        column += size
    rows = _assembled(placed, 1, column, n_completions, pad_id, shared=True)
    return replace(rows, blocks=tuple(blocks) if column > 1 else None)  # one query may be decoding to a model


def continuing_row(trees: Sequence[Tree], others: Sequence[Tree], *, pad_id: int) -> Rows:
    """Lay out other completions of the prompts of a flat row, in a row that sees the prompts there.

    A prompt's last token stands here again, since its hidden state predicts the first token of every completion.

    Args:
        trees: What `flat_rows` lays out, one completion each.
        others: For each of them its prompt with another completion.
        pad_id: The padding token; there is no padding.
    """
    placed, past, shifts = [], [], []
    column = place = 0
    for branches in _merged(trees, WIDTH):
        prompt = branches.tree.prompt
        tail = Tree(prompt[-1:], tuple(others[owner].completions[0] for owner in branches.owners))
        placed.append(_Placed(tail, trie(tail), branches.owners, 0, column))
        past.append((place, place + len(prompt) - 1))
        shifts += [len(prompt) - 1] * len(placed[-1].trie)
        column += len(placed[-1].trie)
        place += len(branches.trie)
    rows = _assembled(placed, 1, column, len(others), pad_id, shared=True)
    return replace(
        rows,
        position_ids=rows.position_ids + torch.tensor(shifts),
        longest=max(map(len, others)),
        blocks=tuple(len(place.trie) for place in placed),
        past=tuple(past),
        past_width=place,
    )


def _merged(trees: Sequence[Tree], limit: int) -> list[_Placed]:
    """Join trees with the same prompt as long as they fit in a row together; they have no place yet."""
    open_trees: dict[tuple[int, ...], int] = {}
    merged: list[tuple[Tree, tuple[int, ...]]] = []
    owner = 0
    for tree in trees:
        owners = tuple(range(owner, owner + len(tree.completions)))
        owner += len(tree.completions)
        place = open_trees.get(tree.prompt)
        if place is not None:
            old, before = merged[place]
            if len(old) + len(tree) - len(tree.prompt) <= limit:
                merged[place] = Tree(tree.prompt, old.completions + tree.completions), before + owners
                continue
        open_trees[tree.prompt] = len(merged)
        merged.append((tree, owners))
    return [_Placed(tree, trie(tree), owners) for tree, owners in merged]


def _filled(sizes: Sequence[int], limit: int) -> list[list[int]]:
    """Return which item goes to which row: as few rows as first-fit decreasing finds, and those as narrow as it can.

    Source: Coffman, Garey and Johnson 1978, "An application of bin-packing to multiprocessor scheduling" (MULTIFIT).
    """
    best = _first_fit(sizes, limit)
    low, high = max(max(sizes), -(-sum(sizes) // len(best))), limit
    while low < high:
        middle = (low + high) // 2
        rows = _first_fit(sizes, middle)
        if len(rows) <= len(best):
            best, high = rows, middle
        else:
            low = middle + 1
    return best


def _first_fit(sizes: Sequence[int], limit: int) -> list[list[int]]:
    rows: list[list[int]] = []
    room: list[int] = []
    for item in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        row = next((row for row, free in enumerate(room) if free >= sizes[item]), None)
        if row is None:
            row = len(rows)
            rows.append([])
            room.append(limit)
        rows[row].append(item)
        room[row] -= sizes[item]
    return rows


def _assembled(
    placed: Sequence[_Placed], n_rows: int, width: int, n_completions: int, pad_id: int, *, shared: bool
) -> Rows:
    ids = np.full((n_rows, width), pad_id, dtype=np.int64)
    positions, mask = np.zeros_like(ids), np.zeros_like(ids)
    until = np.broadcast_to(np.arange(1, width + 1), ids.shape).copy()  # padding sees itself, so no softmax is empty
    sources: list[Ints] = [np.empty(0, dtype=np.int64)] * n_completions
    own: list[Ints] = [np.empty(0, dtype=np.int64)] * n_completions
    before = np.zeros(n_completions, dtype=np.int64)
    targets: list[tuple[int, ...]] = [()] * n_completions
    longest = 0
    for place in placed:
        found, row = place.trie, place.row
        columns = slice(place.column, place.column + len(found))
        ids[row, columns], positions[row, columns], mask[row, columns] = found.tokens, found.position, 1
        until[row, columns] = place.column + found.until
        first = row * width + place.column
        predictor = first + len(place.tree.prompt) - 1  # the prompt's last token predicts every branch's first one
        for owner, branch, path in zip(place.owners, place.tree.completions, found.paths, strict=True):
            own[owner] = first + path
            sources[owner] = np.concatenate([[predictor], own[owner]])[:-1]
            before[owner] = predictor
            targets[owner] = branch
        longest = max(longest, int(found.position.max()) + 1)
    return Rows(
        input_ids=torch.from_numpy(ids),
        position_ids=torch.from_numpy(positions),
        attention_mask=torch.from_numpy(mask),
        source=torch.from_numpy(np.concatenate(sources)),
        targets=torch.tensor([token for completion in targets for token in completion], dtype=torch.long),
        owner=torch.repeat_interleave(torch.arange(n_completions), torch.tensor([len(t) for t in targets])),
        own=torch.from_numpy(np.concatenate(own)),
        before=torch.from_numpy(before),
        n_completions=n_completions,
        longest=longest,
        visible_until=torch.from_numpy(until) if shared else None,
    )
