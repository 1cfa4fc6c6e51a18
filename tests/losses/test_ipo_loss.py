"""IPO's loss: worked numbers, gradients, lengths."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sacpo.losses.ipo import ipo_loss
from sacpo.losses.pair_terms import PairTerms


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def one(
    chosen: torch.Tensor, rejected: float, tokens: tuple[int, int], beta: float, p: float | None = None
) -> PairTerms:
    """A pair with these sums of log-ratios; the reference's log-probs are -5 and -7."""
    counts = [torch.tensor([n]) for n in tokens]
    label = None if p is None else column(p)
    return ipo_loss(chosen - 5, column(rejected - 7), column(-5), column(-7), *counts, beta=beta, p=label)


def test_worked_numbers() -> None:
    """beta = .25: the target is 1 / .5 = 2. Log-ratios 3 over 2 tokens and -4 over 8: h = 1.5 + .5 = 2.

    Hard label: (2 - 2)^2 = 0. Label .75: .75 x 0 + .25 x (2 + 2)^2 = 4. Label 0: 16. Sums in place of means would give
    h = 7 and a loss of 25. Rewards are of sums, as TRL logs them: .25 x 3 and .25 x -4.
    """
    hard = one(column(3), -4, (2, 8), 0.25)
    assert hard.losses.item() == pytest.approx(0, abs=1e-12)
    assert (hard.chosen_rewards.item(), hard.rejected_rewards.item()) == (0.75, -1)
    assert one(column(3), -4, (2, 8), 0.25, 0.75).losses.item() == pytest.approx(4)
    assert one(column(3), -4, (2, 8), 0.25, 0.0).losses.item() == pytest.approx(16)


@given(st.floats(0.01, 5), st.floats(0, 1), st.integers(1, 9), st.integers(1, 9))
def test_policy_equal_to_reference_costs_the_squared_target(beta: float, p: float, first: int, second: int) -> None:
    """h = 0: p / (4 beta^2) + (1 - p) / (4 beta^2) = 1 / (4 beta^2) for every label and all lengths."""
    terms = one(column(0), 0, (first, second), beta, p)
    assert terms.losses.item() == pytest.approx(1 / (4 * beta**2), rel=1e-12)


@given(st.floats(0, 1), st.floats(0.05, 5), st.floats(-30, 30), st.integers(1, 9))
def test_the_gradient_pulls_to_the_labels_target(p: float, beta: float, logratio: float, tokens: int) -> None:
    """dL/dh = 2 (h - (2 p - 1) / (2 beta)): with p = 1/2 the target is 0, and a sum moves h by 1 / tokens."""
    chosen = column(logratio).requires_grad_()
    one(chosen, 0, (tokens, 3), beta, p).losses.sum().backward()
    assert chosen.grad is not None
    wanted = 2 * (logratio / tokens - (2 * p - 1) / (2 * beta)) / tokens
    assert chosen.grad.item() == pytest.approx(wanted, rel=1e-9, abs=1e-9)


@given(st.floats(-30, 30), st.floats(-30, 30), st.floats(0, 1))
def test_swapping_the_completions_and_the_label_changes_nothing(a: float, b: float, p: float) -> None:
    there, back = one(column(a), b, (2, 5), 0.1, p), one(column(b), a, (5, 2), 0.1, 1 - p)
    assert there.losses.item() == pytest.approx(back.losses.item(), rel=1e-9)


def test_a_completion_without_tokens_is_no_nan() -> None:
    """h = 0 - 6/3 = -2, target 1: (-3)^2."""
    assert one(column(0), 6, (0, 3), 0.5).losses.item() == pytest.approx(9)
