"""DPO as an objective: preference pairs with soft labels and offsets against cached reference log-probs."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch.nn.functional import logsigmoid

from sacpo.align.objectives.objective import FirstLoss
from sacpo.align.objectives.pairs import PairLogps, PairObjective, make_of_pairs
from sacpo.align.objectives.registry import Made, Parts
from sacpo.losses.dpo import dpo_loss, smoothed
from sacpo.losses.pair_terms import PairTerms


class DpoObjective(PairObjective):
    """-p log sigmoid(d) - (1 - p) log sigmoid(-d), d = beta [log pi/pi_ref (chosen) - log pi/pi_ref (rejected)] - o.

    Args:
        pairs: As of `PairObjective`, whose other arguments follow.
        smoothing: The share of labels that is taken to be flipped.
        others: Those arguments.
    """

    takes_offsets = True

    def __init__(self, *pairs: Any, smoothing: float = 0.0, **others: Any) -> None:
        super().__init__(*pairs, **others)
        self.smoothing = smoothing

    @property
    def first_loss(self) -> FirstLoss:
        """The loss at d = 0, whatever p is, or what the offsets make of it."""
        if not self.offsets.any():
            return FirstLoss(math.log(2), "ln 2")
        p = self.labels(self.p)
        value = (-p * logsigmoid(-self.offsets) - (1 - p) * logsigmoid(self.offsets)).mean().item()
        return FirstLoss(value, f"{value:.6g} with these offsets")

    def labels(self, p: torch.Tensor) -> torch.Tensor:
        """Return what the loss takes as preference probabilities."""
        return smoothed(p, self.smoothing)

    def terms(self, logps: PairLogps) -> PairTerms:
        """Return each pair's loss and rewards."""
        offset = logps.offset if self.offsets.any() else None
        policy, reference = (logps.chosen, logps.rejected), (logps.ref_chosen, logps.ref_rejected)
        return dpo_loss(*policy, *reference, beta=self.beta, p=self.labels(logps.p), offset=offset)


def make(parts: Parts) -> Made:
    """Return the objective of a step; errors as of `make_of_pairs`."""
    return make_of_pairs(parts, functools.partial(DpoObjective, smoothing=parts.step.label_smoothing))
