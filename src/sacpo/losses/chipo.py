"""chi-PO's loss: DPO's, with a link that keeps the policy near its reference in chi-squared too."""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid

from sacpo.losses.pair_terms import PairTerms

LARGEST = 20.0
"""Log-ratios above it count as it inside the exponential, which stays finite."""


def chipo_loss(
    policy_chosen_logps: torch.Tensor,
    policy_rejected_logps: torch.Tensor,
    ref_chosen_logps: torch.Tensor,
    ref_rejected_logps: torch.Tensor,
    *,
    beta: float,
    p: torch.Tensor | None = None,
) -> PairTerms:
    """Compute each pair's loss, `-p log sigmoid(d) - (1 - p) log sigmoid(-d)`.

    `d = beta [phi(chosen) - phi(rejected)]`, `phi = z + log z`, `z = pi/pi_ref`. It is least where sigmoid(d) = p.

    Args:
        policy_chosen_logps: log pi of the chosen completions, in nats. Shape: (pairs,).
        policy_rejected_logps: log pi of the rejected completions. Shape: (pairs,).
        ref_chosen_logps: log pi_ref of the chosen completions. Shape: (pairs,).
        ref_rejected_logps: log pi_ref of the rejected completions. Shape: (pairs,).
        beta: The step's strength. Its optimum is phi(z) = r/beta + constant, no closed form of the paper's.
        p: Probability that the chosen completion is preferred, in [0, 1]; None: 1 for all. Shape: (pairs,).

    Source: arXiv 2407.13399, algorithm 1.
    Deviation: d is not clipped at 2 R_max, a bound of the rewards that nobody knows here.
    """
    chosen, rejected = policy_chosen_logps - ref_chosen_logps, policy_rejected_logps - ref_rejected_logps
    d = beta * (link(chosen) - link(rejected))
    losses = -logsigmoid(d) if p is None else -p * logsigmoid(d) - (1 - p) * logsigmoid(-d)
    return PairTerms(losses, (beta * chosen).detach(), (beta * rejected).detach())


def link(logratios: torch.Tensor) -> torch.Tensor:
    """Return `phi(z) = z + log z` of log z."""
    return logratios.clamp(max=LARGEST).exp() + logratios
