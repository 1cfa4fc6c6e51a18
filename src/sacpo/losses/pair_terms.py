"""What the losses of preference pairs return."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class PairTerms:
    """The terms of a batch of pairs.

    Attributes:
        losses: Each pair's loss. Shape: (pairs,).
        chosen_rewards: beta log pi/pi_ref of the chosen completions, without gradient. Shape: (pairs,).
        rejected_rewards: The same of the rejected ones. Shape: (pairs,).
    """

    losses: torch.Tensor
    chosen_rewards: torch.Tensor
    rejected_rewards: torch.Tensor
