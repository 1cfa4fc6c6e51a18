"""Near-duplicate texts: the Jaccard similarity of character shingles, found by MinHash in linear time.

A text is the set of its runs of five characters, after `normalised`. Two texts are alike when the sets' Jaccard
similarity reaches a threshold. Among few texts every two are compared. Among many only those that share a band of
their MinHash signatures are, and each is then compared exactly: nothing is called alike that is not; two texts of
similarity .8 are missed with a probability of about 2 in 10,000, two of .7 with 1 in 100.

Source: Broder 1997, On the resemblance and containment of documents.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sacpo.data.splits import normalised

NEAR = 0.8
"""Texts at least so similar are near-duplicates."""
SHINGLE = 5
BANDS, ROWS = 16, 4
FEW = 64
"""Among so many texts every two are compared."""
LEADERS = 8
"""Texts of a band that a newcomer is compared with: the time stays linear however many are alike."""

Hashes = NDArray[np.uint64]
_BASE = np.uint64(0x100000001B3)
_RANDOM = np.random.default_rng(1997)
_FACTORS = _RANDOM.integers(1, 2**63, size=(BANDS * ROWS, 1), dtype=np.uint64) * np.uint64(2) + np.uint64(1)


def similarity(first: str, second: str) -> float:
    """Return the Jaccard similarity of two texts' shingles: |A and B| / |A or B|, in [0, 1]."""
    a, b = _shingles(first), _shingles(second)
    both = np.intersect1d(a, b, assume_unique=True).size
    return float(both / (a.size + b.size - both))


def groups(texts: Sequence[str], threshold: float = NEAR, together: Sequence[Hashable] | None = None) -> list[int]:
    """Return for each text the index of the first text of its group of near-duplicates.

    Two texts are in one group when a chain of near-duplicates joins them.

    Args:
        texts: In any number.
        threshold: The least similarity of near-duplicates, in (0, 1].
        together: Texts with the same one are in one group whatever they say.
    """
    first = _Joined(len(texts))
    once: dict[str, int] = {}
    for index, text in enumerate(texts):
        first.join(once.setdefault(normalised(text), index), index)
    clusters: dict[Hashable, int] = {}
    for index, cluster in enumerate(together or ()):
        first.join(clusters.setdefault(cluster, index), index)
    members = [*once.values()]
    join = _join_all if len(members) <= FEW else _join_banded
    join(texts, members, first, threshold)
    return [first.of(index) for index in range(len(texts))]


def distinct(texts: Sequence[str], threshold: float = NEAR) -> list[int]:
    """Return the indices of the texts that are left when of each group of near-duplicates the first one stays."""
    return sorted(set(groups(texts, threshold)))


class _Joined:
    """Groups that are joined step by step; a group is named by its first member."""

    def __init__(self, n: int) -> None:
        self._up = list(range(n))

    def of(self, index: int) -> int:
        while self._up[index] != index:
            self._up[index] = self._up[self._up[index]]
            index = self._up[index]
        return index

    def join(self, one: int, other: int) -> None:
        one, other = self.of(one), self.of(other)
        self._up[max(one, other)] = min(one, other)


def _join_all(texts: Sequence[str], members: Sequence[int], first: _Joined, threshold: float) -> None:
    for i, other in enumerate(members):
        for one in members[:i]:
            if first.of(one) != first.of(other) and similarity(texts[one], texts[other]) >= threshold:
                first.join(one, other)


def _join_banded(texts: Sequence[str], members: Sequence[int], first: _Joined, threshold: float) -> None:
    """Join texts that share a band; of many in one band each is compared with the first few of other groups."""
    bands: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    for index in members:
        signature = _signature(texts[index])
        for band in range(BANDS):
            leaders = bands[band, signature[band * ROWS : (band + 1) * ROWS].tobytes()]
            for leader in leaders:
                if first.of(leader) == first.of(index):
                    break
                if similarity(texts[leader], texts[index]) >= threshold:
                    first.join(leader, index)
                    break
            else:
                if len(leaders) < LEADERS:
                    leaders.append(index)


def _signature(text: str) -> Hashes:
    """Return the MinHash signature: of each of the random orders of all shingles the first shingle's place."""
    return np.asarray((_shingles(text)[None, :] * _FACTORS).min(axis=1), dtype=np.uint64)


@lru_cache(maxsize=4096)
def _shingles(text: str) -> Hashes:
    codes = np.frombuffer(normalised(text).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    codes = np.pad(codes, (0, max(0, SHINGLE - codes.size)))
    n = codes.size - SHINGLE + 1
    found = np.zeros(n, np.uint64)
    for place in range(SHINGLE):
        found = found * _BASE + codes[place : place + n]
    return np.unique(_mixed(found))


def _mixed(values: Hashes) -> Hashes:
    """Return 64-bit hashes whose bits all depend on all bits (splitmix64's last step)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
