"""What a step would reach at every strength, from samples of the model that it starts from.

    pi_s(y|x) ∝ pi_1(y|x) exp(g(x,y) / s),    s = beta/lambda                                            (eq. 11)

With answers y_1..y_n ~ pi_1(.|x) expectations under pi_s are averages with the self-normalised weights
`w_i = exp(g_i / s) / sum_j exp(g_j / s)`: no step needs to be trained. g is in logits of the preference data. The
figures do not know two things: a training reaches only part of the tilt (see `realised`), and what was not sampled.

Where pi_1 hardly gives the answers that the step needs, samples of the model before it, pi_0, help. With as many of
each, all are draws from the mixture (pi_1 + pi_0) / 2, and their weights are `exp(g / s + offset)` with
`offset = log pi_1 - log((pi_1 + pi_0) / 2)` (multiple importance sampling, the balance heuristic of Veach and Guibas).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from sacpo.errors import DataError
from sacpo.plain import JsonObject
from sacpo.stats.intervals import cluster_codes
from sacpo.theory.optimum import Bank, Flags, log_partition, self_normalised
from sacpo.theory.tabular import smallest_eta

Floats = npt.NDArray[np.float64]
Figure = Literal["E_g", "unsafe_rate", "over_refusal_rate"]
FIGURES = ("E_g", "E_r", "unsafe_rate", "over_refusal_rate", "kl")
DRAWS, BAND = 400, 0.95
LEAST_ESS = 5.0
"""Below this effective sample size an estimate is not to be believed."""
STRONGEST, WEAKEST, STRENGTHS = 0.05, 8.0, 24
"""The frontier's ends in spreads of g within a prompt, and its points."""
ROUNDS = 50


@dataclass(frozen=True)
class Samples:
    """Scored answers of the model that a step starts from.

    Attributes:
        bank: `safeties` is the step's score g in logits; `rewards` what is helpful, zeros where it is not known.
        clusters: Each prompt's cluster.
        rewarded: Whether the rewards are known.
        offsets: log pi_1 over the density that the answers were drawn from, up to a constant a prompt; None: they are
            its own. Shape: (prompts, answers).
    """

    bank: Bank
    clusters: tuple[str, ...]
    rewarded: bool = True
    offsets: Floats | None = None

    @property
    def base(self) -> Floats:
        """The log-weights of answers under pi_1 itself. Shape: (prompts, answers)."""
        return np.zeros_like(self.bank.safeties) if self.offsets is None else self.offsets

    def __post_init__(self) -> None:
        if len(self.clusters) != len(self.bank.safeties):
            raise DataError("one cluster a prompt", value=len(self.clusters), allowed=len(self.bank.safeties))


def per_prompt(samples: Samples, eta: float) -> dict[str, Floats]:
    """Return every figure of each prompt at `eta = lambda/beta`; NaN where a prompt does not count, `ess` among them.

    Shape: (prompts,) each.
    """
    bank = samples.bank
    tilt, base = eta * bank.safeties, samples.base
    weights = self_normalised(tilt + base)
    log_z = log_partition(tilt + base) - log_partition(base)
    found = {"E_g": (weights * bank.safeties).sum(1), "kl": (weights * tilt).sum(1) - log_z}
    if samples.rewarded:
        found["E_r"] = (weights * bank.rewards).sum(1)
    for name, flags, counted in (
        ("unsafe_rate", bank.unsafe, bank.restricted),
        ("over_refusal_rate", bank.refused, bank.borderline),
    ):
        if flags is not None and (counted is None or counted.any()):
            found[name] = np.where(True if counted is None else counted, (weights * flags).sum(1), np.nan)
    return {**found, "ess": 1 / (weights**2).sum(1)}


def expected(samples: Samples, eta: float) -> dict[str, float]:
    """Return every figure at `eta = lambda/beta`, averaged over prompts."""
    return {name: float(np.nanmean(values)) for name, values in per_prompt(samples, eta).items()}


def frontier(samples: Samples, strengths: Sequence[float], seed: int = 0) -> list[JsonObject]:
    """Return the figures at every strength with a 95 % band, by a bootstrap over clusters of prompts.

    The bands show how much other prompts would change a figure. They do not show that a training reaches only part
    of the tilt, nor the bias of few effective samples.

    Raises:
        DataError: A strength is not positive.
    """
    if not all(strength > 0 for strength in strengths):
        raise DataError("a strength beta/lambda must be positive", value=list(strengths))
    drawn = _drawn(samples.clusters, seed)
    return [_point(samples, strength, drawn) for strength in strengths]


def strengths_of(samples: Samples) -> list[float]:
    """Return strengths from hardly any change to almost the safest answer alone, weakest first, three digits each.

    Raises:
        DataError: All answers to every prompt have the same score: no strength changes anything.
    """
    spread = float(np.sqrt(samples.bank.safeties.var(1).mean()))
    if not spread > 0:
        raise DataError(
            "all answers to a prompt have the same score, so no strength changes anything",
            where="scores",
            do="score the answers by the criterion of the step, with a judge that tells them apart",
        )
    return [rounded(spread * x) for x in np.geomspace(WEAKEST, STRONGEST, STRENGTHS)]


def rounded(strength: float) -> float:
    """Return a strength with three significant digits: it names a model."""
    return float(f"{strength:.3g}")


@dataclass(frozen=True)
class Needed:
    """The pressure that a bound needs.

    Attributes:
        eta: The smallest `lambda/beta` that meets the bound; None: none does.
        best: The figure at best, where the pressure is without limit.
    """

    eta: float | None
    best: float


def needed(samples: Samples, figure: Figure, bound: float) -> Needed:
    """Return the smallest `eta = lambda/beta` at which a figure meets its bound.

    For `E_g` it solves the convex dual: E[g] >= bound. A rate is an indicator's mean, which is another thing: rate <=
    bound is searched for apart, from weak to strong.

    Raises:
        DataError: The figure is not known of these samples.
    """
    if figure == "E_g":
        best = float(samples.bank.safeties.max(1).mean())
        if bound >= best:
            return Needed(None, best)
        return Needed(smallest_eta(self_normalised(samples.base), samples.bank.safeties, bound), best)
    if figure not in per_prompt(samples, 0.0):
        raise DataError(
            f"these samples do not tell '{figure}'",
            where=figure,
            do="judge them by a criterion that labels it, on prompts of the kind that it counts",
        )
    strongest = 1e3 / strengths_of(samples)[0]
    eta = _first_met(lambda eta: expected(samples, eta)[figure] <= bound, strongest)
    return Needed(eta, expected(samples, strongest)[figure])


def lost_support(samples: Samples) -> tuple[int, int]:
    """Return how many prompts that count in the unsafe rate have no safe answer among the samples, and of how many.

    No weights bring back an answer that the model does not give: there a step may find none either.

    Raises:
        DataError: It is not known which answers are unsafe.
    """
    lost, counted = _lost(samples)
    return int(lost.sum()), int(counted.sum())


def supported(samples: Samples) -> Samples:
    """Return samples in which prompts without a safe answer do not count in the unsafe rate; errors as before."""
    lost, counted = _lost(samples)
    return replace(samples, bank=replace(samples.bank, restricted=counted & ~lost))


@dataclass(frozen=True)
class Realised:
    """How much of its tilt a step before realised.

    Attributes:
        before: Its criterion's mean score before it.
        exact: What the exact tilt at its strength would give.
        measured: What its model has.
        share: eta of the exact tilt that gives what was measured, over its own eta.
    """

    before: float
    exact: float
    measured: float
    share: float


def realised(scores: Floats, measured: float, strength: float) -> Realised:
    """Return how much of its tilt a step realised, in terms of eta.

    Args:
        scores: Its criterion's scores, in logits, of samples of the model that it started from.
        measured: The mean score of its own model's samples, on the same prompts.
        strength: Its beta.

    Shape:
        scores: (prompts, answers).
    """
    before, best = float(scores.mean()), float(scores.max(1).mean())
    weights = self_normalised(scores / strength)
    exact = float((weights * scores).sum(1).mean())
    if measured <= before:
        share = 0.0
    elif measured >= best:
        share = float("inf")
    else:
        share = strength * smallest_eta(np.full_like(scores, 1 / scores.shape[1]), scores, measured)
    return Realised(before, exact, measured, share)


def _lost(samples: Samples) -> tuple[Flags, Flags]:
    """Return which prompts have no safe answer, and which count in the unsafe rate. Shape: (prompts,) each."""
    bank = samples.bank
    if bank.unsafe is None:
        raise DataError("it is not known which answers are unsafe", do="judge them by a criterion that labels it")
    counted = np.ones(len(bank.unsafe), bool) if bank.restricted is None else bank.restricted
    return bank.unsafe.all(1) & counted, counted


def _first_met(met: Callable[[float], bool], strongest: float) -> float | None:
    """Return the smallest eta at which a bound is met, from a grid and then by halving; None: it is never met."""
    if met(0.0):
        return 0.0
    grid = [float(eta) for eta in np.geomspace(strongest / 1e6, strongest, 60)]
    high = next((eta for eta in grid if met(eta)), None)
    if high is None:
        return None
    low = max([0.0, *(eta for eta in grid if eta < high)])
    for _ in range(ROUNDS):
        middle = (low + high) / 2
        low, high = (low, middle) if met(middle) else (middle, high)
    return high


def _drawn(clusters: Sequence[str], seed: int) -> Floats:
    """Return how often each prompt is drawn in every bootstrap sample of clusters. Shape: (draws, prompts)."""
    codes = cluster_codes(clusters, len(clusters))
    m = int(codes.max()) + 1
    counts = np.random.default_rng(seed).multinomial(m, np.full(m, 1 / m), size=DRAWS)
    drawn: Floats = counts[:, codes].astype(float)
    return drawn


def _point(samples: Samples, strength: float, drawn: Floats) -> JsonObject:
    values = per_prompt(samples, 1 / strength)
    figures = {name: _figure(values[name], drawn) for name in FIGURES if name in values}
    return {"beta_over_lambda": strength, "ess": float(values["ess"].mean()), **figures}


def _figure(values: Floats, drawn: Floats) -> JsonObject:
    counted = ~np.isnan(values)
    weight = drawn[:, counted].sum(1)
    means = (drawn[:, counted] @ values[counted])[weight > 0] / weight[weight > 0]
    low, high = np.quantile(means, [(1 - BAND) / 2, (1 + BAND) / 2])
    return {"value": float(values[counted].mean()), "band": [float(low), float(high)]}
