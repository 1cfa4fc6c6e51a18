"""DPO's loss, with soft labels and offsets."""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid

from sacpo.losses.pair_terms import PairTerms


def dpo_loss(
    policy_chosen_logps: torch.Tensor,
    policy_rejected_logps: torch.Tensor,
    ref_chosen_logps: torch.Tensor,
    ref_rejected_logps: torch.Tensor,
    *,
    beta: float,
    p: torch.Tensor | None = None,
    offset: torch.Tensor | None = None,
) -> PairTerms:
    """Compute each pair's loss, `-p log sigmoid(d) - (1 - p) log sigmoid(-d)`.

    `d = beta [log pi/pi_ref (chosen) - log pi/pi_ref (rejected)] - offset`. It is least where sigmoid(d) = p.

    Args:
        policy_chosen_logps: log pi of the chosen completions, in nats. Shape: (pairs,).
        policy_rejected_logps: log pi of the rejected completions. Shape: (pairs,).
        ref_chosen_logps: log pi_ref of the chosen completions. Shape: (pairs,).
        ref_rejected_logps: log pi_ref of the rejected completions. Shape: (pairs,).
        beta: The step's strength; for a constraint's criterion the paper's beta/lambda, wherever the step stands.
        p: Probability that the chosen completion is preferred; None: 1 for all. Outside [0, 1] only as an unbiased
            estimate, see `sacpo.losses.robust`. Shape: (pairs,).
        offset: What the difference of rewards must reach before the label counts; None: 0 for all. Shape: (pairs,).

    Source: the paper's DPO loss (section 4); soft labels are the cross-entropy to a known preference probability.
    An offset of w (m(chosen) - m(rejected)) is MODPO (arXiv 2310.03708); of Delta (unsafe(rejected) - unsafe(chosen))
    it is SafeDPO (arXiv 2505.20065, eq. 12).
    """
    chosen = beta * (policy_chosen_logps - ref_chosen_logps)
    rejected = beta * (policy_rejected_logps - ref_rejected_logps)
    # the difference of logratios, not of rewards: one rounding less
    d = beta * ((policy_chosen_logps - ref_chosen_logps) - (policy_rejected_logps - ref_rejected_logps))
    d = d if offset is None else d - offset
    losses = -logsigmoid(d) if p is None else -p * logsigmoid(d) - (1 - p) * logsigmoid(-d)
    return PairTerms(losses, chosen.detach(), rejected.detach())


def smoothed(p: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Return labels of which a share is taken to be flipped, `(1 - e) p + e (1 - p)`: conservative DPO.

    Args:
        p: Probabilities that the chosen completions are preferred. Shape: (pairs,).
        smoothing: The share e, in [0, 1/2).

    Source: https://ericmitchell.ai/cdpo.pdf
    """
    return p + smoothing * (1 - 2 * p)
