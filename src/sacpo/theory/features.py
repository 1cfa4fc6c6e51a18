"""The bounds of section 5 on real features: Bradley-Terry heads on a model's hidden states, and what U_D says of them.

Pairs tell nothing of a score's level within a prompt. Policies do not depend on it, E[g] does: here every learned
score has the true one's mean in each prompt, which favours the bounds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit

from sacpo.errors import DataError
from sacpo.plain import JsonObject
from sacpo.theory.bounds import Floats, Worlds, measure, multiplier
from sacpo.theory.instances import plugged_in
from sacpo.theory.linear import bradley_terry, gram, paired_width, uncertainty


@dataclass(frozen=True)
class Head:
    """A Bradley-Terry head.

    Attributes:
        weights: w, with `f = w . phi`. Shape: (d,).
        sigma: `kappa I + sum dphi dphi^T` over its pairs. Shape: (d, d).
        accuracy: Share of held-out pairs whose likelier side it prefers; nan without such pairs.
        pairs: Pairs that it was fitted to.
    """

    weights: Floats
    sigma: Floats
    accuracy: float
    pairs: int


@dataclass(frozen=True)
class Scored:
    """Answers of pi_ref to fresh prompts, all equally likely.

    Attributes:
        features: phi, in the unit ball. Shape: (prompts, answers, d).
        reward: r*. Shape: (prompts, answers).
        safety: g*. Shape: (prompts, answers).
    """

    features: Floats
    reward: Floats
    safety: Floats


def fit_head(rows: Floats, preferred: Floats, *, kappa: float = 1.0, heldout: float = 0.2) -> Head:
    """Fit a head to the first pairs and measure it on the last.

    Args:
        rows: Differences of features, first completion minus second. Shape: (pairs, d).
        preferred: Whether the first was preferred. Shape: (pairs,).
        kappa: The penalty, and the paper's kappa.
        heldout: Share of pairs that the head is not fitted to.

    Raises:
        DataError: As `bradley_terry` does.
    """
    n = len(rows) - int(heldout * len(rows))
    weights = bradley_terry(rows[:n], preferred[:n], kappa)
    rest = preferred[n:] != 0.5
    right = ((rows[n:] @ weights > 0) == (preferred[n:] > 0.5))[rest]
    return Head(weights, gram(rows[:n], kappa), float(right.mean()) if right.size else float("nan"), n)


def unit_ball(*tables: Floats) -> list[Floats]:
    """Return features in one common scale, so that the longest has length 1. Shape: (..., d) each.

    Raises:
        DataError: All features are zero.
    """
    longest = max(float(np.linalg.norm(table, axis=-1).max()) for table in tables)
    if not longest > 0:
        raise DataError("features that are all zero tell nothing", where="features")
    return [table / longest for table in tables]


def bounds_on(
    scored: Scored, reward: Head, safety: Head, *, beta: float, share: float = 0.5, delta: float = 0.05
) -> JsonObject:
    """Return what U_D and the bounds are on fresh answers, with the paper's alpha and with the smallest that covers.

    Args:
        scored: Fresh answers with their true scores.
        reward: The head of the reward.
        safety: The head of the safety.
        beta: KL strength of the reward.
        share: Where b lies between a bound that needs no constraint and the safest answers.
        delta: The paper's delta; its C is taken as 1.
    """
    learned, doubts, widths, covering = {}, {}, {}, {}
    for name, head, truth in (("reward", reward, scored.reward), ("safety", safety, scored.safety)):
        raw = scored.features @ head.weights
        learned[name] = raw + (truth - raw).mean(1, keepdims=True)
        doubts[name] = uncertainty(scored.features, head.sigma)
        ceiling = float(np.linalg.norm(head.weights))
        widths[name] = paired_width(delta, len(head.weights), ceiling=ceiling)
        covering[name] = float((np.abs(truth - learned[name]) / doubts[name]).max())
    found: JsonObject = {
        name: {
            "pairs": head.pairs,
            "heldout_accuracy": head.accuracy,
            "B": float(np.linalg.norm(head.weights)),
            "U_D_median": float(np.median(doubts[name])),
            "U_D_largest": float(doubts[name].max()),
            "error_median": float(np.median(np.abs(truth - learned[name]))),
            "error_largest": float(np.abs(truth - learned[name]).max()),
            "alpha_paper": widths[name],
            "alpha_covering": covering[name],
        }
        for name, head, truth in (("reward", reward, scored.reward), ("safety", safety, scored.safety))
    }
    for label, alphas in (("alpha_paper", widths), ("alpha_covering", covering)):
        found[label] = _sides(_world(scored, learned, doubts, alphas, beta, share))
    return found


def votes(scores: Floats, random: np.random.Generator) -> Floats:
    """Return one Bradley-Terry vote a pair: 1 where the first wins. Shape: (pairs, 2) to (pairs,)."""
    return (random.random(len(scores)) < expit(scores[:, 0] - scores[:, 1])).astype(float)


def _world(
    scored: Scored,
    learned: dict[str, Floats],
    doubts: dict[str, Floats],
    alphas: dict[str, float],
    beta: float,
    share: float,
) -> Worlds:
    uniform = np.full(scored.reward.shape, 1 / scored.reward.shape[1])
    return plugged_in(
        uniform[None],
        scored.reward[None],
        scored.safety[None],
        learned["reward"][None],
        learned["safety"][None],
        alphas["reward"] * doubts["reward"][None],
        alphas["safety"] * doubts["safety"][None],
        share=np.array([share]),
        beta=np.array([beta]),
    )


def _sides(worlds: Worlds) -> JsonObject:
    """Return both theorems' sides; vacuous: the bound exceeds what any policy could lose. Infinite bounds are null."""
    found = measure(worlds)
    most = float(worlds.bound[0] - worlds.safety.min(2).mean())
    spread = worlds.reward.max(2).mean() - worlds.reward.min(2).mean()
    numbers = {
        name: float(getattr(found, name)[0])
        for name in ("regret", "regret_bound", "violation", "printed", "repaired", "lam")
    }
    factor = _needed(worlds, most)
    return {
        **{name: value if np.isfinite(value) else None for name, value in numbers.items()},
        "b": float(worlds.bound[0]),
        "largest_possible_violation": most,
        "violation_bound_vacuous": not numbers["repaired"] < most,
        "regret_bound_vacuous": not numbers["regret_bound"] < spread,
        "times_smaller_to_say_something": factor,
    }


def _needed(worlds: Worlds, most: float) -> float:
    """Return by what factor alpha U_D has to shrink until the repaired bound is half of what could be lost.

    U_D falls like one over the root of the pairs, so pairs have to grow by about the factor's square.
    """
    low, high = 1.0, 1e9
    for _ in range(60):
        middle = (low * high) ** 0.5
        errors = {name: getattr(worlds, name) / middle for name in ("reward_error", "safety_error")}
        # lambda_hat is taken as lambda*: with ever more pairs it gets there
        lam = multiplier(worlds.reference, worlds.reward, worlds.safety, worlds.bound, worlds.beta)
        small = float(measure(replace(worlds, **errors, lam_hat=lam)).repaired[0]) < most / 2
        low, high = (low, middle) if small else (middle, high)
    return high
