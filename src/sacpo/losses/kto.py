"""KTO's loss and its estimate of the divergence from the reference."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class KtoTerms:
    """The terms of a batch of labelled completions.

    Attributes:
        losses: Each completion's weighted loss. Shape: (batch,).
        rewards: u = beta log pi/pi_ref, without gradient. Shape: (batch,).
    """

    losses: torch.Tensor
    rewards: torch.Tensor


def kto_loss(
    policy_logps: torch.Tensor,
    ref_logps: torch.Tensor,
    labels: torch.Tensor,
    kl: torch.Tensor,
    *,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> KtoTerms:
    """Compute `w+ (1 - sigmoid(u - z0))` of a desirable completion, `w- (1 - sigmoid(z0 - u))` of another.

    `u = beta log pi/pi_ref`, `z0 = beta KL`.

    Args:
        policy_logps: log pi of the completions, in nats. Shape: (batch,).
        ref_logps: log pi_ref of the completions. Shape: (batch,).
        labels: Whether a completion is desirable. Shape: (batch,) bool.
        kl: z0 / beta, the estimate of KL(pi || pi_ref) in nats, at least 0 and without gradient. Shape: ().
        beta: The step's strength, beta or beta/lambda.
        desirable_weight: w+.
        undesirable_weight: w-.

    Source: the paper's KTO loss (section 4).
    """
    u = beta * (policy_logps - ref_logps)
    surplus = u - beta * kl
    # sigmoid(-x) is 1 - sigmoid(x) without cancellation
    losses = torch.where(
        labels, desirable_weight * torch.sigmoid(-surplus), undesirable_weight * torch.sigmoid(surplus)
    )
    return KtoTerms(losses, u.detach())


def kl_estimate(policy_mismatched_logps: torch.Tensor, ref_mismatched_logps: torch.Tensor) -> torch.Tensor:
    """Estimate KL(pi || pi_ref) by the mean log-ratio of mismatched prompts and completions, at least 0.

    Args:
        policy_mismatched_logps: log pi of completions behind other records' prompts, of the WHOLE batch (all device
            batches and processes), in nats. Shape: (batch,).
        ref_mismatched_logps: log pi_ref of the same. Shape: (batch,).

    Shape: (), without gradient.
    """
    return (policy_mismatched_logps - ref_mismatched_logps).mean().clamp(min=0).detach()
