"""The dual with any number of constraints, exact: lambda*, Slater's policy, and the gap of strong duality.

Policies and scores have the shape (prompts, answers); several constraints are stacked in front.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

from sacpo.errors import DataError
from sacpo.theory.tabular import Table, log_partition, mean, objective, tilted

ROUNDS, CLOSE = 200, 1e-6


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
    world = _World(reference, reward, safeties, goal, beta)
    lam = np.zeros(len(goal))
    for _ in range(ROUNDS):
        step = world.newton_step(lam)
        moved = None if step is None else world.moved(lam, step)
        if moved is None:
            break
        lam = moved
    policy = world.policy(lam)
    gap = world.dual(lam) - objective(policy, reference, reward, beta)
    return Solution(lam, policy, gap, float(max(0.0, -world.slope(lam).min())))


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
    found = scipy.optimize.linprog(cost, A_ub=matrix, b_ub=-goal, A_eq=sums, b_eq=np.ones(prompts), bounds=ranges)
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


@dataclass(frozen=True)
class _World:
    reference: Table
    reward: Table
    safeties: Table
    goal: Table
    beta: float

    def joint(self, lam: Table) -> Table:
        found: Table = self.reward + np.tensordot(lam, self.safeties, 1)
        return found

    def policy(self, lam: Table) -> Table:
        return tilted(self.reference, self.joint(lam), self.beta)

    def dual(self, lam: Table) -> float:
        return self.beta * float(log_partition(self.reference, self.joint(lam), self.beta).mean()) - float(
            lam @ self.goal
        )

    def slope(self, lam: Table) -> Table:
        policy = self.policy(lam)
        return np.array([mean(policy, g) for g in self.safeties]) - self.goal

    def residual(self, lam: Table) -> float:
        """Return the largest slope that a move within lambda >= 0 could still use."""
        slope = self.slope(lam)
        return float(np.abs(np.where(lam > 0, slope, np.minimum(slope, 0.0))).max())

    def newton_step(self, lam: Table) -> Table | None:
        """Return Newton's step for the constraints that bind or are broken; None: there are none."""
        slope, policy = self.slope(lam), self.policy(lam)
        free = (lam > 0) | (slope < 0)
        if not free.any():
            return None
        some = self.safeties[free]
        centred = some - (policy * some).sum(-1, keepdims=True)
        hessian = np.einsum("pa,ipa,jpa->ij", policy, centred, centred) / len(policy) / self.beta
        step = np.zeros_like(lam)
        step[free] = np.linalg.lstsq(hessian, slope[free], rcond=None)[0]
        return step

    def moved(self, lam: Table, step: Table) -> Table | None:
        """Return a point along the step that lowers the dual; None: there is none.

        Near the end the dual's value is all rounding, and the residual decides.
        """
        slope, before, residual, size = self.slope(lam), self.dual(lam), self.residual(lam), 1.0
        while size > 1e-9:
            moved = np.maximum(lam - size * step, 0.0)
            if residual < CLOSE:
                better = self.residual(moved) <= residual / 2
            else:
                better = self.dual(moved) < before - 1e-4 * max(float(slope @ (lam - moved)), 0.0)
            if better and residual > 0:
                return moved
            size /= 2
        return None
