"""What DPO, IPO and KTO converge to: from descent on the losses themselves."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.special import expit
from theory_tables import table_world

from sacpo.errors import DataError
from sacpo.theory.population import dpo_loss, dpo_optimum, ipo_optimum, kto_limit, kto_loss
from sacpo.theory.tabular import Table, kl, log_ratio, softmax, tilted


def test_dpo_s_loss_is_ln_2_at_the_reference_whatever_the_scores() -> None:
    reference, (score, _) = table_world(1)
    assert dpo_loss(reference, reference, reference, score, 0.3) == pytest.approx(math.log(2))


@pytest.mark.parametrize("strength", [0.1, 0.5, 2.0])
def test_dpo_reaches_the_closed_form(strength: float) -> None:
    """Descent knows pairs alone. The completions may come from anywhere: the optimum stays the same."""
    reference, (score, _) = table_world(2)
    other, _ = table_world(3)
    for drawn in (reference, other):
        assert kl(dpo_optimum(reference, drawn, score, strength), tilted(reference, score, strength)) < 1e-6


def test_ipo_s_optimum_has_no_slope() -> None:
    """E[P (h - c)^2 + (1 - P)(h + c)^2], c = 1/(2s), over all pairs: its gradient in the logits is 0 there only."""
    reference, (score, _) = table_world(4, prompts=1)
    preferred = expit(score[0][:, None] - score[0][None, :])
    pairs = reference[0][:, None] * reference[0][None, :]

    def loss(logits: Table) -> float:
        u = log_ratio(softmax(logits[None]), reference)[0]
        h, c = u[:, None] - u[None, :], 1 / (2 * 0.5)
        return float((pairs * (preferred * (h - c) ** 2 + (1 - preferred) * (h + c) ** 2)).sum())

    best = np.log(ipo_optimum(reference, reference, score, 0.5)[0])
    assert np.abs(approx_fprime(best, loss, 1e-6)).max() < 1e-4
    assert np.abs(approx_fprime(np.log(tilted(reference, score, 0.5)[0]), loss, 1e-6)).max() > 0.05


def descend(reference: Table, score: Table, strength: float, steps: int) -> Table:
    """Follow KTO's population gradient from the reference, with z0 measured anew at each step and held in it."""
    logits, prompts = np.log(reference), len(reference)
    for _ in range(steps):
        policy = softmax(logits)
        u = strength * log_ratio(policy, reference) - strength * kl(policy, reference)
        pull = reference * expit(u) * expit(-u) * (1 - 2 * expit(score)) * strength / prompts
        logits = logits - 30 * (pull - policy * pull.sum(1, keepdims=True))
    return softmax(logits)


def test_the_descent_follows_the_loss() -> None:
    reference, (score, _) = table_world(6, prompts=2, answers=3)
    policy = descend(reference, score, 0.5, 5)
    z0 = 0.5 * kl(policy, reference)

    def loss(flat: Table) -> float:
        return kto_loss(softmax(flat.reshape(2, 3)), reference, reference, score, 0.5, z0)

    slope = approx_fprime(np.log(policy).ravel(), loss, 1e-7).reshape(2, 3)
    u = 0.5 * log_ratio(policy, reference) - z0
    pull = reference * expit(u) * expit(-u) * (1 - 2 * expit(score)) * 0.5 / 2
    np.testing.assert_allclose(slope, pull - policy * pull.sum(1, keepdims=True), atol=1e-6)


def test_kto_ends_away_from_the_closed_form() -> None:
    """It drops every answer that is undesirable more often than not, whatever its score says beyond that."""
    reference, (score, _) = table_world(8, prompts=2, answers=4)
    assert ((score > 0.1).sum(1) >= 2).any()
    assert (score < -0.1).any()
    limit, closed = kto_limit(reference, reference, score, 0.5), tilted(reference, score, 0.5)
    assert ((limit > 0) == (score > 0)).all()
    assert kl(limit, closed) > 0.05
    np.testing.assert_allclose(descend(reference, score, 0.5, 20_000), limit, atol=0.01)


def test_weights_move_the_border_of_what_kto_keeps() -> None:
    """With w- = 3 an answer stays if P > 3/4, so if f > ln 3; where none does, one answer takes all."""
    reference, score = np.full((2, 3), 1 / 3), np.array([[2.0, 1.3, 0.9], [-1.0, -2.0, -3.0]])
    limit = kto_limit(reference, reference, score, 0.5, weight=3.0)
    assert (limit[0] > 0).tolist() == [True, True, False]
    assert limit[1].tolist() == [1.0, 0.0, 0.0]


def test_kto_s_limit_is_refused_where_it_is_not_unique() -> None:
    reference, (score, _) = table_world(1)
    with pytest.raises(DataError, match="up to 1"):
        kto_limit(reference, reference, score, 1.5)
