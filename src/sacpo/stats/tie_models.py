"""Bradley-Terry likelihoods with ties, and a Newton fit of many resamples at once.

For a pair with rating difference `d = theta_i - theta_j` in nats:
- Davidson (1970): win, tie and loss have probabilities proportional to `e^(d/2)`, `nu`, `e^(-d/2)`.
- Rao and Kupper (1967): `P(win) = sigmoid(d - c)`, `P(loss) = sigmoid(-d - c)`, `c = log kappa > 0`, else a tie.
Both log-likelihoods are concave in the ratings and in `log nu`, or `c`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray

from sacpo.errors import DataError

Floats = NDArray[np.float64]
ITERATIONS = 60
HALVINGS = 30
CLOSE = 1e-9
ENOUGH = 1e-6
"""Nats that are left of a step after all iterations: where the likelihood is flat, rounding keeps steps above CLOSE."""


class Curve(NamedTuple):
    """A pair's log-likelihood with its derivatives by d and by the tie parameter; Shape: (draws, pairs) each."""

    value: Floats
    d: Floats
    tie: Floats
    d_d: Floats
    d_tie: Floats
    tie_tie: Floats


def davidson(counts: Floats, d: Floats, log_nu: Floats) -> Curve:
    """Return Davidson's log-likelihood.

    Shape:
        counts: (draws, pairs, 3: win, tie, loss). d, log_nu: (draws, pairs).
    """
    win, tie, loss = np.moveaxis(counts, -1, 0)
    n = win + tie + loss
    logits = np.stack([d / 2, log_nu, -d / 2], axis=-1)
    norm = scipy.special.logsumexp(logits, axis=-1)
    p_win, p_tie, p_loss = np.moveaxis(np.exp(logits - norm[..., None]), -1, 0)
    drift = (p_win - p_loss) / 2
    return Curve(
        (counts * logits).sum(axis=-1) - n * norm,
        (win - loss) / 2 - n * drift,
        tie - n * p_tie,
        -n * ((p_win + p_loss) / 4 - drift**2),
        n * drift * p_tie,
        -n * p_tie * (1 - p_tie),
    )


def rao_kupper(counts: Floats, d: Floats, c: Floats) -> Curve:
    """Return Rao and Kupper's log-likelihood, minus infinity at c <= 0; shapes as in `davidson`.

    Uses `P(tie) = sigmoid(c - d) sigmoid(c + d) (1 - e^(-2c))`.
    """
    win, tie, loss = np.moveaxis(counts, -1, 0)
    safe = np.where(c > 0, c, 1.0)
    up, down = scipy.special.expit(c - d), scipy.special.expit(c + d)
    lost_up, lost_down = (win + tie) * up * (1 - up), (loss + tie) * down * (1 - down)
    gap = np.expm1(2 * safe)
    between = scipy.special.log_expit(c - d) + scipy.special.log_expit(c + d) + np.log(-np.expm1(-2 * safe))
    value = win * scipy.special.log_expit(d - c) + loss * scipy.special.log_expit(-d - c) + tie * between
    return Curve(
        np.where(c > 0, value, -np.inf),
        (win + tie) * up - (loss + tie) * down,
        2 * tie + tie * 2 / gap - (win + tie) * up - (loss + tie) * down,
        -lost_up - lost_down,
        lost_up - lost_down,
        -lost_up - lost_down - tie * 4 * np.exp(2 * safe) / gap**2,
    )


class TieModel(NamedTuple):
    """A tie model: its curve, the tie parameter where a fit starts, and its value when no tie was seen."""

    name: str
    curve: Callable[[Floats, Floats, Floats], Curve]
    start: float
    without_ties: float


TIE_MODELS = {
    "davidson": TieModel("Davidson", davidson, -1.0, -60.0),
    "rao-kupper": TieModel("Rao-Kupper", rao_kupper, 0.5, 1e-9),
}


def fit(counts: Floats, design: Floats, model: TieModel, ridge: Floats) -> tuple[Floats, Floats]:
    """Maximise the likelihood of every resample, less `ridge / 2 (|theta|^2 + tie^2)`, by Newton steps with halving.

    Args:
        counts: Wins, ties and losses of each pair's first model.
        design: Each pair's difference in terms of the free ratings (the baseline's is fixed at 0).
        model: The tie model.
        ridge: Each resample's penalty; 0 for the plain maximum likelihood.

    Shape:
        counts: (draws, pairs, 3). design: (pairs, models - 1). ridge: (draws,).

    Returns:
        Ratings in nats (draws, models - 1) and tie parameters (draws,).

    Raises:
        DataError: A fit did not converge.
    """
    draws, free = len(counts), design.shape[1]
    tied = counts[..., 1].sum(axis=1) > 0
    point = np.zeros((draws, free + 1))
    point[:, -1] = np.where(tied, model.start, model.without_ties)
    value, gradient, hessian = _penalised(counts, design, model, ridge, tied, point)
    for _ in range(ITERATIONS):
        step = -np.linalg.solve(hessian, gradient[..., None])[..., 0]
        if np.abs(step).max() < CLOSE:
            break
        scale = np.ones(draws)
        for _ in range(HALVINGS):
            tried = _penalised(counts, design, model, ridge, tied, point + scale[:, None] * step)
            worse = ~(tried[0] >= value - 1e-12 * np.abs(value))
            if not worse.any():
                break
            scale[worse] /= 2
        point = point + scale[:, None] * step
        value, gradient, hessian = tried
    if np.abs(step).max() > ENOUGH:
        raise DataError("the Bradley-Terry fit did not converge", value=f"last step {np.abs(step).max():.1e} nats")
    return point[:, :-1], point[:, -1]


def _penalised(
    counts: Floats, design: Floats, model: TieModel, ridge: Floats, tied: NDArray[np.bool_], point: Floats
) -> tuple[Floats, Floats, Floats]:
    """Return value, gradient and Hessian; the tie parameter is frozen where no tie was seen."""
    ratings, tie = point[:, :-1], point[:, -1]
    difference = ratings @ design.T
    curve = model.curve(counts, difference, np.broadcast_to(tie[:, None], difference.shape))
    free = design.shape[1]
    hessian = np.zeros((len(point), free + 1, free + 1))
    hessian[:, :free, :free] = (design.T * curve.d_d[:, None, :]) @ design
    cross = np.where(tied[:, None], curve.d_tie @ design, 0.0)
    hessian[:, :free, -1] = hessian[:, -1, :free] = cross
    hessian[:, -1, -1] = np.where(tied, curve.tie_tie.sum(axis=1), -1.0)
    gradient = np.column_stack([curve.d @ design, np.where(tied, curve.tie.sum(axis=1), 0.0)])
    pulled = np.column_stack([ratings, np.where(tied, tie, 0.0)])
    gradient -= ridge[:, None] * pulled
    diagonal = np.arange(free + 1)
    hessian[:, diagonal, diagonal] -= ridge[:, None]
    value = curve.value.sum(axis=1) - ridge / 2 * (pulled**2).sum(axis=1)
    return value, gradient, hessian
