"""How often the 95 % interval of a win rate holds the true win rate: 2,000 simulated studies a cell.

    python -m benchmarks.coverage [--studies N] [--edge-studies N] [--seed S]

A study has so many prompts; a prompt's repeats share a win probability of its own (judges that never change their
mind, that waver, that toss a coin; with and without ties). Every interval is that of `sacpo.stats.intervals`. Exits
with 1 where a promise is broken: 93 to 97 % at rates .1 to .9 from 83 prompts on, at least 93 % from 30 prompts on
and rates of .03 to .97. With 2,000 studies a share has a standard error of half a percent. Differences, kappas and
ratings that hardly vary follow: at least 93 %, often more (`benchmarks.coverage_edge`).
"""

from __future__ import annotations

import argparse
import sys
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.coverage_edge import CELLS, edge_table
from sacpo.stats.intervals import win_ends

PROMPTS = (30, 50, 83, 129, 400, 805)
RATES = (0.03, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.97)
LEAST, MOST = 0.93, 0.97
ENOUGH_PROMPTS, EXTREME = 83, 0.1

Floats = NDArray[np.float64]


class Judge(NamedTuple):
    """How a simulated judge behaves.

    Attributes:
        repeats: Verdicts a prompt.
        concentration: Of the beta distribution of the prompts' win probabilities; 0: each prompt is always won or
            always lost; infinite: all prompts are alike, so repeats are independent.
        ties: Share of ties, as part of the most that a win probability leaves room for.
    """

    repeats: int
    concentration: float
    ties: float


JUDGES = (
    Judge(1, 0.0, 0.0),
    Judge(3, 2.0, 0.3),
    Judge(2, 0.2, 0.0),
    Judge(6, 1.0, 0.2),
    Judge(4, 8.0, 0.5),
    Judge(2, float("inf"), 0.5),
)


def judged(rng: np.random.Generator, studies: int, prompts: int, rate: float, judge: Judge) -> Floats:
    """Return each prompt's mean outcome; Shape: (studies, prompts)."""
    shape = (studies, prompts)
    if judge.concentration == 0:
        chance = (rng.random(shape) < rate).astype(np.float64)
    elif np.isinf(judge.concentration):
        chance = np.full(shape, rate)
    else:
        chance = rng.beta(rate * judge.concentration, (1 - rate) * judge.concentration, size=shape)
    tie = judge.ties * 2 * np.minimum(chance, 1 - chance)
    won = chance - tie / 2
    total = np.zeros(shape)
    for _ in range(judge.repeats):
        draws = rng.random(shape)
        total += (draws < won) * 0.5 + (draws < won + tie) * 0.5
    return total / judge.repeats


def coverage(means: Floats, rate: float) -> float:
    """Return the share of studies whose interval holds the rate."""
    m = means.shape[1]
    low, high = win_ends(means.mean(axis=1), means.var(axis=1, ddof=1) / m, 1 / m, m)
    return float(((low <= rate) & (rate <= high)).mean())


def broken(prompts: int, rate: float, covered: float) -> bool:
    """Tell whether a cell breaks its promise."""
    both = prompts >= ENOUGH_PROMPTS and EXTREME <= rate <= 1 - EXTREME
    return covered < LEAST or (both and covered > MOST)


def main() -> None:
    """Print the least and the most coverage over the judges, by prompts and rate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--edge-studies", type=int, default=500)
    options = parser.parse_args()
    print("| prompts | " + " | ".join(f"{rate:g}" for rate in RATES) + " |\n" + "|---" * (len(RATES) + 1) + "|")
    failed = []
    for prompts in PROMPTS:
        cells = []
        for rate in RATES:
            rng = np.random.default_rng([options.seed, prompts, round(100 * rate)])
            found = [coverage(judged(rng, options.studies, prompts, rate, judge), rate) for judge in JUDGES]
            failed += [(prompts, rate, j, c) for j, c in zip(JUDGES, found, strict=True) if broken(prompts, rate, c)]
            cells.append(f"{100 * min(found):.1f}–{100 * max(found):.1f}")
        print(f"| {prompts} | " + " | ".join(cells) + " |", flush=True)
    print(f"{len(PROMPTS) * len(RATES) * len(JUDGES)} cells, {len(failed)} outside what is promised")
    for prompts, rate, judge, covered in failed:
        print(f"- {prompts} prompts, rate {rate:g}, {judge}: {covered:.1%}")
    at_edge = edge_table(options.edge_studies, options.seed)
    print(f"{len(CELLS)} cells at the edge, {len(at_edge)} below the promise", *at_edge, sep="\n- ")
    if failed or at_edge:
        sys.exit(1)


if __name__ == "__main__":
    main()
