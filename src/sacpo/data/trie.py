"""A prompt's completions in columns, what several of them begin with once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
import numpy.typing as npt

from sacpo.data.rows import Tree

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Trie:
    """A tree's columns: the prompt, then its completions in order of their tokens, each common beginning once.

    Attributes:
        tokens: Shape: (columns,).
        position: Each token's place in its own sequence. Shape: (columns,).
        until: The column behind the last one that continues a token. Shape: (columns,).
        paths: The columns of each completion's tokens.
    """

    tokens: Ints
    position: Ints
    until: Ints
    paths: tuple[Ints, ...]

    def __len__(self) -> int:
        """Return the columns."""
        return len(self.tokens)


def trie(tree: Tree) -> Trie:
    """Return a tree's columns."""
    return trie_of(tree.completions, tree.prompt)


def trie_of(completions: Sequence[list[int]] | Sequence[tuple[int, ...]], prompt: Sequence[int] = ()) -> Trie:
    """Return the columns of sequences, behind a prompt that all of them have.

    In order of their tokens, completions that begin alike are neighbours. So a completion shares with the one before
    it all that it shares with any, and what that one has beyond ends there.
    """
    tokens, position = [*prompt], [*range(len(prompt))]
    until: list[int] = [0] * len(tokens)
    paths: list[list[int]] = [[]] * len(completions)
    last: Sequence[int] = ()
    path: list[int] = []
    for number in sorted(range(len(completions)), key=completions.__getitem__):
        completion = completions[number]
        common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(last, completion, strict=False)))
        for column in path[common:]:
            until[column] = len(tokens)
        path = [*path[:common], *range(len(tokens), len(tokens) + len(completion) - common)]
        paths[number], last = path, completion
        tokens += completion[common:]
        position += range(len(prompt) + common, len(prompt) + len(completion))
        until += [0] * (len(completion) - common)
    for column in [*range(len(prompt)), *path]:
        until[column] = len(tokens)
    columns = np.array([tokens, position, until], dtype=np.int64)
    return Trie(columns[0], columns[1], columns[2], tuple(np.array(path, dtype=np.int64) for path in paths))
