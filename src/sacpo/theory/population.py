"""What DPO, IPO and KTO converge to with endless data, when the policy is a table.

Scores are in logits: `P(y is preferred to y') = sigmoid(f(y) - f(y'))`, and `P(y is desirable) = sigmoid(f(y))`.
Completions are drawn from `drawn`, a policy with full support. Every table has the shape (prompts, answers).
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from sacpo.errors import DataError
from sacpo.theory.tabular import Table, kl, log_ratio, softmax, tilted

KTO_ROUNDS = 400


def dpo_loss(policy: Table, reference: Table, drawn: Table, score: Table, strength: float) -> float:
    """Return DPO's population loss `E[-P log sigmoid(s h) - (1 - P) log sigmoid(-s h)]`, nats.

    `h = u(y) - u(y')` with `u = log pi/pi_0`; both completions are drawn alike, and a completion never meets itself.
    """
    ratio = log_ratio(policy, reference)
    margins, weights, preferred = _pairs(ratio, drawn, score)
    terms = preferred * log_expit(strength * margins) + (1 - preferred) * log_expit(-strength * margins)
    return -float((weights * terms).sum((1, 2)).mean())


def dpo_optimum(reference: Table, drawn: Table, score: Table, strength: float) -> Table:
    """Minimise DPO's population loss over all tables, by descent from the reference; the closed form is not used.

    The loss is convex in the policy's logits.
    """
    shape = reference.shape

    def value(flat: Table) -> tuple[float, Table]:
        policy = softmax(flat.reshape(shape))
        margins, weights, preferred = _pairs(log_ratio(policy, reference), drawn, score)
        slope = weights * strength * (expit(strength * margins) - preferred) / len(reference)
        return dpo_loss(policy, reference, drawn, score, strength), (slope.sum(2) - slope.sum(1)).ravel()

    options = {"maxiter": 5000, "ftol": 1e-15, "gtol": 1e-11}
    found = minimize(value, np.log(reference).ravel(), jac=True, method="L-BFGS-B", options=options)
    return softmax(found.x.reshape(shape))


def ipo_optimum(reference: Table, drawn: Table, score: Table, strength: float) -> Table:
    """Return the minimiser of IPO's population loss `E[(h - 1/(2s))^2]`: `pi_0 exp(w / s) / Z`.

    `w(y) = E_{y' ~ drawn}[P(y is preferred to y')]` is a win rate, between 0 and 1, where DPO has the score itself.
    """
    preferred = expit(score[:, :, None] - score[:, None, :])
    wins = (preferred * drawn[:, None, :]).sum(2)
    return tilted(reference, wins, strength)


def kto_loss(
    policy: Table, reference: Table, drawn: Table, score: Table, strength: float, z0: float, weight: float = 1.0
) -> float:
    """Return KTO's population loss at a held z0: `E[P (1 - sigmoid(u - z0)) + w- (1 - P)(1 - sigmoid(z0 - u))]`.

    `u = s log pi/pi_0`; w+ is 1 and w- is `weight`.
    """
    margin = strength * log_ratio(policy, reference) - z0
    desirable = expit(score)
    terms = desirable * expit(-margin) + weight * (1 - desirable) * expit(margin)
    return float((drawn * terms).sum(1).mean())


def kto_limit(reference: Table, drawn: Table, score: Table, strength: float, weight: float = 1.0) -> Table:
    """Return where KTO ends: the best table at a z0 that equals `s KL(pi || pi_0)` of this very table.

    The slope of the loss in u is `drawn sigmoid'(u - z0) (w- (1 - P) - P)`. Its sign depends on P alone: nothing pulls
    u back to `f / s`. So answers with `P < w- / (1 + w-)` lose all their mass, and the others share it by a concave
    problem (for s <= 1) that knows f through P alone. Where every answer is of that kind, one answer takes all.

    Raises:
        DataError: s is above 1, where the problem is not concave and the limit depends on the start.
    """
    if not 0 < strength <= 1:
        raise DataError("KTO's limit is known for strengths up to 1", value=strength, allowed="0 < s <= 1")
    gain = drawn * (expit(score) - weight * (1 - expit(score)))
    z0 = 0.0
    policy = reference
    for _ in range(KTO_ROUNDS):
        policy = np.stack([_kto_row(*rows, strength, z0) for rows in zip(policy, reference, gain, strict=True)])
        now = strength * kl(policy, reference)
        if abs(now - z0) < 1e-12:
            break
        z0 = now
    return policy


def _kto_row(start: Table, reference: Table, gain: Table, strength: float, z0: float) -> Table:
    """Maximise `sum gain sigmoid(s log pi/pi_0 - z0)` over one prompt's policies."""
    held = gain > 0
    if not held.any():
        return np.eye(len(gain))[int(np.argmax(gain * expit(-strength * np.log(reference) - z0)))]
    prior, good = reference[held], gain[held]

    def value(flat: Table) -> tuple[float, Table]:
        policy = softmax(flat[None])[0]
        share = expit(strength * np.log(policy / prior) - z0)
        pull = good * share * (1 - share) * strength
        return -float(good @ share), -(pull - policy * pull.sum())

    seed = np.log(np.maximum(start[held], 1e-12))
    found = minimize(value, seed, jac=True, method="L-BFGS-B", options={"ftol": 1e-16, "gtol": 1e-12})
    policy = np.zeros_like(reference)
    policy[held] = softmax(found.x[None])[0]
    return policy


def _pairs(ratio: Table, drawn: Table, score: Table) -> tuple[Table, Table, Table]:
    """Return margins h, weights and preferences of all ordered pairs. Shape: (prompts, answers, answers) each."""
    weights = drawn[:, :, None] * drawn[:, None, :] * (1 - np.eye(drawn.shape[1]))
    weights /= weights.sum((1, 2), keepdims=True)
    return ratio[:, :, None] - ratio[:, None, :], weights, expit(score[:, :, None] - score[:, None, :])
