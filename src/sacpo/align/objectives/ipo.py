"""IPO as an objective: preference pairs with soft labels, log-ratios averaged over tokens."""

from __future__ import annotations

import torch

from sacpo.align.objectives.objective import Batch, FirstLoss, Forward
from sacpo.align.objectives.pairs import PairLogps, PairObjective, larger_gaps, make_of_pairs
from sacpo.align.objectives.registry import Made, Parts
from sacpo.losses.ipo import ipo_loss
from sacpo.losses.pair_terms import PairTerms


class IpoObjective(PairObjective):
    """p (h - 1 / (2 beta))^2 + (1 - p) (h + 1 / (2 beta))^2, h the difference of log pi/pi_ref per token."""

    @property
    def first_loss(self) -> FirstLoss:
        """The loss at h = 0, whatever p is."""
        value = 1 / (4 * self.beta**2)
        return FirstLoss(value, f"1/(4 beta^2) = {value:.6g}")

    def terms(self, logps: PairLogps) -> PairTerms:
        """Return each pair's loss and rewards."""
        return ipo_loss(
            logps.chosen,
            logps.rejected,
            logps.ref_chosen,
            logps.ref_rejected,
            logps.chosen_tokens,
            logps.rejected_tokens,
            beta=self.beta,
            p=logps.p,
        )

    def start_gaps(self, batch: Batch, forward: Forward[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return each pair's larger logratio: of unlike lengths, two equal ones do not cancel in the loss."""
        return larger_gaps(batch, forward)


def make(parts: Parts) -> Made:
    """Return the objective of a step; errors as of `make_of_pairs`."""
    return make_of_pairs(parts, IpoObjective)
