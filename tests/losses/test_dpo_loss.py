"""DPO's loss: worked numbers, gradients, extremes."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sacpo.losses.dpo import dpo_loss
from sacpo.losses.pair_terms import PairTerms

LN2 = math.log(2)
LOGPS = st.floats(-50, 0)
PROBABILITIES = st.floats(0, 1)


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def one(chosen: float, rejected: float, ref: tuple[float, float] = (0, 0), beta: float = 1, p: float = 1) -> PairTerms:
    given_p = column(p)
    return dpo_loss(column(chosen), column(rejected), column(ref[0]), column(ref[1]), beta=beta, p=given_p)


@given(LOGPS, LOGPS, PROBABILITIES)
def test_policy_equal_to_reference_costs_ln_2(chosen: float, rejected: float, p: float) -> None:
    """d = 0: -p ln(1/2) - (1 - p) ln(1/2) = ln 2 for every p, and no reward."""
    terms = one(chosen, rejected, (chosen, rejected), beta=0.7, p=p)
    assert terms.losses.item() == pytest.approx(LN2, rel=1e-12)
    assert (terms.chosen_rewards.item(), terms.rejected_rewards.item()) == (0, 0)


def test_worked_numbers() -> None:
    """beta = .5, logratios 2 and -4, so d = 3, rewards 1 and -2.

    Hard label: ln(1 + e^-3) = .0485874. Label p = .8: .8 x .0485874 + .2 x ln(1 + e^3) = .0388699 + .2 x 3.0485874
    = .6485874. Reversed label p = 0: 3.0485874.
    """
    hard = dpo_loss(column(-3), column(-9), column(-5), column(-5), beta=0.5)
    assert hard.losses.tolist() == pytest.approx([0.0485873516], abs=1e-9)
    assert (hard.chosen_rewards.item(), hard.rejected_rewards.item()) == (1, -2)
    assert one(-3, -9, (-5, -5), 0.5, 0.8).losses.item() == pytest.approx(0.6485873516, abs=1e-9)
    assert one(-3, -9, (-5, -5), 0.5, 0.0).losses.item() == pytest.approx(3.0485873516, abs=1e-9)


def test_each_pair_has_its_own_label() -> None:
    """d = 3 and -3 with p = 1 and 0 cost the same; a batch's losses are its pairs' losses."""
    terms = dpo_loss(column(3, 0), column(0, 3), column(0, 0), column(0, 0), beta=1, p=column(1, 0))
    assert terms.losses.tolist() == pytest.approx([0.0485873516, 0.0485873516], abs=1e-9)


@given(LOGPS, LOGPS, LOGPS, LOGPS, PROBABILITIES)
def test_swapping_the_completions_and_the_label_changes_nothing(
    a: float, b: float, ref_a: float, ref_b: float, p: float
) -> None:
    there, back = one(a, b, (ref_a, ref_b), 0.1, p), one(b, a, (ref_b, ref_a), 0.1, 1 - p)
    assert there.losses.item() == pytest.approx(back.losses.item(), rel=1e-9, abs=1e-12)
    assert there.chosen_rewards.item() == back.rejected_rewards.item()


@pytest.mark.parametrize(("p", "d"), [(1.0, 0.0), (1.0, -2.0), (0.8, 0.5), (0.3, 0.0), (0.0, 1.0)])
def test_gradients(p: float, d: float) -> None:
    """dL/d chosen = beta (sigmoid(d) - p), dL/d rejected is its opposite; nothing flows into the reference.

    By hand for p = 1, d = 0, beta = .2: .2 (1/2 - 1) = -.1: the chosen log-prob is pushed up.
    """
    beta = 0.2
    policy = [column(d / beta).requires_grad_(), column(0).requires_grad_()]
    terms = dpo_loss(policy[0], policy[1], column(0), column(0), beta=beta, p=column(p))
    terms.losses.sum().backward()
    wanted = beta * (1 / (1 + math.exp(-d)) - p)
    assert policy[0].grad is not None
    assert policy[1].grad is not None
    assert policy[0].grad.item() == pytest.approx(wanted, rel=1e-12)
    assert policy[1].grad.item() == pytest.approx(-wanted, rel=1e-12)
    assert not terms.chosen_rewards.requires_grad
    if (p, d) == (1.0, 0.0):
        assert wanted == pytest.approx(-0.1)


@given(st.floats(0.01, 0.99), st.floats(0.05, 5), st.sampled_from([-0.3, 0.3]))
def test_the_minimum_is_where_the_preference_probability_is_met(p: float, beta: float, off: float) -> None:
    """At d = logit(p) the loss is the label's entropy and its gradient 0; on both sides it is larger."""
    d = math.log(p / (1 - p))
    chosen = column(d / beta).requires_grad_()
    least = dpo_loss(chosen, column(0), column(0), column(0), beta=beta, p=column(p)).losses
    least.sum().backward()
    assert chosen.grad is not None
    assert chosen.grad.item() == pytest.approx(0, abs=1e-9)
    assert least.item() == pytest.approx(-p * math.log(p) - (1 - p) * math.log(1 - p), rel=1e-9)
    assert one((d + off) / beta, 0, beta=beta, p=p).losses.item() > least.item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("p", [None, 1.0, 0.9, 0.0])
@pytest.mark.parametrize("logratio", [1e4, -1e4])
def test_finite_at_extremes(logratio: float, p: float | None, dtype: torch.dtype) -> None:
    """|d| = 2e4: the loss is 0 where the label agrees, 2e4 per unit of disagreement, the slope at most beta = 1."""
    label = None if p is None else torch.tensor([p], dtype=dtype)
    chosen = torch.tensor([logratio], dtype=dtype, requires_grad=True)
    zero = torch.zeros(1, dtype=dtype)
    terms = dpo_loss(chosen, -chosen.detach(), zero, zero, beta=1.0, p=label)
    terms.losses.sum().backward()
    wrong = (1.0 if p is None else p) if logratio < 0 else 1 - (1.0 if p is None else p)
    assert terms.losses.item() == pytest.approx(2e4 * wrong, rel=1e-5)
    assert chosen.grad is not None
    assert chosen.grad.item() == pytest.approx(math.copysign(wrong, logratio), abs=1e-5)


def test_small_margins_of_long_completions_keep_their_digits() -> None:
    """float32: log-probs near -3000 have steps of 2^-12 and differ by 1: the margin is exact all the same."""
    single = [torch.tensor([value], dtype=torch.float32) for value in (-3000.25, -3001.5, -3001.25, -3001.5)]
    terms = dpo_loss(*single, beta=1.0)  # type: ignore[arg-type]
    assert terms.losses.item() == pytest.approx(math.log1p(math.exp(-1)), rel=1e-6)
