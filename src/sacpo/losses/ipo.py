"""IPO's loss, with soft labels."""

from __future__ import annotations

import torch

from sacpo.losses.pair_terms import PairTerms


def ipo_loss(
    policy_chosen_logps: torch.Tensor,
    policy_rejected_logps: torch.Tensor,
    ref_chosen_logps: torch.Tensor,
    ref_rejected_logps: torch.Tensor,
    chosen_tokens: torch.Tensor,
    rejected_tokens: torch.Tensor,
    *,
    beta: float,
    p: torch.Tensor | None = None,
) -> PairTerms:
    """Compute each pair's loss, `p (h - 1 / (2 beta))^2 + (1 - p) (h + 1 / (2 beta))^2`.

    `h = log pi/pi_ref (chosen) / tokens of it - log pi/pi_ref (rejected) / tokens of it`. It is least where
    h = (2 p - 1) / (2 beta), and 1 / (4 beta^2) where the policy is its reference.

    Args:
        policy_chosen_logps: log pi of the chosen completions, in nats. Shape: (pairs,).
        policy_rejected_logps: log pi of the rejected completions. Shape: (pairs,).
        ref_chosen_logps: log pi_ref of the chosen completions. Shape: (pairs,).
        ref_rejected_logps: log pi_ref of the rejected completions. Shape: (pairs,).
        chosen_tokens: Tokens of the chosen completions. Shape: (pairs,).
        rejected_tokens: Tokens of the rejected completions. Shape: (pairs,).
        beta: The step's strength, tau of the source.
        p: Probability that the chosen completion is preferred, in [0, 1]; None: 1 for all. Shape: (pairs,).

    Source: arXiv 2310.12036, eq. 17; soft labels are the expectation over the drawn preference.
    Deviation: log-ratios are means over a completion's tokens, as in TRL, so that the target does not depend on
    lengths; its authors report that the source's experiments did so.
    """
    chosen, rejected = policy_chosen_logps - ref_chosen_logps, policy_rejected_logps - ref_rejected_logps
    # a completion without any token has the log-ratio 0
    h, target = chosen / chosen_tokens.clamp(min=1) - rejected / rejected_tokens.clamp(min=1), 1 / (2 * beta)
    near, far = (h - target).square(), (h + target).square()
    losses = near if p is None else p * near + (1 - p) * far
    return PairTerms(losses, (beta * chosen).detach(), (beta * rejected).detach())
