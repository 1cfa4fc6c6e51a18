"""Learned scores that are linear in features, `f = w . phi` with `|phi| <= 1` and `|w| <= B`, and their uncertainty.

`U_D(x,y) = |phi(x,y)|` in the norm of `Sigma_D^-1`, where `Sigma_D = kappa I + sum z z^T` over the data. z is the
difference of a pair's features, or the features of an unpaired completion.

Source: section 5 of the paper.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from sacpo.errors import DataError

Floats = npt.NDArray[np.float64]
NEWTON_STEPS = 100


def gram(rows: Floats, kappa: float = 1.0) -> Floats:
    """Return `Sigma_D = kappa I + sum z z^T`. Shape: (records, d) to (d, d)."""
    found: Floats = kappa * np.eye(rows.shape[1]) + rows.T @ rows
    return found


def uncertainty(features: Floats, sigma: Floats) -> Floats:
    """Return U_D of each completion. Shape: (..., d) and (d, d) to (...)."""
    flat = features.reshape(-1, features.shape[-1])
    solved = np.linalg.solve(sigma, flat.T)
    found: Floats = np.sqrt(np.maximum((flat.T * solved).sum(0), 0.0)).reshape(features.shape[:-1])
    return found


def confidence_width(delta: float, *, ceiling: float) -> float:
    """Return alpha for unpaired data, `B (1 + sqrt(ln(2 / delta) / 2))`.

    It bounds the error of one completion that is chosen before the data are seen; it knows neither d nor how many
    completions there are.
    """
    return ceiling * (1 + math.sqrt(math.log(2 / delta) / 2))


def paired_width(delta: float, d: int, *, ceiling: float, kappa: float = 1.0) -> float:
    """Return alpha for pairs at C = 1: `sqrt(gamma^2 (d + ln(1 / delta)) + kappa B^2)`, `gamma = 2 + e^B + e^-B`.

    The paper does not give C, so a bound that uses this is an orientation.
    """
    gamma = 2 + math.exp(ceiling) + math.exp(-ceiling)
    return math.sqrt(gamma**2 * (d + math.log(1 / delta)) + kappa * ceiling**2)


def ridge(rows: Floats, labels: Floats, kappa: float = 1.0) -> Floats:
    """Return `Sigma_D^-1 sum phi label`. Shape: (records, d) and (records,) to (d,)."""
    return np.asarray(np.linalg.solve(gram(rows, kappa), rows.T @ labels), float)


def bradley_terry(rows: Floats, preferred: Floats, kappa: float = 1.0) -> Floats:
    """Fit `P(first is preferred) = sigmoid(w . dphi)` by Newton's method, with the penalty `kappa |w|^2 / 2`.

    Args:
        rows: Differences of features, first minus second. Shape: (pairs, d).
        preferred: Whether the first was preferred, or how often. Shape: (pairs,).
        kappa: The penalty. It is what fixes the scale where labels are perfectly separable.

    Raises:
        DataError: Shapes differ, a number is not finite, a preference is outside [0, 1], or kappa is not positive.
    """
    if rows.ndim != 2 or preferred.shape != rows.shape[:1] or not rows.size:
        raise DataError("pairs and preferences do not fit", value=[list(rows.shape), list(preferred.shape)])
    if not np.isfinite(rows).all() or not ((preferred >= 0) & (preferred <= 1)).all():
        raise DataError("features must be finite and preferences between 0 and 1", where="pairs")
    if not kappa > 0:
        raise DataError("the penalty must be positive", where="kappa", value=kappa, allowed="> 0")
    weights = np.zeros(rows.shape[1])
    for _ in range(NEWTON_STEPS):
        p = expit(rows @ weights)
        slope = rows.T @ (p - preferred) + kappa * weights
        if np.abs(slope).max() < 1e-10 * len(rows):
            break
        curvature = (rows * (p * (1 - p))[:, None]).T @ rows + kappa * np.eye(len(weights))
        weights = weights - _halved(rows, preferred, kappa, weights, np.linalg.solve(curvature, slope))
    return weights


def _halved(rows: Floats, preferred: Floats, kappa: float, weights: Floats, step: Floats) -> Floats:
    """Return the Newton step, halved until the penalised loss falls."""

    def loss(w: Floats) -> float:
        m = rows @ w
        return float((np.logaddexp(0, m) - preferred * m).sum() + kappa * (w @ w) / 2)

    before = loss(weights)
    while loss(weights - step) > before + 1e-12 * abs(before) and np.abs(step).max() > 1e-14:
        step = step / 2
    return step
