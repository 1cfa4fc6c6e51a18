"""The dual with several constraints, against a generic solver and the solution of one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from theory_tables import table_world

from sacpo.errors import DataError
from sacpo.theory.multipliers import slater, solve
from sacpo.theory.tabular import mean, objective, smallest_eta, softmax, tilted


def test_one_constraint_is_the_root_of_the_dual_s_slope() -> None:
    reference, (reward, safety) = table_world(4)
    aligned = tilted(reference, reward, 0.7)
    bound = 0.5 * mean(aligned, safety) + 0.5 * float(safety.max(1).mean())
    found = solve(reference, reward, safety[None], [bound], beta=0.7)
    assert found.multipliers == pytest.approx([0.7 * smallest_eta(aligned, safety, bound)], abs=1e-9)
    assert found.multipliers[0] > 0.1
    assert abs(found.gap) < 1e-10


def test_a_bound_that_holds_anyway_has_no_multiplier() -> None:
    reference, (reward, first, second) = table_world(5, scores=3)
    aligned = tilted(reference, reward, 1.0)
    bounds = [mean(aligned, first) + 0.4, mean(aligned, second) - 5]
    found = solve(reference, reward, np.stack([first, second]), bounds, beta=1.0)
    assert found.multipliers[0] > 0.05
    assert found.multipliers[1] == 0
    assert mean(found.policy, first) == pytest.approx(bounds[0], abs=1e-10)


def test_two_binding_constraints_beat_every_policy_that_a_generic_solver_finds() -> None:
    """SLSQP over logits knows nothing of the dual; it must reach the same R, and no more."""
    reference, (reward, first, second) = table_world(9, scores=3, prompts=2, answers=4)
    aligned, safeties = tilted(reference, reward, 1.0), np.stack([first, second])
    bounds = np.array([mean(aligned, first) + 0.3, mean(aligned, second) + 0.2])
    found = solve(reference, reward, safeties, bounds, beta=1.0)
    assert (found.multipliers > 0.01).all()
    limits = [
        {"type": "ineq", "fun": lambda z, g=g, b=b: mean(softmax(z.reshape(2, 4)), g) - b}
        for g, b in zip(safeties, bounds, strict=True)
    ]
    other = minimize(
        lambda z: -objective(softmax(z.reshape(2, 4)), reference, reward, 1.0),
        np.log(reference).ravel(),
        method="SLSQP",
        constraints=limits,
        options={"ftol": 1e-12, "maxiter": 500},
    )
    assert other.success
    assert objective(found.policy, reference, reward, 1.0) == pytest.approx(-other.fun, abs=1e-6)


def test_slater_s_margin_by_hand() -> None:
    """Two answers, g1 = (1, 0), g2 = (0, 1), b = (.2, .4): best is p = .4, which leaves .2 of both."""
    reference, safeties = np.array([[0.5, 0.5]]), np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    policy, margin = slater(reference, safeties, [0.2, 0.4])
    assert policy == pytest.approx(np.array([[0.4, 0.6]]))
    assert margin == pytest.approx(0.2)


def test_bounds_that_contradict_each_other_are_refused() -> None:
    reference, safeties = np.array([[0.5, 0.5]]), np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    with pytest.raises(DataError, match="no policy meets these bounds") as error:
        solve(reference, np.zeros((1, 2)), safeties, [0.6, 0.6], beta=1.0)
    assert "0.1" in str(error.value)
