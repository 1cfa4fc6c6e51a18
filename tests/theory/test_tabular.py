"""Exact small worlds: Theorem 1, the dual and the mixture."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from theory_tables import table_world

from sacpo.errors import DataError
from sacpo.theory.tabular import (
    dual,
    dual_slope,
    kl,
    log_partition,
    mean,
    mixture,
    objective,
    smallest_eta,
    tilted,
)

SEEDS = st.integers(0, 2**31)
STRENGTHS = st.floats(0.05, 5)


def test_tilt_by_hand() -> None:
    """pi = (.75, .25), f = (0, ln 3), s = 1: weights .75 and .75, so each one half, and Z = 1.5."""
    policy, score = np.array([[0.75, 0.25]]), np.array([[0.0, math.log(3)]])
    assert tilted(policy, score, 1.0) == pytest.approx(np.array([[0.5, 0.5]]))
    assert log_partition(policy, score, 1.0) == pytest.approx([math.log(1.5)])
    # at s = 2 the weights are .75 and .25 sqrt 3
    assert tilted(policy, score, 2.0)[0, 1] == pytest.approx(math.sqrt(3) / (3 + math.sqrt(3)))


def test_kl_by_hand() -> None:
    """KL((.5, .5) || (.75, .25)) = .5 ln(2/3) + .5 ln 2 = .5 ln(4/3); an excluded answer counts nothing or infinity."""
    even, odd, sure = np.array([[0.5, 0.5]]), np.array([[0.75, 0.25]]), np.array([[1.0, 0.0]])
    assert kl(even, odd) == pytest.approx(0.5 * math.log(4 / 3))
    assert kl(sure, even) == pytest.approx(math.log(2))
    assert kl(even, sure) == math.inf


@given(SEEDS, STRENGTHS, st.lists(st.floats(0, 3), min_size=1, max_size=3))
def test_any_order_of_steps_gives_the_joint_optimum(seed: int, beta: float, lams: list[float]) -> None:
    """Theorems 1 and 4: reward at beta and each constraint at beta/lambda, in any order, is the joint tilt."""
    policy, scores = table_world(seed, scores=len(lams) + 1)
    multipliers = [1.0, *lams]
    together = tilted(policy, sum(m * f for m, f in zip(multipliers, scores, strict=True)), beta)
    for order in itertools.permutations(range(len(scores))):
        stepwise = policy
        for i in order:
            if multipliers[i] > 0:
                stepwise = tilted(stepwise, scores[i], beta / multipliers[i])
        np.testing.assert_allclose(stepwise, together, rtol=1e-9, atol=1e-300)


@given(SEEDS, STRENGTHS, st.integers(0, 2**31))
def test_the_tilt_is_the_optimum_and_its_gap_is_beta_kl(seed: int, beta: float, other: int) -> None:
    """For every pi: R(pi*) - R(pi) = beta KL(pi || pi*), and R(pi*) = beta E log Z."""
    reference, (reward, _) = table_world(seed)
    policy, _ = table_world(other)
    best = tilted(reference, reward, beta)
    top = objective(best, reference, reward, beta)
    assert top == pytest.approx(beta * log_partition(reference, reward, beta).mean(), abs=1e-9)
    assert top - objective(policy, reference, reward, beta) == pytest.approx(beta * kl(policy, best), abs=1e-9)


@given(SEEDS, STRENGTHS, st.floats(0, 1), st.floats(0.1, 3))
def test_the_mixture_is_the_optimum_at_q_lambda(seed: int, beta: float, q: float, lam: float) -> None:
    reference, (reward, safety) = table_world(seed)
    first = tilted(reference, reward, beta)
    later = tilted(first, safety, beta / lam)
    np.testing.assert_allclose(
        mixture(first, later, q), tilted(reference, reward + q * lam * safety, beta), rtol=1e-9, atol=1e-300
    )


def test_the_mixture_ends_exactly_at_its_models() -> None:
    first, second = np.array([[1.0, 0.0]]), np.array([[0.3, 0.7]])
    assert (mixture(first, second, 0) == first).all()
    assert (mixture(first, second, 1) == second).all()
    assert mixture(first, second, 0.5).tolist() == [[1.0, 0.0]]


@given(SEEDS, st.floats(0.2, 5), st.floats(0, 4), st.floats(-2, 2))
def test_dual_slope_is_the_dual_s_derivative_and_grows(seed: int, beta: float, lam: float, bound: float) -> None:
    reference, (reward, safety) = table_world(seed)

    def value(at: float) -> float:
        return dual(reference, reward, safety, beta=beta, lam=at, bound=bound)

    def slope(at: float) -> float:
        return dual_slope(reference, reward, safety, beta=beta, lam=at, bound=bound)

    h = 1e-4
    assert (value(lam + h) - value(lam - h)) / (2 * h) == pytest.approx(slope(lam), abs=1e-4)
    assert slope(lam + 1) >= slope(lam)


@given(SEEDS, st.floats(0.2, 3), st.floats(0.05, 0.95))
def test_smallest_eta_solves_the_constrained_problem(seed: int, beta: float, share: float) -> None:
    """At eta the bound holds with equality, D has its least value there, and that value is R(pi*) (strong duality)."""
    reference, (reward, safety) = table_world(seed)
    aligned = tilted(reference, reward, beta)
    start, best = mean(aligned, safety), float(safety.max(1).mean())
    bound = start + share * (best - start)
    eta = smallest_eta(aligned, safety, bound)
    lam = eta * beta
    optimum = tilted(aligned, eta * safety, 1.0)
    assert bound <= mean(optimum, safety) <= bound + 1e-9
    assert mean(tilted(aligned, eta * (1 - 1e-6) * safety, 1.0), safety) < bound
    least = dual(reference, reward, safety, beta=beta, lam=lam, bound=bound)
    assert least == pytest.approx(objective(optimum, reference, reward, beta), abs=1e-7)
    for other in (0.0, lam * 0.9, lam * 1.1):
        assert dual(reference, reward, safety, beta=beta, lam=other, bound=bound) >= least - 1e-9


def test_smallest_eta_by_hand() -> None:
    """pi = (.5, .5), g = (0, 1): E[g] = sigmoid(eta), so b = .8 needs eta = ln 4."""
    policy, safety = np.array([[0.5, 0.5]]), np.array([[0.0, 1.0]])
    assert smallest_eta(policy, safety, 0.8) == pytest.approx(math.log(4), rel=1e-12)


def test_smallest_eta_is_zero_where_the_bound_is_met_already() -> None:
    assert smallest_eta(np.array([[0.5, 0.5]]), np.array([[0.0, 1.0]]), 0.5) == 0.0


@pytest.mark.parametrize("policy", [[[0.5, 0.5, 0.0]], [[0.9, 0.1, 0.0]]])
@pytest.mark.parametrize("bound", [1.0, 1.5])
def test_a_bound_beyond_the_safest_possible_answer_is_refused(policy: list[list[float]], bound: float) -> None:
    """The third answer has g = 2, but the model never gives it: no strength brings it back."""
    with pytest.raises(DataError, match="no strength meets this bound"):
        smallest_eta(np.array(policy), np.array([[0.0, 1.0, 2.0]]), bound)
