"""A Bradley-Terry head on frozen features whose scores are in logits of the preference data, as far as these tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar

from sacpo.errors import DataError
from sacpo.theory.linear import bradley_terry

Floats = npt.NDArray[np.float64]
PENALTIES = (0.1, 1.0, 10.0, 100.0)
LEAST_PAIRS = 20
COOLEST, HOTTEST = 0.05, 20.0
"""The least and the most that scores are multiplied by."""


@dataclass(frozen=True)
class CalibratedHead:
    """A head `f = factor * w . phi`.

    Attributes:
        weights: w. Shape: (d,).
        factor: What calibrates w on held-out pairs.
        accuracy: Share of held-out pairs whose preferred side it prefers, ties left out.
        separable: All pairs, held-out ones too, are told apart without an error and with certain labels: then the
            data do not identify a scale, and it is the penalty that fixes it.
        pairs, heldout: Pairs that it was fitted to, and others.
        penalty: Of |w|^2 / 2, chosen on held-out pairs.
    """

    weights: Floats
    factor: float
    accuracy: float
    separable: bool
    pairs: int
    heldout: int
    penalty: float

    def scores(self, features: Floats) -> Floats:
        """Return scores in logits, up to a constant of each prompt. Shape: (..., d) to (...)."""
        found: Floats = self.factor * (features @ self.weights)
        return found


def calibrated_head(rows: Floats, preferred: Floats, *, heldout: float = 0.25) -> CalibratedHead:
    """Fit a head to the first pairs, and its penalty and factor on the last.

    Args:
        rows: Differences of features, first completion minus second. Shape: (pairs, d).
        preferred: The probability that the first is preferred. Shape: (pairs,).
        heldout: Share of pairs that it is not fitted to; they should be of other prompts.

    Raises:
        DataError: There are too few pairs, or they are none.
    """
    n = len(rows) - int(heldout * len(rows))
    if len(rows) - n < LEAST_PAIRS:
        raise DataError(
            "too few preference pairs to learn a score from",
            value=len(rows),
            allowed=f"{int(LEAST_PAIRS / heldout)} or more",
            do="give more pairs, or a judge that scores answers",
        )
    scale = float(np.sqrt((rows[:n] ** 2).sum(1).mean())) or 1.0
    fits = [(penalty, bradley_terry(rows[:n] / scale, preferred[:n], penalty) / scale) for penalty in PENALTIES]
    calibrated = [
        (penalty, weights, calibrating_factor(rows[n:] @ weights, preferred[n:])) for penalty, weights in fits
    ]
    penalty, weights, factor = min(calibrated, key=lambda fit: pair_loss(fit[2] * (rows[n:] @ fit[1]), preferred[n:]))
    decided = preferred != 0.5
    right = ((rows @ weights > 0) == (preferred > 0.5))[decided]
    certain = bool(np.isin(preferred[decided], (0.0, 1.0)).all())
    separable = certain and bool(right.size) and bool(right.all())
    late = right[int(decided[:n].sum()) :]
    accuracy = float(late.mean()) if late.size else float("nan")
    return CalibratedHead(weights, 1.0 if separable else factor, accuracy, separable, n, len(rows) - n, penalty)


def calibrating_factor(margins: Floats, preferred: Floats) -> float:
    """Return the factor of margins under which held-out preferences are likeliest."""
    found = minimize_scalar(
        lambda log: pair_loss(np.exp(log) * margins, preferred),
        bounds=(np.log(COOLEST), np.log(HOTTEST)),
        method="bounded",
    )
    return float(np.exp(found.x))


def pair_loss(margins: Floats, preferred: Floats) -> float:
    """Return the mean negative log-likelihood of pairs whose margins are these logits, nats."""
    return float((np.logaddexp(0, margins) - preferred * margins).mean())
