"""KTO's loss and its estimate of the divergence: worked numbers, gradients, extremes."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sacpo.losses.kto import KtoTerms, kl_estimate, kto_loss


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def losses(logratios: torch.Tensor, labels: list[bool], kl: float, **options: float) -> KtoTerms:
    zeros = torch.zeros_like(logratios)
    return kto_loss(logratios, zeros, torch.tensor(labels), column(kl).squeeze(), **options)  # type: ignore[arg-type]


@given(st.floats(-50, 0), st.booleans(), st.floats(0.1, 4))
def test_policy_equal_to_reference_costs_half_the_weight(logp: float, label: bool, weight: float) -> None:
    """u = z0 = 0: w (1 - sigmoid(0)) = w / 2."""
    same = column(logp)
    terms = kto_loss(
        same,
        same,
        torch.tensor([label]),
        column(0).squeeze(),
        beta=0.1,
        desirable_weight=weight,
        undesirable_weight=weight,
    )
    assert terms.losses.item() == pytest.approx(weight / 2)
    assert terms.rewards.item() == 0


def test_worked_numbers() -> None:
    """beta = .5, KL = 2, so z0 = 1; logratios 6 and 6, so u = 3 and u - z0 = 2.

    Desirable with w+ = 1: 1 - sigmoid(2) = .1192029. Undesirable with w- = 1.5: 1.5 (1 - sigmoid(-2)) = 1.5 x .8807971
    = 1.3211956.
    """
    terms = losses(column(6, 6), [True, False], 2.0, beta=0.5, desirable_weight=1.0, undesirable_weight=1.5)
    assert terms.losses.tolist() == pytest.approx([0.1192029220, 1.3211956168], abs=1e-9)
    assert terms.rewards.tolist() == [3, 3]


def test_gradients() -> None:
    """dL/du = -w+ s (1 - s) of a desirable completion, +w- s (1 - s) of another, s = sigmoid(u - z0); du = beta.

    At u = z0: s (1 - s) = 1/4. With beta = .4, w+ = 2, w- = 3: -.4 x 2 / 4 = -.2 and .4 x 3 / 4 = .3. Nothing flows
    into the estimate of the divergence.
    """
    logratios = column(1, 1).requires_grad_()
    kl = column(1).squeeze().requires_grad_()
    terms = kto_loss(
        logratios,
        column(0, 0),
        torch.tensor([True, False]),
        kl_estimate(kl[None], column(0)),
        beta=0.4,
        desirable_weight=2.0,
        undesirable_weight=3.0,
    )
    terms.losses.sum().backward()
    assert logratios.grad is not None
    assert logratios.grad.tolist() == pytest.approx([-0.2, 0.3], rel=1e-12)
    assert kl.grad is None
    assert not terms.rewards.requires_grad


@given(st.floats(-20, 20), st.floats(0, 20))
def test_both_labels_of_one_completion_add_up_to_one(logratio: float, kl: float) -> None:
    terms = losses(column(logratio, logratio), [True, False], kl, beta=0.3)
    assert terms.losses.sum().item() == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("logratio", "label", "wanted"), [(1e4, True, 0), (1e4, False, 1), (-1e4, True, 1)])
def test_finite_at_extremes(logratio: float, label: bool, wanted: float, dtype: torch.dtype) -> None:
    ratio = torch.tensor([logratio], dtype=dtype, requires_grad=True)
    terms = kto_loss(ratio, torch.zeros(1, dtype=dtype), torch.tensor([label]), torch.tensor(0, dtype=dtype), beta=1.0)
    terms.losses.sum().backward()
    assert terms.losses.item() == wanted
    assert ratio.grad is not None
    assert ratio.grad.item() == 0


def test_tiny_losses_keep_their_digits() -> None:
    """1 - sigmoid(40) = 4.248e-18, where 1 - sigmoid computed as written is 0."""
    assert losses(column(40), [True], 0.0, beta=1.0).losses.item() == pytest.approx(math.exp(-40), rel=1e-9)


def test_divergence_is_the_mean_logratio() -> None:
    """(-3 + 5) and (-2 + 6): mean of 2 and 4."""
    assert kl_estimate(column(-3, -2), column(-5, -6)).item() == 3


def test_divergence_is_clamped_after_the_mean() -> None:
    """Logratios 4 and -6: their mean is -1, hence 0; clamped one by one they would give 2. 6 and -4 give 1."""
    assert kl_estimate(column(4, -6), column(0, 0)).item() == 0
    assert kl_estimate(column(6, -4), column(0, 0)).item() == 1


def test_divergence_has_no_gradient() -> None:
    assert not kl_estimate(column(1).requires_grad_(), column(0)).requires_grad
