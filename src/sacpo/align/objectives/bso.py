"""BSO as an objective: ratios of the policy matched to those of the preferences, with offsets for safety."""

from __future__ import annotations

import functools
from typing import Any

import torch

from sacpo.align.objectives.objective import FirstLoss
from sacpo.align.objectives.pairs import PairLogps, PairObjective, make_of_pairs
from sacpo.align.objectives.registry import Made, Parts
from sacpo.losses.bso import bso_loss
from sacpo.losses.pair_terms import PairTerms


class BsoObjective(PairObjective):
    """p l(R) + (1 - p) l(1/R), log R = m - beta [log pi/pi_ref (chosen) - log pi/pi_ref (rejected)].

    Args:
        pairs: As of `PairObjective`, whose other arguments follow.
        generator: The exponent a of the generator of l.
        others: Those arguments.
    """

    takes_offsets = True

    def __init__(self, *pairs: Any, generator: float, **others: Any) -> None:
        super().__init__(*pairs, **others)
        self.generator = generator

    @property
    def first_loss(self) -> FirstLoss:
        """The loss at log R = m: 0 where there is no offset, whatever p is."""
        none = torch.zeros_like(self.p)
        terms = bso_loss(none, none, none, none, beta=1, generator=self.generator, p=self.p, offset=self.offsets)
        value = terms.losses.mean().item()
        return FirstLoss(value, f"{value:.6g}")

    def terms(self, logps: PairLogps) -> PairTerms:
        """Return each pair's loss and rewards."""
        policy, reference, a = (logps.chosen, logps.rejected), (logps.ref_chosen, logps.ref_rejected), self.generator
        return bso_loss(*policy, *reference, beta=self.beta, generator=a, p=logps.p, offset=logps.offset)


def make(parts: Parts) -> Made:
    """Return the objective of a step; errors as of `make_of_pairs`."""
    return make_of_pairs(parts, functools.partial(BsoObjective, generator=parts.step.generator))
