"""The losses beside DPO, IPO and KTO: worked numbers, gradients, and what they are when nothing is special."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sacpo.losses.bso import bso_loss
from sacpo.losses.chipo import chipo_loss
from sacpo.losses.dpo import dpo_loss, smoothed
from sacpo.losses.robust import unbiased

LOGRATIOS = st.floats(-3, 3)


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def grown(value: float) -> torch.Tensor:
    return column(value).requires_grad_()


def log1pexp(x: float) -> float:
    return math.log1p(math.exp(x))


def test_smoothed_and_unbiased_labels() -> None:
    """A fifth flipped: 1 -> .8, .5 -> .5, 0 -> .2; without bias 1 -> .8 / .6 = 4/3, .8 -> 1, 0 -> -1/3."""
    p = column(1, 0.5, 0)
    assert smoothed(p, 0.2).tolist() == pytest.approx([0.8, 0.5, 0.2])
    assert unbiased(column(1, 0.8, 0), 0.2).tolist() == pytest.approx([4 / 3, 1, -1 / 3])
    assert unbiased(smoothed(p, 0.2), 0.2).tolist() == pytest.approx(p.tolist())


@given(LOGRATIOS, st.floats(0.01, 0.45))
def test_robust_dpo_has_the_expectation_of_dpo_without_flips(d: float, e: float) -> None:
    """Mean over a label that is flipped with probability e: (1 - e) L(1) + e L(0) = -log sigmoid(d)."""
    zero = column(0)
    kept, flipped = (
        dpo_loss(column(d), zero, zero, zero, beta=1, p=unbiased(column(p), e)).losses.item() for p in (1, 0)
    )
    assert (1 - e) * kept + e * flipped == pytest.approx(log1pexp(-d), rel=1e-9)


def test_an_offset_is_what_the_rewards_must_reach() -> None:
    """beta = .5, log-ratios 2 and -4: d = 3 - 2 = 1: ln(1 + e^-1) = .3132617, slope .5 (sigmoid(1) - 1) = -.1344707.

    The rewards, 1 and -2, are the policy's. An offset of 3 leaves ln 2.
    """
    chosen = grown(2)
    terms = dpo_loss(chosen, column(-4), column(0), column(0), beta=0.5, offset=column(2))
    terms.losses.sum().backward()
    assert terms.losses.item() == pytest.approx(0.3132617, abs=1e-7)
    assert chosen.grad is not None and chosen.grad.item() == pytest.approx(-0.1344707, abs=1e-7)
    assert (terms.chosen_rewards.item(), terms.rejected_rewards.item()) == (1, -2)
    same = dpo_loss(column(2), column(-4), column(0), column(0), beta=0.5, offset=column(3))
    assert same.losses.item() == pytest.approx(math.log(2))


@given(st.floats(0.05, 0.95), LOGRATIOS, LOGRATIOS, st.floats(0.1, 3))
def test_modpo_with_labels_of_r_and_an_offset_of_g_is_at_its_least_at_the_mixed_reward(
    p: float, first: float, second: float, weight: float
) -> None:
    """Least where beta h = logit(p) + w (g1 - g2), the difference of r + w g: the optimum of eq. 11."""
    mixed = math.log(p / (1 - p)) + weight * (first - second)
    chosen = grown(mixed / 0.5)
    offset = column(weight * (first - second))
    dpo_loss(chosen, column(0), column(0), column(0), beta=0.5, p=column(p), offset=offset).losses.sum().backward()
    assert chosen.grad is not None and chosen.grad.item() == pytest.approx(0, abs=1e-9)


@given(LOGRATIOS, LOGRATIOS, st.floats(0, 1), st.floats(0.2, 3))
def test_adpo_of_two_answers_is_dpo_with_soft_labels(first: float, second: float, q: float, tau: float) -> None:
    """KL(q || softmax((s - s_ref) / tau)) plus the entropy of q is DPO's loss at beta = 1/tau (arXiv 2510.18913)."""
    scores = torch.log_softmax(column(first, second) / tau, 0)
    listwise = -(q * scores[0] + (1 - q) * scores[1]).item()
    ours = dpo_loss(column(first), column(second), column(0), column(0), beta=1 / tau, p=column(q)).losses.item()
    assert ours == pytest.approx(listwise, rel=1e-9)


def test_worked_numbers_of_chipo() -> None:
    """beta = .5, log-ratios ln 2 and -ln 2: phi = 2 + .6931 and .5 - .6931, d = .5 (1.5 + 1.3863) = 1.4431472.

    Loss ln(1 + e^-d) = .2120286; label .25: .25 x .2120286 + .75 x (.2120286 + d) = 1.2943890. The slope is that of
    DPO times 1 + z = 3: .5 x 3 x (sigmoid(d) - 1) = -.2865877.
    """
    chosen = grown(math.log(2) - 5)
    rejected, reference = column(-math.log(2) - 7), (column(-5), column(-7))
    terms = chipo_loss(chosen, rejected, *reference, beta=0.5)
    terms.losses.sum().backward()
    d = 0.5 * (1.5 + 2 * math.log(2))
    assert terms.losses.item() == pytest.approx(log1pexp(-d)) == pytest.approx(0.2120286, abs=2e-7)
    assert chosen.grad is not None
    assert chosen.grad.item() == pytest.approx(1.5 * (1 / (1 + math.exp(-d)) - 1), abs=1e-9)
    soft = chipo_loss(chosen, rejected, *reference, beta=0.5, p=column(0.25))
    assert soft.losses.item() == pytest.approx(log1pexp(-d) + 0.75 * d)
    assert soft.chosen_rewards.item() == pytest.approx(0.5 * math.log(2))


def test_chipo_holds_on_where_the_policy_has_left_its_reference() -> None:
    """Twice as far above the reference DPO's d doubles, chi-PO's grows by the ratio; far out all is finite."""
    zero = column(0)
    d = [-math.log(math.expm1(chipo_loss(column(x), zero, zero, zero, beta=1).losses.item())) for x in (1.0, 2.0)]
    assert d == pytest.approx([math.e - 1 + 1, math.e**2 - 1 + 2])
    far = torch.tensor([1e4], requires_grad=True)
    losses = chipo_loss(-far, far, *torch.zeros(2, 1), beta=1.0).losses
    losses.sum().backward()
    assert torch.isfinite(losses).all() and far.grad is not None and torch.isfinite(far.grad).all()


def test_worked_numbers_of_bso() -> None:
    """a = .2, s = 4: s a (a + 1) = .96. beta = .5, log-ratios 2 and -2: log R = -2; with an offset of 1: -1.

    l(e^-2) = [.2 e^-2.4 - 1.2 e^.4 + 1] / .96 = -.8042146; l(e^-1) = [.2 e^-1.2 - 1.2 e^.2 + 1] / .96 = -.4223380.
    The slope in log R is (R^1.2 + R^-.2) / 4, so in the chosen log-prob -.5 (e^-1.2 + e^.2) / 4 at log R = -1.
    """

    def value(log_r: float) -> float:
        return (0.2 * math.exp(1.2 * log_r) - 1.2 * math.exp(-0.2 * log_r) + 1) / 0.96

    chosen = grown(2)
    given_to = (column(-2), column(0), column(0))
    assert bso_loss(chosen, *given_to, beta=0.5).losses.item() == pytest.approx(value(-2))
    assert value(-2) == pytest.approx(-0.8042146, abs=2e-7)
    terms = bso_loss(chosen, *given_to, beta=0.5, offset=column(1))
    terms.losses.sum().backward()
    assert terms.losses.item() == pytest.approx(value(-1)) == pytest.approx(-0.4223380, abs=2e-7)
    assert chosen.grad is not None
    assert chosen.grad.item() == pytest.approx(-0.5 * (math.exp(-1.2) + math.exp(0.2)) / 4)
    soft = bso_loss(chosen, *given_to, beta=0.5, p=column(0.7))
    assert soft.losses.item() == pytest.approx(0.7 * value(-2) + 0.3 * value(2))


@given(st.floats(0.05, 0.95), st.floats(0.05, 1.5))
def test_bso_is_at_its_least_where_the_ratio_is_that_of_the_preferences(p: float, a: float) -> None:
    """Like DPO's: beta h = logit(p), whatever the generator is; and its slope at R = 1 is DPO's with a label of 1."""
    chosen = grown(math.log(p / (1 - p)))
    bso_loss(chosen, column(0), column(0), column(0), beta=1, generator=a, p=column(p)).losses.sum().backward()
    assert chosen.grad is not None and chosen.grad.item() == pytest.approx(0, abs=1e-9)
    start = grown(0)
    bso_loss(start, column(0), column(0), column(0), beta=1, generator=a).losses.sum().backward()
    assert start.grad is not None and start.grad.item() == pytest.approx(-0.5)


def test_bso_beyond_its_farthest_ratio_is_finite_and_without_slope() -> None:
    far = torch.tensor([1e4, -1e4], requires_grad=True)
    losses = bso_loss(far, *torch.zeros(3, 2), beta=1.0).losses
    losses.sum().backward()
    assert torch.isfinite(losses).all() and far.grad is not None and far.grad.tolist() == [0, 0]
