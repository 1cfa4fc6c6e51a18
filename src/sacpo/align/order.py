"""The order of records in an epoch: a function of the seed and the epoch alone."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class EpochShuffle(Sampler[int]):
    """Permutations of `range(n)`, one for each epoch, independent of any global random state.

    The same order comes out for every split into batches and accumulation steps, and after a resume.

    Args:
        n: Records.
        seed: Root of the orders.
        multiple: An epoch's length is filled up to a multiple of this with `FILLER`, so that every one of several
            processes gets equally many batches and no record counts twice.
    """

    FILLER = -1

    def __init__(self, n: int, seed: int, *, multiple: int = 1) -> None:
        self.n, self.seed, self.epoch = n, seed, 0
        self.length = math.ceil(n / multiple) * multiple

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration is for."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.n).tolist()
        return iter([*order, *[self.FILLER] * (self.length - self.n)])

    def __len__(self) -> int:
        return self.length


class Positions:
    """A data set whose items are their own positions; the filler is one, too."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __getitem__(self, position: int) -> int:
        return position

    def __len__(self) -> int:
        return self.n
