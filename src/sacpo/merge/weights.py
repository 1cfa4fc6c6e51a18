"""A merge as a linear combination of checkpoints: P-SACPO, naive merging and task vectors are one mechanism."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch

Combination = dict[Path, float]
"""Checkpoint folder: its coefficient. The last one is the later model, whose configuration the merged model takes."""


def linear(models: Sequence[Path], weights: Sequence[float]) -> Combination:
    """Return `sum_k w_k model_k`, of two models `(1 - q) first + q later`.

    Between a step's reference and the step's model this is P-SACPO, between two models trained apart from the same
    base it is naive merging. Source: section 6 of arXiv 2404.11049.
    """
    return _summed([*zip(models, weights, strict=True)])


def task_vectors(models: Sequence[Path], base: Path, weights: Sequence[float], scale: float = 1.0) -> Combination:
    """Return `first + sum_k w_k scale (model_k - base)` over the models behind the first: changes, not normalised.

    Of two models with `w = q` and `q * scale = 1` it is `base + (first - base) + (later - base)`. The first model
    counts in full, so its own weight has no effect. Source: arXiv 2212.04089.
    """
    first, *others = models
    added = [(model, weight * scale) for model, weight in zip(others, weights[1:], strict=True)]
    return _summed([(base, -math.fsum(weight for _, weight in added)), (first, 1.0), *added])


def tabulate(combinations: Sequence[Combination]) -> tuple[list[Path], list[list[float]]]:
    """Return the checkpoints that combinations share, and one row of coefficients for each combination.

    A checkpoint that a combination does not name has coefficient 0 in its row; the later model stays last.
    """
    terms = list(dict.fromkeys(term for combination in combinations for term in [*combination][:-1]))
    later = {[*combination][-1] for combination in combinations}
    if len(later) != 1:
        raise ValueError("combinations that are merged in one pass have the same later model")
    terms = [*(term for term in terms if term not in later), *later]
    return terms, [[combination.get(term, 0.0) for term in terms] for combination in combinations]


def combine(
    parts: Sequence[torch.Tensor], rows: Sequence[Sequence[float]], dtype: torch.dtype | None = None
) -> list[torch.Tensor]:
    """Return `sum_k c_k parts_k` for each row of coefficients `c`, rounded once to the last part's dtype or `dtype`.

    The sum runs in float32 (float64 if a part is float64), in the parts' order, one rounded product and one rounded
    sum at a time, so that its bits do not depend on how a tensor is cut into pieces. Coefficients 0 are skipped and a
    coefficient 1 alone returns the part itself, so that the ends of a sweep are exact.

    Args:
        parts: Floating-point tensors. Shape: all the same, any.
        rows: One coefficient for each part in each row; not all 0.
        dtype: The results' dtype.
    """
    dtype = dtype or parts[-1].dtype
    summed = torch.float64 if any(part.dtype == torch.float64 for part in parts) else torch.float32
    wide = [part.to(summed) for part in parts]
    results = []
    for row in rows:
        used = [k for k, coefficient in enumerate(row) if coefficient != 0.0]
        if len(used) == 1 and row[used[0]] == 1.0:
            results.append(parts[used[0]].to(dtype))
            continue
        total = wide[used[0]] * row[used[0]]
        for k in used[1:]:
            total += wide[k] * row[k]
        results.append(total.to(dtype))
    return results


def _summed(terms: Sequence[tuple[Path, float]]) -> Combination:
    """Add up the coefficients of a checkpoint that appears twice, keeping the place of its last appearance."""
    combination: Combination = {}
    for path, coefficient in terms:
        combination[path] = combination.pop(path, 0.0) + coefficient
    return combination
