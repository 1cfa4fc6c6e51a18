"""Coverage of intervals at the edge: differences of rates, kappas and ratings of studies that hardly vary.

A part of `python -m benchmarks.coverage`. The intervals are those of `sacpo.stats`; each is to hold the truth in at
least 93 % of the studies, less two standard errors of so many studies. Many hold it in nearly all: with a handful of
events an exact end is conservative.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from sacpo.stats.agreement import cohen_kappa
from sacpo.stats.estimate import Estimate
from sacpo.stats.intervals import mean_interval
from sacpo.stats.ratings import ANCHOR, PER_NAT, Comparison, bradley_terry
from sacpo.stats.significance import RATES

LEAST = 0.93
DRAWS = 200


class Cell(NamedTuple):
    """One kind of study: what it estimates, in words, the truth, and how one is drawn and estimated."""

    name: str
    truth: float
    study: Callable[[np.random.Generator], Estimate]


def difference(prompts: int, better: float, worse: float, alike: int = 1) -> Cell:
    """Two models whose prompts differ rarely, or nearly always; clusters of `alike` prompts agree wholly."""

    def study(rng: np.random.Generator) -> Estimate:
        drawn = rng.choice([1.0, -1.0, 0.0], p=[better, worse, 1 - better - worse], size=prompts // alike)
        names = None if alike == 1 else np.repeat(np.arange(prompts // alike), alike).tolist()
        return mean_interval(np.repeat(drawn, alike), names, bounds=RATES)

    grouped = f", alike in groups of {alike}" if alike > 1 else ""
    return Cell(f"difference, {prompts} prompts, {better:g} better, {worse:g} worse{grouped}", better - worse, study)


def kappa(items: int, share: float, apart: float) -> Cell:
    """Two raters who call `share` of the items so and differ on `apart` of them, on either side as often."""
    chance = share**2 + (1 - share) ** 2

    def study(rng: np.random.Generator) -> Estimate:
        differ = rng.random(items) < apart
        label, side = rng.random(items) < (share - apart / 2) / (1 - apart), rng.random(items) < 0.5
        first, second = np.where(differ, side, label), np.where(differ, ~side, label)
        return cohen_kappa(first.tolist(), second.tolist())

    return Cell(f"kappa, {items} items, share {share:g}, {apart:g} apart", (1 - apart - chance) / (1 - chance), study)


def rating(prompts: int, won: float, tied: float) -> Cell:
    """A model that nearly always wins, or never does, against the baseline."""
    lost = 1 - won - tied
    truth = ANCHOR + PER_NAT * math.log(won / lost)

    def study(rng: np.random.Generator) -> Estimate:
        values = rng.choice([1.0, 0.5, 0.0], p=[won, tied, lost], size=prompts)
        games = [Comparison(i, "m", "base", float(value)) for i, value in enumerate(values)]
        return bradley_terry(games, "base", regularise=True, draws=DRAWS).ratings["m"]

    return Cell(f"rating, {prompts} prompts, {won:g} won, {tied:g} tied", truth, study)


CELLS = (
    *(difference(n, *rates) for n in (5, 30, 100, 400) for rates in ((0.01, 0), (0.05, 0), (0.03, 0.03), (0.97, 0))),
    *(difference(100, 0.05, 0.01), difference(100, 0.1, 0), difference(200, 0.05, 0, alike=2)),
    *(kappa(n, *shares) for n in (20, 100) for shares in ((0.5, 0.01), (0.5, 0.1), (0.5, 0.97), (0.2, 0.05))),
    *(rating(n, won, 0.0) for n in (5, 20, 100) for won in (0.5, 0.9, 0.97)),
    *(rating(n, 0.6, 0.35) for n in (20, 60)),
)


def covered(cell: Cell, studies: int, seed: int, number: int) -> float:
    """Return the share of studies with an interval whose interval holds the truth."""
    rng = np.random.default_rng([seed, number])
    found = [cell.study(rng) for _ in range(studies)]
    held = [e.low - 1e-9 <= cell.truth <= e.high + 1e-9 for e in found if e.low is not None and e.high is not None]
    return float(np.mean(held))


def edge_table(studies: int, seed: int) -> list[str]:
    """Print each cell's coverage; return those that break the promise."""
    print("| at the edge | covered |\n|---|---|")
    broken, least = [], LEAST - 2 * math.sqrt(LEAST * (1 - LEAST) / studies)
    for number, cell in enumerate(CELLS):
        share = covered(cell, studies, seed, number)
        print(f"| {cell.name} | {100 * share:.1f} |", flush=True)
        if share < least:
            broken.append(f"{cell.name}: {share:.1%}")
    return broken
