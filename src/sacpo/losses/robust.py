"""Robust DPO's loss: DPO's, without bias where a known share of the labels is flipped."""

from __future__ import annotations

import torch


def unbiased(p: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Return the labels `(p - e) / (1 - 2 e)`, whose expectation over flips of a share e is the label before them.

    With them DPO's loss is `[(1 - e) l(d) - e l(-d)] / (1 - 2 e)` for p = 1, `l(d) = -log sigmoid(d)`. They may be
    outside [0, 1], and the loss then has no lower bound.

    Args:
        p: Probabilities that the chosen completions are preferred, as labelled. Shape: (pairs,).
        smoothing: The share e of flipped labels, in (0, 1/2).

    Source: arXiv 2403.00409; TRL's loss type "robust".
    """
    return (p - smoothing) / (1 - 2 * smoothing)
