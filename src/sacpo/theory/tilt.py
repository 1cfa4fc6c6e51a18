"""How far a model's distance from the optimum is one of strength: the exact tilt that has its mean scores.

Of all distributions with a model's mean scores, over the same prompts, the one nearest to the reference is a tilt

    pi_eta(y|x) = pi_ref(y|x) exp((a r*(x,y) + b lambda g*(x,y)) / beta) / Z_eta(x),

and the optimum is such a tilt with a = b = 1 (eq. 11 of the paper). So the distance has two parts that add up
(Csiszar 1975, the Pythagorean identity of I-projections):

    KL(pi || pi*) = KL(pi_eta || pi*) + KL(pi || pi_eta)

The first is of strength: how much of the tilt a model has, by its mean scores. The second is of shape: what it spends
on anything else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from sacpo.theory.optimum import Bank, Floats, log_partition, self_normalised

CLOSE = 1e-6
"""How far the tilt's mean scores, times the optimum's strengths, may be from the model's."""
STRONGEST = 100.0
"""Shares beyond it are of mean scores at the edge of what the samples hold."""


@dataclass(frozen=True)
class TiltParts:
    """The exact tilt that has a model's mean scores, and what it makes of the model's distance.

    Attributes:
        reward: a: its weight on r*, as a share of the optimum's.
        safety: b: its weight on g*, likewise.
        strength: KL(pi_eta || pi*), nats.
        shape: KL(pi || pi_eta), nats.
    """

    reward: float
    safety: float
    strength: float
    shape: float


def tilt_parts(
    bank: Bank,
    log_ratio: npt.ArrayLike,
    rewards: npt.ArrayLike,
    safeties: npt.ArrayLike,
    *,
    beta: float,
    lam: float,
) -> TiltParts | None:
    """Return the tilt of the reference that has a model's mean scores, and both parts of its distance from pi*.

    They add up to `sacpo.theory.optimum.kl_to_optimum` at the same strengths; both are too low by the bias of log Z.

    Args:
        bank: Scored samples of the reference, of the prompts that the model answered.
        log_ratio: log pi - log pi_ref of the model's own answers. Shape: (prompts,) or (prompts, samples).
        rewards: r* of these answers, in the same shape.
        safeties: g* of these answers, in the same shape.
        beta: KL strength of the reward.
        lam: The constraint's multiplier.

    Returns:
        None where no tilt of these samples has such mean scores.

    Raises:
        DataError: beta is not positive or lambda is negative.
    """
    aim = bank.tilt(beta, lam)
    scores = np.stack([bank.rewards, lam * bank.safeties], -1) / beta
    means = np.array([np.asarray(rewards, float).mean(), lam * np.asarray(safeties, float).mean()]) / beta
    eta = _matching(scores, means)
    if eta is None:
        return None
    normed = log_partition(scores @ eta)
    return TiltParts(
        reward=float(eta[0]),
        safety=float(eta[1]),
        strength=float((eta - 1) @ means - (normed - log_partition(aim)).mean()),
        shape=float(np.asarray(log_ratio, float).mean() - eta @ means + normed.mean()),
    )


def _matching(scores: Floats, means: Floats) -> Floats | None:
    """Return eta under which exp(eta . scores) has these mean scores; None: none has.

    Shape: scores (prompts, answers, kinds); means and result (kinds,).
    """

    def moments(eta: Floats) -> tuple[Floats, Floats]:
        weights = self_normalised(scores @ eta)
        return weights, np.einsum("pa,pak->pk", weights, scores)

    def loss(eta: Floats) -> float:
        return float(log_partition(scores @ eta).mean() - eta @ means)

    def slope(eta: Floats) -> Floats:
        found: Floats = moments(eta)[1].mean(0) - means
        return found

    def bend(eta: Floats) -> Floats:
        weights, inside = moments(eta)
        square: Floats = np.einsum("pa,pak,pal->kl", weights, scores, scores) / len(scores)
        return square - inside.T @ inside / len(scores)

    options = {"gtol": CLOSE / 10}
    found = minimize(loss, np.ones(len(means)), jac=slope, hess=bend, method="trust-exact", options=options)
    eta: Floats = found.x
    return eta if np.abs(slope(eta)).max() <= CLOSE and np.abs(eta).max() <= STRONGEST else None
