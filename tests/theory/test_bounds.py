"""Theorems 2 and 3: the worlds that break the latter, and both sides by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from theory_tables import table_world

from sacpo.theory.bounds import Worlds, expect, measure, multiplier, tilt
from sacpo.theory.counterexamples import LABELS, by_hand, linear
from sacpo.theory.instances import linear_worlds, random_worlds
from sacpo.theory.linear import bradley_terry, confidence_width, gram, paired_width, ridge, uncertainty
from sacpo.theory.tabular import smallest_eta


def errors_are_bounded(worlds: Worlds) -> bool:
    reward = np.abs(worlds.reward - worlds.reward_hat) <= worlds.reward_error + 1e-12
    safety = np.abs(worlds.safety - worlds.safety_hat) <= worlds.safety_error + 1e-12
    return bool(reward.all() and safety.all())


def test_theorem_3_is_broken_by_hand() -> None:
    """The numbers of the docstring: violation .15, printed bound .1, repaired .2, and every premise holds.

    Regret: R(pi*) = 0 and R(pi_hat) = -KL((3/4, 1/4) || (1/2, 1/2)), so (3/4) ln 3 - ln 2. Theorem 2's bound is
    E_{pi*}[(0, ln 3) (1, 9)] + ln(1/2 + 3/2) = 4.5 ln 3 + ln 2.
    """
    worlds = by_hand()
    found = measure(worlds)
    assert found.lam == worlds.lam_hat == [0.0]
    assert found.eligible.all()
    assert errors_are_bounded(worlds)
    assert found.violation == pytest.approx([0.15])
    assert found.printed == pytest.approx([0.10])
    assert found.repaired == pytest.approx([0.20])
    assert found.regret == pytest.approx([0.75 * math.log(3) - math.log(2)])
    assert found.regret_bound == pytest.approx([4.5 * math.log(3) + math.log(2)])


def test_theorem_3_is_broken_with_certainty_in_a_linear_world() -> None:
    """pi_hat = reference = (.05 e^2, .95) / sum: .28; G(pi*) = .9 / sqrt 2, G(pi_hat) = .44 / sqrt 2, b = .72 / sqrt 2.

    The violation is .28 / sqrt 2 = .198. alpha = 1 + sqrt(ln 40 / 2) = 2.358, and U_D of an answer without labels is 1:
    the bound is .05 * 2.358 * exp(4 * 2.358e-6) + .95 * 2.358e-6 * exp(4 * 2.358) = .1179 + .0280 = .1459.
    """
    worlds, found = linear(), measure(linear())
    share = 0.05 * math.exp(2) / (0.05 * math.exp(2) + 0.95)
    assert found.violation == pytest.approx([share / math.sqrt(2)], abs=1e-9)
    alpha = 1 + math.sqrt(math.log(40) / 2)
    small = alpha / math.sqrt(1 + LABELS)
    assert found.printed == pytest.approx(
        [0.05 * alpha * math.exp(4 * small) + 0.95 * small * math.exp(4 * alpha)], rel=1e-9
    )
    assert found.violation[0] > found.printed[0] + 0.05
    assert found.lam == [0.0]
    assert found.eligible.all()
    assert errors_are_bounded(worlds)
    assert found.violation[0] < found.repaired[0]


def test_the_error_of_theorem_3_is_without_limit() -> None:
    """One answer in a hundred under pi*, all of pi_hat's: violation 1.97 of at most 2, bound .02."""
    worlds = by_hand()
    tables = {"reference": (0.01, 0.99), "reward": (0, 0), "reward_hat": (0, -1), "reward_error": (0, 1)}
    tables |= {"safety": (-1, 1), "safety_hat": (1, 1), "safety_error": (2, 0)}
    numbers = {"bound": 0.98, "beta": 0.1, "lam_hat": 0.0, "ceiling": 1.0}
    found = measure(
        Worlds(
            **{k: np.array(v, float)[None, None] for k, v in tables.items()},
            **{k: np.array([v]) for k, v in numbers.items()},
        )
    )
    assert found.eligible.all()
    assert found.lam == [0.0]
    assert found.violation[0] > 1.96
    assert found.printed == pytest.approx([0.02])
    assert measure(worlds).violation[0] < 0.2


@pytest.mark.parametrize("seed", range(3))
def test_what_the_proof_reaches_is_never_broken(seed: int) -> None:
    for worlds in (random_worlds(seed, 2000), linear_worlds(seed, 20, labels=50, paired=True)):
        found = measure(worlds)
        assert errors_are_bounded(worlds)
        assert found.eligible.mean() > 0.9
        assert (found.violation[found.eligible] > 1e-4).mean() > 0.05
        assert (found.violation <= found.repaired + 1e-9)[found.eligible].all()
        assert (found.regret <= found.regret_bound + 1e-9).all()
        assert (found.regret >= 0).any()


def test_multipliers_of_many_worlds_are_those_of_each() -> None:
    reference, (reward, safety) = table_world(3)
    bound = 0.5 * float(safety.max(1).mean())
    lone = smallest_eta(tilt(reference[None], reward[None] / 0.7)[0], safety, bound) * 0.7
    many = multiplier(*(np.stack([t, t]) for t in (reference, reward, safety)), np.array([bound, -9]), np.full(2, 0.7))
    assert many == pytest.approx([lone, 0.0], abs=1e-9)
    assert lone > 0.1


def test_a_bound_that_nobody_meets_has_an_infinite_multiplier() -> None:
    reference, (reward, safety) = table_world(3)
    tables = (t[None] for t in (reference, reward, safety))
    assert multiplier(*tables, np.array([100.0]), np.ones(1)) == [math.inf]


def test_expectations_weigh_prompts_alike() -> None:
    assert expect(np.array([[[1.0, 0.0], [0.5, 0.5]]]), np.array([[[2.0, 9.0], [1.0, 3.0]]])) == [2.0]


def test_uncertainty_by_hand() -> None:
    """Sigma = I + 3 e1 e1^T: |e1| = 1/2, |e2| = 1, |(e1 + e2)| = sqrt(1/4 + 1)."""
    sigma = gram(np.array([[1.0, 0.0]] * 3))
    assert uncertainty(np.array([[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]]), sigma) == pytest.approx(
        np.array([[0.5, 1.0, math.sqrt(1.25)]])
    )


def test_widths_by_hand() -> None:
    """delta = 2 e^-2 makes sqrt(ln(2 / delta) / 2) = 1; gamma at B = ln 2 is 2 + 2 + 1/2."""
    assert confidence_width(2 * math.exp(-2), ceiling=3.0) == pytest.approx(6.0)
    assert paired_width(math.exp(-1), 3, ceiling=math.log(2)) == pytest.approx(math.sqrt(4.5**2 * 4 + math.log(2) ** 2))


def test_ridge_shrinks_by_the_penalty() -> None:
    """Three labels of 2 on e1: 3 * 2 / (1 + 3) = 1.5; nothing on e2: 0."""
    assert ridge(np.array([[1.0, 0.0]] * 3), np.full(3, 2.0)) == pytest.approx([1.5, 0.0])


def test_bradley_terry_by_hand_and_on_separable_labels() -> None:
    """sum (sigmoid(w) - y) + kappa w = 0. With preferences of 3/4 and a small penalty w is ln 3.

    Labels that all agree have no finite maximum: the penalty decides, and w solves n (1 - sigmoid(w)) = kappa w.
    """
    rows = np.ones((1000, 1))
    assert bradley_terry(rows, np.full(1000, 0.75), kappa=1e-6) == pytest.approx([math.log(3)], abs=1e-5)
    sure = bradley_terry(rows, np.ones(1000))[0]
    assert 1000 / (1 + math.exp(sure)) == pytest.approx(sure, abs=1e-5)
