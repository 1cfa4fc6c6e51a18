"""Rates of what is true, from a judge that errs and true labels of a few answers.

Three ways. `union_limit` is valid for any judge and any number of labels: an unsafe answer was either called unsafe or
was missed, so `P(unsafe) <= P(called unsafe) + P(unsafe, called safe)`; each part has an exact bound at half of delta.
`rates_p` corrects the judge's rate by its true and false positive rates and pays for their variance; it is a normal
approximation. `powered_estimate` is an estimate only: where hardly anything is unsafe its interval is too short.

Source: Feng et al., Noisy but Valid, arXiv 2601.20913; Angelopoulos et al., Prediction-powered inference, 2301.09633.
"""

from __future__ import annotations

import math

import numpy as np
import scipy
from numpy.typing import NDArray

from sacpo.errors import DataError

Floats = NDArray[np.float64]
Numbers = NDArray[np.number] | float | int
SHARE = 0.5
"""Of delta, for the judged rate; the rest is for what the judge misses."""
HALVINGS = 50


def exact_limit(events: Numbers, n: Numbers, delta: Numbers) -> Floats:
    """Return the exact upper limit of a rate at level delta (Clopper and Pearson), element by element."""
    k, total = np.broadcast_arrays(np.asarray(events, dtype=float), np.asarray(n, dtype=float))
    with np.errstate(invalid="ignore"):
        limit = scipy.stats.beta.ppf(1 - np.asarray(delta), k + 1, total - k)
    return np.asarray(np.where(k >= total, 1.0, limit))


def union_limit(called: Numbers, n: Numbers, missed: Numbers, labels: Numbers, delta: Numbers) -> Floats:
    """Return an upper limit of the true rate that holds with 1 - delta whatever the judge does.

    Args:
        called: Answers that the judge called unsafe.
        n: Independent answers that it judged.
        missed: Labelled answers that are unsafe and that it called safe.
        labels: Answers with a true label, drawn at random from those n.
        delta: The chance of an error; half of it for each part.

    Shape:
        all and the result: broadcastable.
    """
    level = np.asarray(delta)
    return exact_limit(called, n, SHARE * level) + exact_limit(missed, labels, (1 - SHARE) * level)


def union_p(called: int, n: int, missed: int, labels: int, bound: float) -> float:
    """Return the p-value of "the true rate is at least the bound": the least delta whose `union_limit` meets it."""
    if float(union_limit(called, n, missed, labels, 1.0)) > bound:
        return 1.0
    low, high = -700.0, 0.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        passes = float(union_limit(called, n, missed, labels, math.exp(middle))) <= bound
        low, high = (low, middle) if passes else (middle, high)
    return math.exp(high)


def rates_p(
    called: Numbers, n: Numbers, hits: Numbers, unsafe: Numbers, alarms: Numbers, safe: Numbers, bound: Numbers
) -> Floats:
    """Return the p-value of "the true rate is at least the bound" by the judge's true and false positive rates.

    At the bound the judge calls `b TPR + (1 - b) FPR` of the answers unsafe. Its own rate must lie below that by more
    than the sampling of all three explains. Rates are smoothed by half a count, so that none has a variance of 0.

    Args:
        called: Answers that the judge called unsafe.
        n: Independent answers that it judged.
        hits: Unsafe labelled answers that it called unsafe.
        unsafe: Labelled answers that are unsafe.
        alarms: Safe labelled answers that it called unsafe.
        safe: Labelled answers that are safe.
        bound: In (0, 1).

    Shape:
        all and the result: broadcastable. It is 1 where the judge does not call unsafe answers unsafe more often.
    """
    rate, rate_var = _smoothed(called, n)
    true, true_var = _smoothed(hits, unsafe)
    false, false_var = _smoothed(alarms, safe)
    b = np.asarray(bound, dtype=float)
    expected = b * true + (1 - b) * false
    z = (rate - expected) / np.sqrt(rate_var + b**2 * true_var + (1 - b) ** 2 * false_var)
    return np.asarray(np.where(true > false, scipy.stats.norm.cdf(z), 1.0))


def _smoothed(events: Numbers, n: Numbers) -> tuple[Floats, Floats]:
    total = np.asarray(n, dtype=float) + 1
    rate = (np.asarray(events, dtype=float) + 0.5) / total
    return rate, rate * (1 - rate) / total


def rates_limit(called: int, n: int, hits: int, unsafe: int, alarms: int, safe: int, delta: float) -> float:
    """Return the least bound that `rates_p` certifies at level delta; 1 where none is."""
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        passes = float(rates_p(called, n, hits, unsafe, alarms, safe, middle)) <= delta
        low, high = (low, middle) if passes else (middle, high)
    return high


def powered_estimate(judged: Floats, labelled: Floats, truth: Floats) -> tuple[float, float]:
    """Return prediction-powered mean and standard error: the judge's mean, corrected by its mean error on labels.

    An estimate, never a certificate: where no labelled answer shows an error its standard error knows of none.

    Args:
        judged: What the judge said of answers without a label, 0 or 1.
        labelled: What it said of those with one.
        truth: Their labels.

    Raises:
        DataError: There are no labels, or not one each.
    """
    if len(labelled) != len(truth) or len(truth) < 2 or len(judged) < 2:
        raise DataError("an estimate needs two answers with a label and two without", value=len(truth))
    error = np.asarray(truth, dtype=float) - np.asarray(labelled, dtype=float)
    mean = float(np.mean(judged) + error.mean())
    variance = np.var(judged, ddof=1) / len(judged) + error.var(ddof=1) / len(error)
    return mean, math.sqrt(float(variance))
