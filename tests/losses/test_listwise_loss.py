"""The listwise loss: worked numbers, its least place, lists apart."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sacpo.losses.listwise import listwise_loss


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_worked_numbers() -> None:
    """Log-ratios 0 and ln 2 of a sample and of one that stands for 1.5: p = 1/4 and 3/4; weights 2 and 1.

    The loss is 2 ln 4 + ln 4/3. A list of one answer has 0.
    """
    logps, reference = column(-5, math.log(2) - 7, -3), column(-5, -7, -8)
    found = listwise_loss(logps, reference, column(2, 1, 4), column(1, 1.5, 1), torch.tensor([0, 0, 1]))
    assert found.tolist() == pytest.approx([2 * math.log(4) + math.log(4 / 3), 0.0, 0.0])


def test_two_samples_are_dpo_on_soft_labels() -> None:
    """Weights p and 1 - p: -p log sigmoid(d) - (1 - p) log sigmoid(-d), d the difference of log-ratios."""
    d, p = 0.7, 0.8
    found = listwise_loss(column(d, 0), column(0, 0), column(p, 1 - p), column(1, 1), torch.tensor([0, 0]))
    assert found.sum().item() == pytest.approx(p * math.log1p(math.exp(-d)) + (1 - p) * math.log1p(math.exp(d)))


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(0.1, 5), st.integers(0, 2)), min_size=1, max_size=8))
def test_it_is_least_where_log_ratios_are_the_tilt(rows: list[tuple[float, float, int]]) -> None:
    """There the gradient is 0, whatever is added to all of a list; it stays finite for logits far apart."""
    numbers = sorted({number for _, _, number in rows})
    lists = torch.tensor([numbers.index(number) for _, _, number in rows])
    tilt, standing = (column(*(row[k] for row in rows)) for k in (0, 1))
    logps = (tilt + 400 * lists).requires_grad_()
    listwise_loss(logps, torch.zeros_like(tilt), standing * tilt.exp(), standing, lists).sum().backward()
    assert logps.grad is not None
    assert logps.grad.abs().max().item() == pytest.approx(0, abs=1e-9 * float(tilt.exp().sum()))
