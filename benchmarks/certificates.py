"""Simulated studies of certificates on a path in q, as the table of docs/certificates.md.

    python -m benchmarks.certificates

Along the path from a helpful to a safe model the unsafe rate falls. A study draws tuning answers, searches the largest
unsafe rate that still looks good, and certifies on other prompts. Conformal policy control (arXiv 2603.02196) is here
by its idea on such a path, conformal risk control: the boldest q whose risk on calibration prompts, with one
unsafe answer added, is at most the bound, for that q and every safer one. It bounds the expected risk, not the chance
that the chosen model exceeds the bound.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from sacpo.stats.certificates import betting_p, binomial_p
from sacpo.stats.judge_error import rates_p, union_limit

STUDIES, DELTA, BOUND, TUNING, SEALED, LABELS = 2000, 0.05, 0.1, 300, 400, 200
GRID = np.linspace(0, 1, 17)
STEPS, MARGINS = 5, (0.3, 0.5, 0.7, 1.0)
PAGE, MARK = Path(__file__).parents[1] / "docs" / "certificates.md", "<!-- simulated -->"
Array = NDArray[np.float64]


def rate(q: Array) -> Array:
    """Return the true unsafe rate at q: from 60 % of the helpful model to 1 % of the safe one."""
    return np.asarray(0.6 * (0.01 / 0.6) ** q)


def searched(rng: np.random.Generator) -> Array:
    """Return candidates that a bisection on tuning prompts found, each for a share of the bound, safest first.

    Shape:
        (studies, candidates), values of q.
    """
    found = []
    for share in MARGINS:
        low, high = np.zeros(STUDIES), np.ones(STUDIES)
        for _ in range(STEPS):
            middle = (low + high) / 2
            good = rng.binomial(TUNING, rate(middle)) / TUNING <= share * BOUND
            low, high = np.where(good, low, middle), np.where(good, middle, high)
        found.append(high)
    return np.stack(found, axis=1)


def last_of_the_sequence(passed: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the boldest candidate before the first that fails, -1 where the first one does; safest first."""
    return np.logical_and.accumulate(passed, axis=1).sum(axis=1) - 1


def fixed_sequence(rng: np.random.Generator) -> Array:
    """Certify searched candidates in sequence by exact binomial tests."""
    q = searched(rng)
    p = binomial_p(rng.binomial(SEALED, rate(q)), SEALED, BOUND)
    return _picked(q, last_of_the_sequence(p <= DELTA))


def clustered(rng: np.random.Generator) -> Array:
    """The same with four answers a prompt that are much alike, by betting on prompts' means."""
    q = searched(rng)
    mean = np.clip(rate(q), 1e-6, None)
    chance = rng.beta(0.5 * mean[..., None], 0.5 * (1 - mean[..., None]), size=(*q.shape, SEALED))
    p = betting_p(rng.binomial(4, chance) / 4, BOUND)
    return _picked(q, last_of_the_sequence(p <= DELTA))


def judged(rng: np.random.Generator, method: str) -> Array:
    """The same behind a judge that is wrong in 5 % of the answers, of which 200 have a true label.

    Methods: "finite" and "rates" correct for the judge, "none" believes it.
    """
    q = searched(rng)
    unsafe = rng.random((*q.shape, SEALED)) < rate(q)[..., None]
    called = unsafe ^ (rng.random(unsafe.shape) < 0.05)
    events, said, true = called.sum(-1), called[..., :LABELS], unsafe[..., :LABELS]
    if method == "finite":
        limit = union_limit(events, SEALED, (true & ~said).sum(-1), LABELS, DELTA)
        return _picked(q, last_of_the_sequence(limit <= BOUND))
    if method == "rates":
        counts = (true & said).sum(-1), true.sum(-1), (~true & said).sum(-1), (~true).sum(-1)
        return _picked(q, last_of_the_sequence(rates_p(events, SEALED, *counts, BOUND) <= DELTA))
    return _picked(q, last_of_the_sequence(binomial_p(events, SEALED, BOUND) <= DELTA))


def bonferroni(rng: np.random.Generator) -> Array:
    """Test the whole grid on the certification prompts, each at delta over its size."""
    q = np.broadcast_to(GRID[::-1], (STUDIES, len(GRID)))
    passed = binomial_p(rng.binomial(SEALED, rate(q)), SEALED, BOUND) <= DELTA / len(GRID)
    boldest = np.where(passed.any(axis=1), len(GRID) - 1 - np.argmax(passed[:, ::-1], axis=1), -1)
    return _picked(q, boldest)


def conformal(rng: np.random.Generator) -> Array:
    """Take the boldest q of the grid whose conformal risk is at most the bound, and that of every safer one."""
    q = np.broadcast_to(GRID[::-1], (STUDIES, len(GRID)))
    uniform = rng.random((STUDIES, 1, SEALED))  # one draw a prompt: risks along the path are monotone
    events = (uniform < rate(q)[..., None]).sum(-1)
    return _picked(q, last_of_the_sequence((events + 1) / (SEALED + 1) <= BOUND))


def _picked(q: Array, place: NDArray[np.int64]) -> Array:
    """Return each study's q; NaN where none was taken."""
    chosen = np.take_along_axis(q, np.maximum(place, 0)[:, None], axis=1)[:, 0]
    return np.where(place >= 0, chosen, np.nan)


WAYS: dict[str, Callable[[np.random.Generator], Array]] = {
    "fixed sequence, candidates of a search": fixed_sequence,
    "the same, four alike answers a prompt": clustered,
    "the same, judge wrong in 5 %, 200 labels, exact": partial(judged, method="finite"),
    "the same, by the judge's error rates": partial(judged, method="rates"),
    "the same judge, believed": partial(judged, method="none"),
    "Bonferroni over a grid of 17": bonferroni,
    "conformal risk control over the grid": conformal,
}


def row(q: Array) -> dict[str, float]:
    """Return what a way does: false and given certificates, the mean true rate of what was taken."""
    taken = ~np.isnan(q)
    true = rate(q[taken])
    false = int((true > BOUND).sum())
    limit = 0.0 if false == 0 else float(stats.beta.ppf(0.01, false, len(q) - false + 1))
    return {
        "false": false / len(q),
        "limit": limit,
        "taken": float(taken.mean()),
        "rate": float(true.mean()) if taken.any() else float("nan"),
    }


def table(seed: int = 0) -> str:
    """Return the table in Markdown."""
    lines = ["| way | model above the bound | its lower 99 % limit | a model is taken | its mean unsafe rate |"]
    lines.append("|---|---|---|---|---|")
    for number, (name, way) in enumerate(WAYS.items()):
        found = row(way(np.random.default_rng([seed, number])))
        cells = [f"{100 * found[key]:.1f} %" for key in ("false", "limit", "taken", "rate")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Write the table into the page."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(MARK)
    after = rest.partition(MARK)[2]
    PAGE.write_text(f"{before}{MARK}\n{table()}\n{MARK}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
