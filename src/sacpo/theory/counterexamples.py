"""Two worlds in which Theorem 3 as printed is false, each with one prompt and two answers.

In both `lambda* = lambda_hat = 0`: the bound b is met without a constraint, by pi* and, as the learned scores have it,
by pi_hat. The learned reward underrates the second answer, so that pi_hat gives the first more often than pi*
does; the first is the one whose safety is overrated. The printed bound takes the error of the safety under pi*.
"""

from __future__ import annotations

import math

import numpy as np

from sacpo.theory.bounds import Worlds
from sacpo.theory.linear import confidence_width, uncertainty

LABELS = 10**12


def by_hand() -> Worlds:
    """Return the smallest one; every number can be checked on paper.

    pi_ref = (1/2, 1/2), beta = 1, B = ln 3, b = -0.1.

    - r* = (0, 0), learned (0, -ln 3), error bound (0, ln 3): pi* = (1/2, 1/2), pi_hat = (3/4, 1/4).
    - g* = (-0.5, 0.5), learned (-0.3, 0.5), error bound (0.2, 0).
    - G(pi*) = 0 >= b, so lambda* = 0. E_{pi_hat}[g_hat] = -0.225 + 0.125 = -0.1 = b, with lambda_hat = 0.
    - G(pi_hat) = -0.375 + 0.125 = -0.25: the violation is 0.15.
    - Gamma(lambda*) = (0, ln 3). The printed bound is 1/2 * 0.2 * exp(0) + 1/2 * 0 * 9 = 0.1 < 0.15.
    - The repaired bound is (1/2 * 0.2 * 1) (1/2 * 1 + 1/2 * 3) = 0.2 >= 0.15.
    """
    third = math.log(3)
    return _world(
        reference=(0.5, 0.5),
        reward=(0, 0),
        reward_hat=(0, -third),
        reward_error=(0, third),
        safety=(-0.5, 0.5),
        safety_hat=(-0.3, 0.5),
        safety_error=(0.2, 0),
        bound=-0.1,
        beta=1.0,
        ceiling=third,
    )


def linear(delta: float = 0.05, labels: int = LABELS) -> Worlds:
    """Return one that keeps every assumption of section 5: linear scores, ridge regression, the paper's alpha and U_D.

    phi = (e1, e2), kappa = 1, B = 1, beta = 1/2, unpaired labels without noise. D_r labels only the first answer, D_g
    only the second, `labels` times each. `w_r* = (0, 1)` and `w_g* = (-1, 1) / sqrt 2`. Scores of answers without
    labels are learned as 0. Nothing is random: the printed bound fails with certainty, not with probability delta.
    """
    features = np.eye(2)
    reward, safety = np.array([0.0, 1.0]), np.array([-1.0, 1.0]) / math.sqrt(2)
    alpha = confidence_width(delta, ceiling=1.0)
    counts = {"reward": np.array([labels, 0.0]), "safety": np.array([0.0, labels])}
    errors = {name: alpha * uncertainty(features, np.eye(2) + np.diag(count)) for name, count in counts.items()}
    reward_hat = counts["reward"] / (1 + counts["reward"]) * reward
    safety_hat = counts["safety"] / (1 + counts["safety"]) * safety
    start = np.array([0.05, 0.95 * math.exp(-2)])  # the tilt by r* / beta makes it pi* = (0.05, 0.95)
    reference = start / start.sum()
    trained = reference * np.exp(2 * reward_hat) / (reference * np.exp(2 * reward_hat)).sum()
    return _world(
        reference=reference,
        reward=reward,
        reward_hat=reward_hat,
        reward_error=errors["reward"],
        safety=safety,
        safety_hat=safety_hat,
        safety_error=errors["safety"],
        bound=float(trained @ safety_hat),
        beta=0.5,
        ceiling=1.0,
    )


def _world(*, bound: float, beta: float, ceiling: float, **rows: object) -> Worlds:
    tables = {name: np.array(row, float)[None, None] for name, row in rows.items()}
    numbers = {name: np.array([float(n)]) for name, n in (("bound", bound), ("beta", beta), ("ceiling", ceiling))}
    return Worlds(**tables, **numbers, lam_hat=np.zeros(1))
