"""A frozen head's log-probs and gradients, met block by block, are those of a softmax over the whole vocabulary."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sacpo.losses import frozen_head, head
from sacpo.losses.head import Split, TokenStatistics, head_logps


@pytest.mark.parametrize(("scale", "cap", "bias"), [(1.0, None, False), (0.3, 2.0, True), (2.0, None, True)])
def test_blocks_are_one_softmax(monkeypatch: pytest.MonkeyPatch, scale: float, cap: float | None, bias: bool) -> None:
    """In float64, with blocks of 7 of 61 tokens and 4 of 10 targets at a time: values, gradients and statistics."""
    torch.manual_seed(0)
    linear = nn.Linear(16, 61, bias=bias).double().requires_grad_(False)
    linear.weight.mul_(8)
    hidden = torch.randn(10, 16, dtype=torch.float64, requires_grad=True)
    targets, upstream = torch.randint(61, (10,)), torch.randn(10, dtype=torch.float64)
    split = Split(nn.Identity(), linear, scale, cap)
    logits = split.logits(hidden)
    expected = logits.log_softmax(1)
    wanted = expected.gather(1, targets[:, None]).squeeze(1)
    (slope,) = torch.autograd.grad(wanted @ upstream, hidden)
    monkeypatch.setattr(head, "LOGITS_KEPT", 0)
    monkeypatch.setattr(frozen_head, "BLOCK_LOGITS", 28)
    seen = TokenStatistics()
    found = head_logps(split, hidden, targets, chunk=4, statistics=seen)
    (own,) = torch.autograd.grad(found @ upstream, hidden)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(own, slope)
    torch.testing.assert_close(seen.entropy, -(expected.exp() * expected).sum(1))
    torch.testing.assert_close(seen.mean_logit, logits.mean(1))
    assert torch.equal(seen.top, logits.argmax(1) == targets)
    with torch.no_grad():  # whatever is trained elsewhere
        torch.testing.assert_close(head_logps(split, hidden, targets), wanted)
        linear.requires_grad_(True)
        torch.testing.assert_close(head_logps(split, hidden, targets), wanted)


def test_a_frozen_head_meets_every_logit_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two products a block, forward and gradient together; a trained head computes its logits once more."""
    monkeypatch.setattr(head, "LOGITS_KEPT", 0)
    products: list[int] = []
    plain = nn.functional.linear

    def counted(inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        products.append(len(inputs) * len(weight))
        return plain(inputs, weight, bias)

    monkeypatch.setattr(nn.functional, "linear", counted)
    for trained, times in ((False, 1), (True, 2)):
        linear = nn.Linear(8, 50, bias=False).requires_grad_(trained)
        hidden = torch.randn(6, 8, requires_grad=True)
        products.clear()
        head_logps(Split(nn.Identity(), linear), hidden, torch.arange(6)).sum().backward()
        assert sum(products) == times * 6 * 50


def test_under_autocast_gradients_stay_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """bfloat16 products are a few hundredths off; log-probs and gradients keep the types that they had."""
    torch.manual_seed(0)
    monkeypatch.setattr(head, "LOGITS_KEPT", 0)
    linear = nn.Linear(32, 61, bias=False).requires_grad_(False)
    hidden = torch.randn(10, 32, requires_grad=True)
    split, targets = Split(nn.Identity(), linear), torch.randint(61, (10,))
    exact = head_logps(split, hidden, targets)
    (slope,) = torch.autograd.grad(exact.sum(), hidden)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = head_logps(split, hidden, targets)
    (own,) = torch.autograd.grad(rough.sum(), hidden)
    assert rough.dtype == own.dtype == torch.float32
    torch.testing.assert_close(rough, exact, atol=0.03, rtol=0)
    torch.testing.assert_close(own, slope, atol=0.01, rtol=0.03)
