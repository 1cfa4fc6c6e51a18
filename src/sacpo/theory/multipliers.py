"""The dual with any number of constraints, exact: lambda*, Slater's policy, and the gap of strong duality.

Policies and scores have the shape (prompts, answers); several constraints are stacked in front.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog

from sacpo.errors import DataError
from sacpo.theory.tabular import Table, log_partition, mean, objective, tilted

ROUNDS = 200


@dataclass(frozen=True)
class Solution:
    """The constrained optimum of a small world.

    Attributes:
        multipliers: lambda*, one a constraint. Shape: (constraints,).
        policy: pi*. Shape: (prompts, answers).
        gap: The dual's least value minus R(pi*): 0 by strong duality.
        breach: By how much the most broken constraint is broken; rounding alone.
    """

    multipliers: npt.NDArray[np.float64]
    policy: Table
    gap: float
    breach: float


def solve(reference: Table, reward: Table, safeties: Table, bounds: npt.ArrayLike, *, beta: float) -> Solution:
    """Maximise `R(pi)` under `E_pi[g_i] >= b_i` through its dual, by Newton steps on the constraints that bind.

    `D(lambda) = beta E_x log Z(x) - lambda . b`; its gradient is `E[g] - b`, its Hessian `E_x Cov(g) / beta`.

    Source: eq. 9 and Lemma 1 of the paper, for n constraints.

    Args:
        reference: pi_ref, with full support. Shape: (prompts, answers).
        reward: r*. Shape: (prompts, answers).
        safeties: g_1, ..., g_n. Shape: (constraints, prompts, answers).
        bounds: b_1, ..., b_n. Shape: (constraints,).
        beta: KL strength of the reward.

    Raises:
        DataError: No policy meets all bounds strictly, so that there need not be multipliers.
    """
    goal = np.asarray(bounds, float)
    slater(reference, safeties, goal)
    lam = np.zeros(len(goal))
    for _ in range(ROUNDS):
        policy = tilted(reference, reward + np.tensordot(lam, safeties, 1), beta)
        slope = _means(policy, safeties) - goal
        free = (lam > 0) | (slope < 0)
        if not free.any() or np.abs(slope[free]).max() < 1e-13:
            break
        step = np.zeros_like(lam)
        hessian = _covariance(policy, safeties[free]) / beta
        step[free] = np.linalg.lstsq(hessian + 1e-14 * np.eye(free.sum()), slope[free], rcond=None)[0]
        moved = _descend(reference, reward, safeties, goal, beta, lam, step, slope)
        if moved is None:
            break
        lam = moved
    policy = tilted(reference, reward + np.tensordot(lam, safeties, 1), beta)
    least = _dual(reference, reward, safeties, goal, beta, lam)
    gap = least - objective(policy, reference, reward, beta)
    return Solution(lam, policy, gap, float(max(0.0, (goal - _means(policy, safeties)).max())))


def slater(reference: Table, safeties: Table, bounds: npt.ArrayLike) -> tuple[Table, float]:
    """Return a policy that meets every bound by the largest possible margin xi, and xi, by linear programming.

    Raises:
        DataError: xi is not positive.
    """
    goal = np.asarray(bounds, float)
    prompts, answers = reference.shape
    size = prompts * answers
    matrix = np.hstack([-safeties.reshape(len(goal), size) / prompts, np.ones((len(goal), 1))])
    sums = np.hstack([np.kron(np.eye(prompts), np.ones(answers)), np.zeros((prompts, 1))])
    ranges = [(0.0, 1.0 if held else 0.0) for held in (reference > 0).ravel()] + [(None, None)]
    cost = np.append(np.zeros(size), -1.0)
    found = linprog(cost, A_ub=matrix, b_ub=-goal, A_eq=sums, b_eq=np.ones(prompts), bounds=ranges)
    margin = float(found.x[-1])
    if margin <= 0:
        raise DataError(
            "no policy meets these bounds with room to spare",
            value=[float(b) for b in goal],
            allowed=f"each lower by more than {-margin:.4g}",
            do="lower a bound",
        )
    table = np.clip(found.x[:-1], 0, None).reshape(prompts, answers)
    return table / table.sum(1, keepdims=True), margin


def _descend(
    reference: Table,
    reward: Table,
    safeties: Table,
    goal: Table,
    beta: float,
    lam: Table,
    step: Table,
    slope: Table,
) -> Table | None:
    """Return the projected point of a Newton step that lowers the dual, halving it as needed; None: none does."""
    before, size = _dual(reference, reward, safeties, goal, beta, lam), 1.0
    while size > 1e-12:
        moved = np.maximum(lam - size * step, 0.0)
        fall = float(slope @ (lam - moved))
        if _dual(reference, reward, safeties, goal, beta, moved) <= before - 1e-4 * fall + 1e-15 * (1 + abs(before)):
            return moved if (moved != lam).any() else None
        size /= 2
    return None


def _dual(reference: Table, reward: Table, safeties: Table, goal: Table, beta: float, lam: Table) -> float:
    joint = reward + np.tensordot(lam, safeties, 1)
    return beta * float(log_partition(reference, joint, beta).mean()) - float(lam @ goal)


def _means(policy: Table, safeties: Table) -> Table:
    return np.array([mean(policy, g) for g in safeties])


def _covariance(policy: Table, safeties: Table) -> Table:
    centred = safeties - (policy * safeties).sum(-1, keepdims=True)
    found: Table = np.einsum("pa,ipa,jpa->ij", policy, centred, centred) / len(policy)
    return found
