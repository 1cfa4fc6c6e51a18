"""The order of records in an epoch: a function of the seed, the epoch and the records' lengths alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler
from transformers import TrainingArguments

from sacpo.align.objectives.objective import Objective

Strategy = Literal["random", "sequential", "group_by_length"]
STEPS_SORTED = 50
"""Optimiser steps whose records are sorted by length together, as `transformers` does: still well shuffled."""

Ints = npt.NDArray[np.int64]


class EpochShuffle(Sampler[int]):
    """Orders of `range(n)`, one for each epoch, independent of any global random state.

    "random" is a seeded permutation: the same order comes out for every split into batches and accumulation steps, and
    after a resume. "group_by_length" puts records of about equal length into one optimiser step, in a seeded order of
    steps. Over several processes the records of each round of device batches are dealt out so that all have about the
    same number of tokens; which records a step holds does not change by that. There an epoch's length is filled up with
    `FILLER`, so that every process gets equally many batches and no record counts twice.

    Args:
        n: Number of records.
        seed: The root of all orders.
        strategy: See above; "sequential" keeps the records' own order.
        lengths: Tokens of each record; needed to group and to deal out.
        batch: Records of a device batch.
        world: Processes.
        accumulation: Device batches of an optimiser step.
        pair_groups: A number for each record; neighbours of equal number stay neighbours in a random order, so that
            they meet in a batch and share their prompt. None: every record is on its own.
    """

    FILLER = -1

    def __init__(
        self,
        n: int,
        seed: int,
        *,
        strategy: Strategy = "random",
        lengths: Sequence[int] | None = None,
        batch: int = 1,
        world: int = 1,
        accumulation: int = 1,
        pair_groups: Sequence[int] | None = None,
    ) -> None:
        self.n, self.seed, self.epoch, self.strategy = n, seed, 0, strategy
        self.lengths = None if lengths is None else np.asarray(lengths, dtype=np.int64)
        self.batch, self.world, self.accumulation = batch, world, accumulation
        self.numbers = np.arange(n) if pair_groups is None else np.asarray(pair_groups, dtype=np.int64)
        self.starts = np.flatnonzero(np.diff(self.numbers, prepend=-1))  # of the runs of equal numbers
        multiple = batch * world if world > 1 else 1
        self.length = math.ceil(n / multiple) * multiple

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration is for."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng([self.seed, self.epoch])
        order = np.arange(self.n) if self.strategy == "sequential" else self._shuffled(random)
        if self.lengths is not None and self.strategy == "group_by_length":
            order = grouped(order, self.lengths, self.batch * self.world * self.accumulation, random)
        if self.lengths is not None and self.world > 1:
            order = balanced(order, self.lengths, self.batch, self.world, self.numbers)
        return iter([*order.tolist(), *[self.FILLER] * (self.length - self.n)])

    def _shuffled(self, random: np.random.Generator) -> Ints:
        order = random.permutation(len(self.starts))
        sizes = np.diff(self.starts, append=self.n)[order]
        return np.repeat(self.starts[order] - (np.cumsum(sizes) - sizes), sizes) + np.arange(self.n)

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


def grouped(order: Ints, lengths: Ints, step: int, random: np.random.Generator) -> Ints:
    """Sort `STEPS_SORTED` steps of `step` records at a time by length, and shuffle the full steps."""
    sorted_ = [
        part[np.argsort(-lengths[part], kind="stable")]
        for part in (order[start : start + STEPS_SORTED * step] for start in range(0, len(order), STEPS_SORTED * step))
    ]
    joined = np.concatenate([*sorted_, order[:0]])
    full = len(order) // step
    steps = joined[: full * step].reshape(full, step)[random.permutation(full)]
    return np.concatenate([steps.ravel(), joined[full * step :]])


def balanced(order: Ints, lengths: Ints, batch: int, world: int, numbers: Ints) -> Ints:
    """Deal each full round of `batch` x `world` records out to processes with about equal sums of lengths.

    The longest run of neighbours with equal numbers first, each goes to the process with the fewest tokens that has
    room for it. Where none has, it is cut: as much as fits goes where most room is.

    Source: Graham 1969, "Bounds on multiprocessing timing anomalies" (longest processing time first).
    """
    dealt = order.copy()
    for start in range(0, len(order) - batch * world + 1, batch * world):
        part = order[start : start + batch * world]
        shares: list[list[int]] = [[] for _ in range(world)]
        tokens = [0] * world
        edges = np.flatnonzero(np.diff(numbers[part])) + 1
        runs = [run.tolist() for run in np.split(np.arange(len(part)), edges)]
        for run in sorted(runs, key=lambda run: -int(lengths[part[run]].sum())):
            while run:
                roomy = [r for r in range(world) if len(shares[r]) + len(run) <= batch]
                rank = min(roomy or range(world), key=lambda r: (tokens[r] if roomy else len(shares[r]), r))
                taken, run = run[: batch - len(shares[rank])], run[batch - len(shares[rank]) :]
                shares[rank] += taken
                tokens[rank] += int(lengths[part[taken]].sum())
        dealt[start : start + batch * world] = part[[place for share in shares for place in sorted(share)]]
    return dealt


def epoch_order(objective: Objective, args: TrainingArguments) -> EpochShuffle:
    """Return the order of an objective's records that the arguments ask for."""
    return EpochShuffle(
        len(objective.ids),
        args.seed if args.data_seed is None else args.data_seed,
        strategy=args.train_sampling_strategy,  # type: ignore[arg-type]
        lengths=[len(tree) for tree in objective.trees],
        batch=args.per_device_train_batch_size,
        world=args.world_size,
        accumulation=args.gradient_accumulation_steps,
        pair_groups=objective.pair_groups,
    )
