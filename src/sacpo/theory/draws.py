"""Weights of samples: their correction for who gave them, and what is drawn or kept by them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sacpo.theory.optimum import Floats, self_normalised

LEFT_OUT = 0.01
"""Of each prompt's weights, the smallest that add up to no more are taken for 0."""


def balance(reference: Sequence[float], proposals: Sequence[Sequence[float]], counts: Sequence[int]) -> Floats:
    """Return `log pi_ref - log sum_k (n_k / n) pi_k` of each answer: the balance heuristic's correction.

    Source: Veach and Guibas 1995, optimally combining sampling techniques.

    Args:
        reference: log pi_ref of each answer.
        proposals: The same under every model that answers were drawn from.
        counts: Answers that each of them gives to a prompt.
    """
    shares = np.log(np.array(counts) / sum(counts))
    found: Floats = np.array(reference) - np.logaddexp.reduce(np.array(proposals) + shares[:, None], axis=0)
    return found


def effective_size(tilt: Floats, samples: int) -> float:
    """Return the effective sample size `1 / sum w^2` of so many answers to a prompt, the mean over prompts.

    Where there are more answers, the mean over parts of so many; where there are fewer, it grows with their number.

    Args:
        tilt: Log-weights. Shape: (prompts, answers).
        samples: Of each prompt.
    """
    there = tilt.shape[1]
    parts = [tilt[:, start : start + samples] for start in range(0, there - samples + 1, samples)] or [tilt]
    sizes = [(1 / (self_normalised(part) ** 2).sum(1)).mean() for part in parts]
    return float(np.mean(sizes)) * max(1.0, samples / there)


def without_few(weights: Floats) -> Floats:
    """Return weights whose smallest, `LEFT_OUT` of them all, are 0. Shape: (answers,)."""
    rising = np.argsort(weights, kind="stable")
    few = rising[np.cumsum(weights[rising]) <= LEFT_OUT]
    left = weights.copy()
    left[few] = 0.0
    return left


def thirds(weights: Floats, rng: np.random.Generator) -> Floats:
    """Return how many answers each stands for: itself where it has a weight, every third of the others for three.

    Sums over answers keep their expectation, and what weighs nothing costs a third. Shape: (answers,).
    """
    others = np.flatnonzero(weights == 0)
    found = (weights > 0).astype(float)
    found[others[int(rng.integers(3)) :: 3]] = 3.0
    return found


def contrasted(weights: Floats, texts: Sequence[str], rng: random.Random) -> tuple[int, int]:
    """Return the places of an answer that is drawn by the weights, and of one at random, in random order.

    The second one has another text than the first; where all have the same one, both places are alike.

    Args:
        weights: Sum to 1. Shape: (answers,).
        texts: The answers' texts.
        rng: Draws.
    """
    one = rng.choices(range(len(texts)), weights.tolist())[0]
    others = [place for place, text in enumerate(texts) if text != texts[one]]
    other = rng.choice(others) if others else one
    return (one, other) if rng.random() < 0.5 else (other, one)


def tournament(places: Sequence[int], count: int, rng: random.Random) -> list[tuple[int, int]]:
    """Return `count` different pairs of these places by lot, or all there are, each place about equally often.

    They are rounds of a tournament in which everybody meets everybody: of a round no place is in two pairs.
    """
    lots = [*places]
    rng.shuffle(lots)
    pairs = itertools.islice(_rounds(lots), count)
    return [pair if rng.random() < 0.5 else pair[::-1] for pair in pairs]


def _rounds(lots: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield each two of some numbers once, round by round: one stays, the others go round (the circle method)."""
    ring: list[int | None] = [*lots] if len(lots) % 2 == 0 else [*lots, None]
    half = len(ring) // 2
    for _ in range(len(ring) - 1):
        for one, other in zip(ring[:half], reversed(ring[half:]), strict=True):
            if one is not None and other is not None:
                yield one, other
        ring = [ring[0], ring[-1], *ring[1:-1]]


def thinned(weights: Floats, keep: int, rng: np.random.Generator) -> Floats:
    """Return weights of which `keep` are not 0, with these weights as their expectation and the same sum.

    Those from a threshold on stay as they are, the others become the threshold or 0 (the threshold makes the expected
    number of those kept `keep`). No other such weights are nearer to the given ones in mean square. Shape: (answers,).

    Source: Fearnhead and Clifford 2003, On-line inference for hidden Markov models via particle filters, section 3.1.
    """
    if (weights > 0).sum() <= keep:
        return weights
    falling = np.sort(weights)[::-1]
    rest = falling[::-1].cumsum()[::-1]
    large = next(n for n in range(keep) if falling[n] * (keep - n) <= rest[n])
    threshold = rest[large] / (keep - large)
    small = weights < threshold
    chances = np.where(small, weights / threshold, 0.0)
    ends = chances.cumsum()
    drawn = np.floor(ends + (start := rng.random())) > np.floor(ends - chances + start)
    return np.where(small, np.where(drawn, threshold, 0.0), weights)


def best(tilt: Floats, keep: int) -> Any:
    """Return the places of the `keep` largest tilts of each row, of equal ones the first.

    Learnt by maximum likelihood they are RAFT's (arXiv 2304.06767). Shape: (prompts, samples) to (prompts, keep).
    """
    return np.argsort(-tilt, axis=1, kind="stable")[:, :keep]


def systematic(weights: Floats, keep: int, rng: np.random.Generator) -> Any:
    """Draw `keep` places a row, each as often as its weight says, on the average; one random number a row.

    The number of times that an answer is drawn is its expected number, rounded up or down (systematic resampling).
    Shape: (prompts, samples) to (prompts, keep).
    """
    points = (rng.random((len(weights), 1)) + np.arange(keep)) / keep
    ends = np.cumsum(weights, 1)
    ends[:, -1] = 1.0
    return (points[:, :, None] >= ends[:, None, :]).sum(2)
