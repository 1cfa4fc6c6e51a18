"""DPO as an objective: preference pairs with soft labels against cached reference log-probs."""

from __future__ import annotations

import math

from sacpo.align.objectives.objective import FirstLoss
from sacpo.align.objectives.pairs import PairLogps, PairObjective, make_of_pairs
from sacpo.align.objectives.registry import Made, Parts
from sacpo.losses.dpo import dpo_loss
from sacpo.losses.pair_terms import PairTerms


class DpoObjective(PairObjective):
    """-p log sigmoid(d) - (1 - p) log sigmoid(-d), d = beta [log pi/pi_ref (chosen) - log pi/pi_ref (rejected)]."""

    @property
    def first_loss(self) -> FirstLoss:
        """The loss at d = 0, whatever p is."""
        return FirstLoss(math.log(2), "ln 2")

    def terms(self, logps: PairLogps) -> PairTerms:
        """Return each pair's loss and rewards."""
        return dpo_loss(logps.chosen, logps.rejected, logps.ref_chosen, logps.ref_rejected, beta=self.beta, p=logps.p)


def make(parts: Parts) -> Made:
    """Return the objective of a step; errors as of `make_of_pairs`."""
    return make_of_pairs(parts, DpoObjective)
