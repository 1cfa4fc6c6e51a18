"""Random small worlds for the bounds: with errors of any shape, searched for the worst, and learned from labels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sacpo.theory.bounds import Floats, Worlds, expect, multiplier, tilt
from sacpo.theory.linear import bradley_terry, confidence_width, gram, ridge, uncertainty

ANSWERS, DIMENSION, PROMPTS = 3, 3, 4


def random_worlds(seed: int, n: int) -> Worlds:
    """Draw worlds of one prompt and three answers; scores in [-1, 1], errors log-uniform between .003 and 2.

    Each learned score is wrong by its whole error bound, up or down, cut at [-1, 1]. `lambda_hat` is the plug-in
    multiplier: that of the learned scores.
    """
    random = np.random.default_rng(seed)
    shape = (n, 1, ANSWERS)

    def wrong(score: Floats, error: Floats) -> Floats:
        found: Floats = np.clip(score + error * random.choice([-1.0, 1.0], shape), -1, 1)
        return found

    reference = random.dirichlet(np.ones(ANSWERS), (n, 1)) + 1e-12
    reward, safety = random.uniform(-1, 1, shape), random.uniform(-1, 1, shape)
    reward_error, safety_error = (np.exp(random.uniform(np.log(0.003), np.log(2), shape)) for _ in range(2))
    return plugged_in(
        reference / reference.sum(2, keepdims=True),
        reward,
        safety,
        wrong(reward, reward_error),
        wrong(safety, safety_error),
        reward_error,
        safety_error,
        share=random.uniform(0, 0.9, n),
        beta=np.exp(random.uniform(np.log(0.2), np.log(5), n)),
    )


def plugged_in(
    reference: Floats,
    reward: Floats,
    safety: Floats,
    reward_hat: Floats,
    safety_hat: Floats,
    reward_error: Floats,
    safety_error: Floats,
    *,
    share: Floats,
    beta: Floats,
) -> Worlds:
    """Return worlds with a bound that can be met, truly and as learned, and with the multiplier of the learned scores.

    Args:
        reference: pi_ref; this and the next six have the shape (worlds, prompts, answers).
        reward: r*.
        safety: g*.
        reward_hat: The learned reward.
        safety_hat: The learned safety.
        reward_error: Bound of its error.
        safety_error: Bound of its error.
        share: Where b lies between a bound that needs no constraint and the safest answers. Shape: (worlds,).
        beta: KL strength. Shape: (worlds,).
    """
    wide = beta[:, None, None]
    free = expect(tilt(reference, reward / wide), safety)
    free_hat = expect(tilt(reference, reward_hat / wide), safety_hat)
    low = np.minimum(free, free_hat) - 0.3
    top = np.minimum(safety.max(2).mean(1), safety_hat.max(2).mean(1))
    bound = low + share * (top - low)
    lam_hat = multiplier(reference, reward_hat, safety_hat, bound, beta)
    scores = (reward, safety, reward_hat, safety_hat)
    ceiling = np.max([np.abs(score).max((1, 2)) for score in scores], axis=0)
    return Worlds(
        reference, reward, safety, reward_hat, safety_hat, reward_error, safety_error, bound, beta, lam_hat, ceiling
    )


def worst_found(seed: int, n: int, rounds: int, ratio: Callable[[Worlds], Floats]) -> tuple[Worlds, Floats]:
    """Climb from n random starts towards worlds of two answers with a large ratio, by random steps that are kept if up.

    Errors are exact there: each bound is the error itself, which is when the theorems are tightest. beta is 1.

    Args:
        seed: Root of the random numbers.
        n: Starts.
        rounds: Steps of each.
        ratio: What is to grow, such as a violation over its bound. Shape: (worlds,).
    """
    random = np.random.default_rng(seed)
    place = random.normal(size=(n, 11))
    worlds = _at(place)
    best = ratio(worlds)
    for i in range(rounds):
        size = 0.5 * 0.02 ** (i / rounds)
        moved = place + size * random.normal(size=place.shape) * (random.random(place.shape) < 0.4)
        found = ratio(_at(moved))
        up = found > best
        place[up], best[up] = moved[up], found[up]
    return _at(place), best


def _at(place: Floats) -> Worlds:
    """Return the worlds at these points: logits, then true and learned scores, and where b lies; scores in [-3, 3]."""
    wide = place[:, None, :]
    odds = 6 * np.tanh(wide[..., :2] / 6)
    reward, safety, reward_hat, safety_hat = (3 * np.tanh(wide[..., i : i + 2] / 3) for i in (2, 4, 6, 8))
    share = 0.9 / (1 + np.exp(-place[:, 10]))
    return plugged_in(
        tilt(np.ones_like(odds), odds),
        reward,
        safety,
        reward_hat,
        safety_hat,
        np.abs(reward - reward_hat),
        np.abs(safety - safety_hat),
        share=share,
        beta=np.ones(len(place)),
    )


def linear_worlds(seed: int, n: int, *, labels: int, paired: bool, delta: float = 0.05) -> Worlds:
    """Draw worlds with features in the unit ball of R^3 and learn both scores from labels of reference completions.

    Unpaired labels are the score plus noise, uniform of range B, learned by ridge regression; alpha is the paper's.
    Pairs are labelled by Bradley-Terry and learned by penalised logistic regression. There alpha is the smallest that
    holds in the world at hand, since the paper leaves C open: a bound that fails with it fails with every smaller one.

    Args:
        seed: Root of the random numbers.
        n: Worlds.
        labels: Labels, or pairs, for each score.
        paired: Pairs rather than single completions.
        delta: The paper's delta, for unpaired data.
    """
    random = np.random.default_rng(seed)
    features = random.normal(size=(n, PROMPTS, 4, DIMENSION))
    features *= random.uniform(0.3, 1, (n, PROMPTS, 4, 1)) / np.linalg.norm(features, axis=3, keepdims=True)
    reference = random.dirichlet(np.ones(4), (n, PROMPTS))
    columns: list[list[Floats]] = [[] for _ in range(6)]
    for phi, policy in zip(features, reference, strict=True):
        for place in (0, 1):
            found = _learned(random, phi, policy, labels, paired, delta)
            for column, value in zip(columns[place::2], found, strict=True):
                column.append(value)
    reward, safety, reward_hat, safety_hat, reward_error, safety_error = (np.stack(column) for column in columns)
    return plugged_in(
        reference,
        reward,
        safety,
        reward_hat,
        safety_hat,
        reward_error,
        safety_error,
        share=random.uniform(0, 0.9, n),
        beta=np.exp(random.uniform(np.log(0.3), np.log(3), n)),
    )


def _learned(
    random: np.random.Generator, phi: Floats, policy: Floats, labels: int, paired: bool, delta: float
) -> tuple[Floats, Floats, Floats]:
    """Return a true score with |w| = 1, its estimate, and its error bound. Shape: (prompts, answers) each."""
    weights = random.normal(size=DIMENSION)
    truth = phi @ (weights / np.linalg.norm(weights))
    prompts = random.integers(len(phi), size=labels)
    first, second = (_draw(random, policy[prompts]) for _ in range(2))
    rows = phi[prompts, first]
    if paired:
        rows = rows - phi[prompts, second]
        margin = truth[prompts, first] - truth[prompts, second]
        won = (random.random(labels) < 1 / (1 + np.exp(-margin))).astype(float)
        learned = phi @ bradley_terry(rows, won)
    else:
        learned = phi @ ridge(rows, truth[prompts, first] + random.uniform(-0.5, 0.5, labels))
    doubt = uncertainty(phi, gram(rows))
    alpha = float((np.abs(truth - learned) / doubt).max()) if paired else confidence_width(delta, ceiling=1.0)
    return truth, learned, alpha * doubt


def _draw(random: np.random.Generator, policies: Floats) -> np.ndarray:
    """Return one answer of each row's policy. Shape: (rows, answers) to (rows,)."""
    drawn = (policies.cumsum(1) < random.random((len(policies), 1))).sum(1)
    return np.minimum(drawn, policies.shape[1] - 1)
