"""Robust DPO as an objective: DPO without bias from a known share of flipped labels."""

from __future__ import annotations

import functools

import torch

from sacpo.align.objectives.dpo import DpoObjective
from sacpo.align.objectives.pairs import make_of_pairs
from sacpo.align.objectives.registry import Made, Parts
from sacpo.losses.robust import unbiased


class RobustObjective(DpoObjective):
    """[(1 - e) l(d) - e l(-d)] / (1 - 2 e), l(d) = -log sigmoid(d), e the share of flipped labels."""

    def labels(self, p: torch.Tensor) -> torch.Tensor:
        """Return unbiased estimates of the labels before they were flipped."""
        return unbiased(p, self.smoothing)


def make(parts: Parts) -> Made:
    """Return the objective of a step; errors as of `make_of_pairs`."""
    return make_of_pairs(parts, functools.partial(RobustObjective, smoothing=parts.step.label_smoothing))
