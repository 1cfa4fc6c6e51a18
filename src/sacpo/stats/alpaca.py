"""AlpacaEval's published figures from raw verdicts, with its own conventions and units (percent)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sacpo.errors import DataError


@dataclass(frozen=True, slots=True)
class LeaderboardRow:
    """One model's row of the leaderboard; rates in percent, as published.

    Attributes:
        win_rate: Mean preference for the model.
        standard_error: Of that mean, over instructions.
        discrete_win_rate: The same with every preference rounded to a win, a draw (half) or a loss.
        n_wins, n_wins_base, n_draws, n_total: Counts; n_total leaves out what has no verdict.
    """

    win_rate: float
    standard_error: float
    discrete_win_rate: float
    n_wins: int
    n_wins_base: int
    n_draws: int
    n_total: int


def leaderboard_row(preferences: Sequence[float | None]) -> LeaderboardRow:
    """Compute a model's leaderboard row from raw preferences.

    A preference lies in [1, 2]: 1 for the baseline, 2 for the model, between them a probability. 0 and 1.5 are draws;
    None has no verdict and is dropped.

    Raises:
        DataError: A preference is outside these values, or fewer than two were read.
    """
    probabilities = win_probabilities(preferences)
    n = len(probabilities)
    if n < 2:
        raise DataError("a leaderboard row needs at least two verdicts", value=n)
    wins, draws = int((probabilities > 0.5).sum()), int((probabilities == 0.5).sum())
    return LeaderboardRow(
        win_rate=100 * math.fsum(probabilities) / n,
        standard_error=100 * float(probabilities.std(ddof=1)) / math.sqrt(n),
        discrete_win_rate=100 * (wins + draws / 2) / n,
        n_wins=wins,
        n_wins_base=n - wins - draws,
        n_draws=draws,
        n_total=n,
    )


def win_probabilities(preferences: Sequence[float | None]) -> np.ndarray:
    """Return the model's win probabilities in [0, 1] of the preferences that were read.

    Raises:
        DataError: A preference is neither 0 nor in [1, 2].
    """
    read = np.array([preference for preference in preferences if preference is not None], dtype=np.float64)
    wrong = ~((read == 0) | ((read >= 1) & (read <= 2)))
    if wrong.any():
        raise DataError("not a preference", value=float(read[wrong][0]), allowed="0 or 1.5 (draw), 1 to 2, null")
    return np.where(read == 0, 0.5, read - 1)


def published_length_controlled(not_gamed_baseline: float, difficulty_weight: float, difficulty: ArrayLike) -> float:
    """Return AlpacaEval's length-controlled win rate in percent from its published coefficients.

    `LC = 100 mean_i sigmoid(w_base + w_difficulty difficulty_i)`: the fitted preference with the length term at zero.

    Args:
        not_gamed_baseline: The model's intercept `w_base`.
        difficulty_weight: Its coefficient `w_difficulty` of the instruction's difficulty.
        difficulty: The instructions' difficulties; a model with n_total verdicts uses the first n_total.
    """
    logits = not_gamed_baseline + difficulty_weight * np.asarray(difficulty, dtype=np.float64)
    return 100 * float(np.mean(1 / (1 + np.exp(-logits))))
