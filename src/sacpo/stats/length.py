"""Length-controlled win rates: what a model would win if its answers were as long as the baseline's."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from sacpo.errors import DataError
from sacpo.plain import JsonObject
from sacpo.stats.estimate import Estimate
from sacpo.stats.intervals import win_ends, win_rate

RIDGE_INTERCEPT = 1e-3
RIDGE_SLOPE = 1.0
ITERATIONS = 100
LONGEST_STEP = 2.0
CLOSE = 1e-10

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LengthControlled:
    """A model's win rate with the effect of length taken out.

    Attributes:
        controlled: The length-controlled win rate.
        raw: The plain win rate of the same items.
        length_slope: Log-odds that a difference of many standard deviations in length brings (tanh = 1); above 0 the
            judge favours longer answers.
        mean_length_difference: Mean of this model's length less the baseline's, in the lengths' unit.
    """

    controlled: Estimate
    raw: Estimate
    length_slope: float
    mean_length_difference: float

    def to_json(self) -> JsonObject:
        """Return the record as a JSON-ready dictionary."""
        return {
            "controlled": self.controlled.to_json(),
            "raw": self.raw.to_json(),
            "length_slope": self.length_slope,
            "mean_length_difference": self.mean_length_difference,
        }


def length_controlled_win_rate(
    preferences: Sequence[float | None],
    lengths: Sequence[float],
    baseline_lengths: Sequence[float],
    *,
    difficulty: Sequence[float] | None = None,
    clusters: Sequence[Hashable] | None = None,
    draws: int = 200,
    seed: int = 0,
) -> LengthControlled:
    """Estimate one model's length-controlled win rate on any data.

    Fits `P(win_i) = sigmoid(a + b tanh(dlen_i / sd(dlen)) + c difficulty_i)` and returns `mean_i sigmoid(a + c
    difficulty_i)`. b and c have Gaussian priors of precision 1 and a of .001, so that separable data, equal lengths
    and a model that always wins all have a finite fit; equal lengths give the plain win rate. The interval has the
    variance of a prompt bootstrap and the ends of `win_rate`'s.

    Source: AlpacaEval 2 (Dubois et al. 2024). Deviation: fitted for each model alone, with a given difficulty instead
    of one estimated jointly over a leaderboard, whose fit needs many models and is NaN where a preference is constant.

    Args:
        preferences: The model's wins, in [0, 1]; None where no verdict could be read.
        lengths: Its answers' lengths.
        baseline_lengths: The baseline's, in the same unit.
        difficulty: How hard each instruction is, any scale (standardised here); None leaves the term out.
        clusters: Each item's cluster; None when items are independent.
        draws: Bootstrap resamples.
        seed: Of the resampling.

    Raises:
        DataError: The arguments differ in length, or a number is not finite or not in its range.
    """
    columns = _columns(preferences, lengths, baseline_lengths, difficulty)
    read = np.array([value is not None for value in preferences], dtype=bool)
    unparsed = int((~read).sum())
    names = _names(clusters, len(read))
    order = _canonical(columns, names, read)
    won, gap, hard = (column[order] for column in columns)
    labels = [names[i] for i in order]
    raw = win_rate(won.tolist(), labels, unparsed=unparsed)
    if not len(order):
        return LengthControlled(raw, raw, 0.0, 0.0)
    codes = np.unique([repr(label) for label in labels], return_inverse=True)[1]
    design = np.column_stack([np.ones_like(won), np.tanh(_over_sd(gap)), _over_sd(hard - hard.mean())])
    weights = _resamples(codes, draws, seed)
    fitted = _fit(won, design, weights)
    rates = _at_equal_length(fitted, design, weights)
    controlled = _estimate(float(rates[0]), rates[1:], codes, unparsed)
    return LengthControlled(controlled, raw, float(fitted[0, 1]), float(gap.mean()))


def _columns(
    preferences: Sequence[float | None],
    lengths: Sequence[float],
    baseline_lengths: Sequence[float],
    difficulty: Sequence[float] | None,
) -> tuple[Floats, Floats, Floats]:
    hard = [0.0] * len(preferences) if difficulty is None else difficulty
    sizes = {len(preferences), len(lengths), len(baseline_lengths), len(hard)}
    if len(sizes) > 1:
        raise DataError("one length of each answer, and one difficulty, for each preference", value=sorted(sizes))
    won = np.array([0.5 if value is None else value for value in preferences], dtype=np.float64)
    gap = np.asarray(lengths, dtype=np.float64) - np.asarray(baseline_lengths, dtype=np.float64)
    hardness = np.asarray(hard, dtype=np.float64)
    if not (np.isfinite(gap).all() and np.isfinite(hardness).all()):
        raise DataError("a length or a difficulty is not a finite number")
    if not ((won >= 0) & (won <= 1)).all():
        raise DataError("a preference lies outside [0, 1]", allowed="a win's probability, or None")
    return won, gap, hardness


def _names(clusters: Sequence[Hashable] | None, n: int) -> list[Hashable]:
    names: list[Hashable] = list(range(n)) if clusters is None else list(clusters)
    if len(names) != n:
        raise DataError("as many cluster labels as preferences are needed", value=len(names), allowed=n)
    return names


def _canonical(columns: tuple[Floats, ...], names: list[Hashable], read: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the read items in an order that does not depend on the one they came in."""
    won, gap, hard = columns
    return np.array(
        sorted(np.flatnonzero(read), key=lambda i: (repr(names[i]), won[i], gap[i], hard[i])), dtype=np.int64
    )


def _over_sd(values: Floats) -> Floats:
    """Return values over their standard deviation; zeros if they do not vary."""
    sd = values.std()
    return values / sd if sd > 1e-12 * max(1.0, float(np.abs(values).max())) else np.zeros_like(values)


def _resamples(codes: NDArray[np.int64], draws: int, seed: int) -> Floats:
    """Return each item's count: once in the first row, then in resamples of clusters; Shape: (1 + draws, items)."""
    m = int(codes.max()) + 1
    drawn = np.random.default_rng([seed, m]).multinomial(m, np.full(m, 1 / m), size=draws)
    return np.concatenate([np.ones((1, codes.size)), drawn[:, codes]])


def _fit(won: Floats, design: Floats, weights: Floats) -> Floats:
    """Return the penalised logistic coefficients of every resample; Shape: (draws, columns)."""
    columns = design.shape[1]
    ridge = np.array([RIDGE_INTERCEPT] + [RIDGE_SLOPE] * (columns - 1))
    squares = (design[:, :, None] * design[:, None, :]).reshape(len(won), -1)
    point = np.zeros((len(weights), columns))
    for _ in range(ITERATIONS):
        chance = scipy.special.expit(point @ design.T)
        gradient = (weights * (won - chance)) @ design - ridge * point
        information = ((weights * chance * (1 - chance)) @ squares).reshape(-1, columns, columns) + np.diag(ridge)
        step = np.linalg.solve(information, gradient[..., None])[..., 0]
        point = point + step * np.minimum(1.0, LONGEST_STEP / np.maximum(np.abs(step).max(axis=1), CLOSE))[:, None]
        if np.abs(step).max() < CLOSE:
            return point
    raise DataError("the length-controlled fit did not converge", value=f"last step {np.abs(step).max():.1e}")


def _at_equal_length(fitted: Floats, design: Floats, weights: Floats) -> Floats:
    logits = fitted[:, :1] + fitted[:, 2:] @ design[:, 2:].T
    return (weights * scipy.special.expit(logits)).sum(axis=1) / weights.sum(axis=1)


def _estimate(value: float, resampled: Floats, codes: NDArray[np.int64], unparsed: int) -> Estimate:
    sizes = np.bincount(codes).astype(np.float64)
    m, n = sizes.size, codes.size
    if m < 2 or resampled.size < 2:
        return Estimate(value, 0.0, 1.0, n, m, unparsed, "none: one cluster or no resamples")
    low, high = win_ends(value, float(resampled.var(ddof=1)) * m / (m - 1), float((sizes**2).sum()) / n**2, m)
    method = f"length-controlled logistic, {resampled.size} prompt bootstraps, Wilson ends"
    return Estimate(value, float(low), float(high), n, m, unparsed, method)
