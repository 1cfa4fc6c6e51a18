"""chi-PO as an objective: DPO with the link z + log z of the ratio z = pi/pi_ref."""

from __future__ import annotations

import math

import torch

from sacpo.align.objectives.objective import Batch, FirstLoss, Forward
from sacpo.align.objectives.pairs import PairLogps, PairObjective, larger_gaps, make_of_pairs
from sacpo.align.objectives.registry import Made, Parts
from sacpo.losses.chipo import chipo_loss
from sacpo.losses.pair_terms import PairTerms


class ChipoObjective(PairObjective):
    """-p log sigmoid(d) - (1 - p) log sigmoid(-d), d = beta [phi(chosen) - phi(rejected)], phi = z + log z."""

    @property
    def first_loss(self) -> FirstLoss:
        """The loss at d = 0, whatever p is."""
        return FirstLoss(math.log(2), "ln 2")

    def terms(self, logps: PairLogps) -> PairTerms:
        """Return each pair's loss and rewards."""
        return chipo_loss(logps.chosen, logps.rejected, logps.ref_chosen, logps.ref_rejected, beta=self.beta, p=logps.p)

    def start_gaps(self, batch: Batch, forward: Forward[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return each pair's larger logratio: the link of two equal ones has another slope than at 0."""
        return larger_gaps(batch, forward)


def make(parts: Parts) -> Made:
    """Return the objective of a step; errors as of `make_of_pairs`."""
    return make_of_pairs(parts, ChipoObjective)
