"""BSO's loss: density ratios matched under a Bregman divergence, with offsets between safe and unsafe answers."""

from __future__ import annotations

import torch

from sacpo.losses.pair_terms import PairTerms

SCALE = 4.0
"""s of the generator: its curvature at ratio 1 is then that of DPO's."""
FARTHEST = 30.0
"""Log-ratios of a pair beyond it have no gradient, as in the authors' code: their powers would be infinite."""


def bso_loss(
    policy_chosen_logps: torch.Tensor,
    policy_rejected_logps: torch.Tensor,
    ref_chosen_logps: torch.Tensor,
    ref_rejected_logps: torch.Tensor,
    *,
    beta: float,
    generator: float = 0.2,
    p: torch.Tensor | None = None,
    offset: torch.Tensor | None = None,
) -> PairTerms:
    """Compute each pair's loss, `p l(R) + (1 - p) l(1/R)`.

    `l(R) = h'(R) R - h(R) - h'(1/R)` of the generator `h(R) = (R^(1+a) - R) / (s a (a+1))`, which is
    `[a R^(1+a) - (1+a) R^-a + 1] / (s a (a+1))`; `log R = offset - beta [log pi/pi_ref (chosen) - (rejected)]`.
    With `h` of logistic regression it would be DPO's loss.

    Args:
        policy_chosen_logps: log pi of the chosen completions, in nats. Shape: (pairs,).
        policy_rejected_logps: log pi of the rejected completions. Shape: (pairs,).
        ref_chosen_logps: log pi_ref of the chosen completions. Shape: (pairs,).
        ref_rejected_logps: log pi_ref of the rejected completions. Shape: (pairs,).
        beta: The step's strength.
        generator: a, above 0.
        p: Probability that the chosen completion is preferred, in [0, 1]; None: 1 for all. Shape: (pairs,).
        offset: The source's C (unsafe(rejected) - unsafe(chosen)); None: 0 for all. Shape: (pairs,).

    Source: arXiv 2605.12339, eq. 12, 14 and 23; soft labels are the expectation over the drawn preference.
    """
    chosen, rejected = policy_chosen_logps - ref_chosen_logps, policy_rejected_logps - ref_rejected_logps
    log_r = -beta * (chosen - rejected)
    log_r = log_r if offset is None else log_r + offset
    losses = _of(log_r, generator) if p is None else p * _of(log_r, generator) + (1 - p) * _of(-log_r, generator)
    return PairTerms(losses, (beta * chosen).detach(), (beta * rejected).detach())


def _of(log_r: torch.Tensor, a: float) -> torch.Tensor:
    log_r = log_r.clamp(-FARTHEST, FARTHEST)
    return (a * ((1 + a) * log_r).exp() - (1 + a) * (-a * log_r).exp() + 1) / (SCALE * a * (a + 1))
