"""Small worlds written down exactly: finitely many prompts and answers, policies as tables of probabilities.

Every policy and score has the shape (prompts, answers); prompts are equally likely. Scores are in logits of the
preference data, divergences in nats. Nothing is sampled here.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sacpo.errors import DataError

Table = npt.NDArray[np.float64]


def tilted(policy: Table, score: Table, strength: float) -> Table:
    """Return `pi(y|x) exp(f(x,y) / s) / Z(x)`: the optimum of `E[f] - s KL(. || pi)`, one alignment step.

    Source: the operator `T_f` of Theorem 4, with `strength` s = beta for the reward and beta/lambda for a constraint.

    Shape: (prompts, answers) each.
    """
    return softmax(_log(policy) + score / strength)


def mixture(first: Table, later: Table, q: float) -> Table:
    """Return the sequence-level mixture `first^(1-q) later^q / Z`, the path that merged weights approximate.

    Between `pi_r` and the optimum for lambda_bar it is the optimum for `q lambda_bar`. Answers that either policy
    excludes are excluded for 0 < q < 1.

    Shape: (prompts, answers) each.
    """
    if q in (0, 1):
        return later.copy() if q else first.copy()
    return softmax((1 - q) * _log(first) + q * _log(later))


def log_partition(policy: Table, score: Table, strength: float) -> Table:
    """Return `log Z(x) = log E_pi[exp(f / s)]` of each prompt. Shape: (prompts, answers) to (prompts,)."""
    return _log_sum(_log(policy) + score / strength)


def mean(policy: Table, score: Table) -> float:
    """Return `E_x E_{y ~ pi}[f]`. Shape: (prompts, answers) each."""
    return float((policy * score).sum(1).mean())


def kl(policy: Table, other: Table) -> float:
    """Return `E_x KL(policy || other)`, nats; infinite where `other` excludes an answer. Shape: (prompts, answers)."""
    held = policy > 0
    ratio = np.where(held, _log(policy) - _log(np.where(held, other, 1.0)), 0.0)
    return float((policy * ratio).sum(1).mean())


def objective(policy: Table, reference: Table, reward: Table, beta: float) -> float:
    """Return `R(pi) = E[r] - beta KL(pi || reference)` (eq. 9)."""
    return mean(policy, reward) - beta * kl(policy, reference)


def dual(reference: Table, reward: Table, safety: Table, *, beta: float, lam: float, bound: float) -> float:
    """Return the dual function `D(lambda) = max_pi R(pi) + lambda (G(pi) - b) = beta E_x log Z(x) - lambda b`.

    Convex in lambda; its least value over lambda >= 0 is the best R(pi) under `G(pi) >= b` (Lemma 1).
    """
    return beta * float(log_partition(reference, reward + lam * safety, beta).mean()) - lam * bound


def dual_slope(reference: Table, reward: Table, safety: Table, *, beta: float, lam: float, bound: float) -> float:
    """Return `D'(lambda) = E_{pi_lambda}[g] - b`, where `pi_lambda` is the optimum for this lambda."""
    return mean(tilted(reference, reward + lam * safety, beta), safety) - bound


def smallest_eta(reward_aligned: Table, safety: Table, bound: float) -> float:
    """Return the smallest `eta = lambda/beta >= 0` at which the realigned policy meets `E[g] >= bound`.

    The safety step's strength is then `1 / eta`. `E_{pi_eta}[g]` grows with eta, so there is one crossing. With the
    policy uniform over n samples a prompt, this is the estimate from samples of the step-1 model.

    Args:
        reward_aligned: `pi_r`, the reference of the safety step. Shape: (prompts, answers).
        safety: g. Shape: (prompts, answers).
        bound: b.

    Raises:
        DataError: No eta meets the bound: it is not below the mean of each prompt's safest possible answer.
    """

    def slack(eta: float) -> float:
        return mean(tilted(reward_aligned, eta * safety, 1.0), safety) - bound

    if slack(0.0) >= 0:
        return 0.0
    best = float(np.where(reward_aligned > 0, safety, -np.inf).max(1).mean())
    high = 1.0
    while slack(high) < 0:
        high *= 2
        if bound >= best or high > 1e12:
            raise DataError(
                "no strength meets this bound: the safest answers that the model gives at all do not",
                value=bound,
                allowed=f"below {best:.4g}",
                do="lower the bound, or start from a model that still gives safe answers",
            )
    low, middle = 0.0, high / 2
    while low < middle < high:  # until no number lies between: `high` meets the bound all the time
        low, high = (low, middle) if slack(middle) >= 0 else (middle, high)
        middle = (low + high) / 2
    return high


def log_ratio(policy: Table, other: Table) -> Table:
    """Return `log policy - log other`, nats; minus infinity where the policy excludes an answer."""
    return _log(policy) - _log(other)


def softmax(logits: Table) -> Table:
    """Return the policy with these logits. Shape: (prompts, answers)."""
    table: Table = np.exp(logits - _log_sum(logits)[:, None])
    return table


def _log_sum(logits: Table) -> Table:
    top = logits.max(1)
    found: Table = top + np.log(np.exp(logits - top[:, None]).sum(1))
    return found


def _log(policy: Table) -> Table:
    with np.errstate(divide="ignore"):
        found: Table = np.log(policy)
    return found
