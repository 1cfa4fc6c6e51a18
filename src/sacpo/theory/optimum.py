"""The constrained optimum, estimated from samples of the reference (the SFT model) whose true scores are known.

    pi*(y|x) = pi_ref(y|x) exp(f(x,y)) / Z(x),    f = (r* + lambda g*) / beta                            (eq. 11)

With answers y_1..y_n ~ pi_ref(.|x), expectations under pi* are averages with the self-normalised weights
`w_i = exp(f_i) / sum_j exp(f_j)`, and `Z(x)` is the mean of `exp(f_i)`. Every figure averages over prompts. Rewards
are in logits of the preference data, divergences in nats. Believe an estimate only where `ess` is above about 5.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sacpo.errors import DataError
from sacpo.plain import JsonObject
from sacpo.stats.estimate import Estimate
from sacpo.stats.intervals import mean_interval

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Bank:
    """Scored samples of the reference, the same number for every prompt.

    Attributes:
        rewards: r*. Shape: (prompts, answers).
        safeties: g*. Shape: (prompts, answers).
        unsafe: Whether an answer is unsafe; None when not known. Shape: (prompts, answers).
        refused: Whether an answer refuses; None when not known. Shape: (prompts, answers).
        restricted: Prompts that count in the unsafe rate; None: all. Shape: (prompts,).
        borderline: Prompts that count in the over-refusal rate; None: all. Shape: (prompts,).

    Raises:
        DataError: Shapes differ, there are fewer than two answers a prompt, or a score is not finite.
    """

    rewards: Floats
    safeties: Floats
    unsafe: Flags | None = None
    refused: Flags | None = None
    restricted: Flags | None = None
    borderline: Flags | None = None

    def __post_init__(self) -> None:
        for name in ("rewards", "safeties"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), float))
        for name in ("unsafe", "refused", "restricted", "borderline"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, np.asarray(getattr(self, name), bool))
        shape = np.shape(self.rewards)
        if len(shape) != 2 or shape[0] < 1 or shape[1] < 2:
            raise DataError("a bank needs two answers a prompt or more", where="bank.rewards", value=shape)
        for name in ("safeties", "unsafe", "refused"):
            _has_shape(f"bank.{name}", getattr(self, name), shape)
        for name in ("restricted", "borderline"):
            _has_shape(f"bank.{name}", getattr(self, name), shape[:1])
        _finite("bank.rewards", self.rewards)
        _finite("bank.safeties", self.safeties)

    def tilt(self, beta: float, lam: float) -> Floats:
        """Return `f = (r* + lambda g*) / beta`. Shape: (prompts, answers).

        Raises:
            DataError: beta is not positive or lambda is negative.
        """
        return _tilt(self.rewards, self.safeties, beta, lam)


@dataclass(frozen=True)
class Optimum:
    """What is known of pi* at one strength.

    Attributes:
        beta_over_lambda: The strength of the safety step; None at lambda = 0.
        E_r, E_g: Mean reward and safety under pi*.
        kl: KL(pi* || pi_ref), nats.
        log_z: log Z(x) of each prompt. Shape: (prompts,).
        ess: Effective sample size `1 / sum_i w_i^2`, averaged over prompts.
        least_ess: That of the worst prompt.
        log_z_bias: By how much the mean of `log_z` is expected to be too low, nats (delta method).
        unsafe_rate: Over restricted prompts; None when there are none or labels are not known.
        over_refusal_rate: Over borderline prompts, likewise.
        win_rate: Criterion ("reward", "safety"): win rate of pi* against pi_ref, ties half.
    """

    beta_over_lambda: float | None
    E_r: float
    E_g: float
    kl: float
    log_z: Floats = field(repr=False)
    ess: float
    least_ess: float
    log_z_bias: float
    unsafe_rate: float | None = None
    over_refusal_rate: float | None = None
    win_rate: dict[str, float] = field(default_factory=dict)

    def to_point(self, reward: str = "helpfulness", safety: str = "harmlessness") -> JsonObject:
        """Return the point as the results schema has it, JSON-ready.

        Args:
            reward: The name of the criterion whose score is r*.
            safety: The name of the criterion whose score is g*.

        Raises:
            DataError: The point is at lambda = 0, where beta/lambda is infinite.
        """
        if self.beta_over_lambda is None:
            raise DataError("the results have no place for the optimum at lambda = 0", value=self.beta_over_lambda)
        names = {"reward": reward, "safety": safety}
        return {
            "beta_over_lambda": self.beta_over_lambda,
            "E_r": self.E_r,
            "E_g": self.E_g,
            "kl": self.kl,
            "unsafe_rate": self.unsafe_rate,
            "over_refusal_rate": self.over_refusal_rate,
            "ess": self.ess,
            "win_rate": {names[name]: rate for name, rate in self.win_rate.items()},
        }


def optimum(bank: Bank, *, beta: float, lam: float) -> Optimum:
    """Estimate pi* at one pair of strengths.

    Source: eq. 11 of the paper.

    Args:
        bank: Scored samples of the reference.
        beta: KL strength of the reward.
        lam: The constraint's multiplier; the safety step's strength is beta / lam.

    Raises:
        DataError: beta is not positive or lambda is negative.
    """
    tilt = bank.tilt(beta, lam)
    log_z = log_partition(tilt)
    weights = self_normalised(tilt)
    ess = 1 / (weights**2).sum(1)
    n = tilt.shape[1]
    return Optimum(
        beta_over_lambda=beta / lam if lam > 0 else None,
        E_r=_mean(weights * bank.rewards),
        E_g=_mean(weights * bank.safeties),
        kl=_mean(weights * tilt) - float(log_z.mean()),
        log_z=log_z,
        ess=float(ess.mean()),
        least_ess=float(ess.min()),
        # E[log mean] - log E is about -var / (2 n mean^2), with var / mean^2 = n / (n - 1) (n / ess - 1)
        log_z_bias=float(((n / ess - 1) / (2 * (n - 1))).mean()),
        unsafe_rate=_rate(weights, bank.unsafe, bank.restricted),
        over_refusal_rate=_rate(weights, bank.refused, bank.borderline),
        win_rate={"reward": _win_rate(weights, bank.rewards), "safety": _win_rate(weights, bank.safeties)},
    )


def curve(bank: Bank, strengths: Iterable[float], *, beta: float) -> list[Optimum]:
    """Estimate pi* over strengths beta/lambda of the safety step, at one beta; see `optimum`.

    Raises:
        DataError: A strength is not positive.
    """
    found = []
    for strength in strengths:
        if not strength > 0:
            raise DataError("a strength beta/lambda must be positive", value=strength)
        found.append(optimum(bank, beta=beta, lam=beta / strength))
    return found


@dataclass(frozen=True)
class Support:
    """What weights on few samples of the reference reach before anything is learnt of them.

    Attributes:
        samples: Of each prompt.
        E_r, E_g: Mean reward and safety of an answer drawn by the self-normalised weights of so many samples.
        unsafe_rate, over_refusal_rate: As of `Optimum`.
        distance: KL(such an answer's distribution || pi*), nats.
    """

    samples: int
    E_r: float
    E_g: float
    unsafe_rate: float | None
    over_refusal_rate: float | None
    distance: float


def support(
    bank: Bank, tilt: Floats, samples: int, *, beta: float, lam: float, draws: int = 200, seed: int = 0
) -> Support:
    """Estimate what the weights exp(tilt) of few samples reach, where the bank's own answers stand for all there are.

    So many of a prompt's answers are drawn with replacement and weighed; the mean of these weights over the draws is
    the distribution of what is learnt. pi* is that of the bank's answers. What a model trained on such samples is
    farther from pi* than this is what it did not learn.

    Args:
        bank: Scored samples of the reference, many more than `samples`, or the distance comes out too small.
        tilt: What answers are weighed by: the true tilt, or that of learned scores. Shape: (prompts, answers).
        samples: Of each prompt.
        beta: KL strength of the reward.
        lam: The constraint's multiplier.
        draws: How often samples are drawn.
        seed: Of the draws.
    """
    random, prompts = np.random.default_rng(seed), np.arange(len(tilt))[:, None]
    total = np.zeros_like(tilt)
    for _ in range(draws):
        places = random.integers(0, tilt.shape[1], (len(tilt), samples))
        np.add.at(total, (prompts, places), self_normalised(np.take_along_axis(tilt, places, 1)))
    reached = total / draws
    known = np.log(np.where(reached > 0, reached, 1.0))
    best = bank.tilt(beta, lam)
    log_optimum = best - log_partition(best)[:, None] - np.log(tilt.shape[1])
    return Support(
        samples=samples,
        E_r=_mean(reached * bank.rewards),
        E_g=_mean(reached * bank.safeties),
        unsafe_rate=_rate(reached, bank.unsafe, bank.restricted),
        over_refusal_rate=_rate(reached, bank.refused, bank.borderline),
        distance=_mean(reached * (known - log_optimum)),
    )


def kl_to_optimum(
    log_ratio: npt.ArrayLike,
    rewards: npt.ArrayLike,
    safeties: npt.ArrayLike,
    log_z: npt.ArrayLike,
    *,
    beta: float,
    lam: float,
    clusters: Sequence[Hashable] | None = None,
) -> Estimate:
    """Estimate how far a trained model is from pi*, with a cluster interval over prompts.

    `KL(pi || pi*) = E_x[ log Z(x) + E_{y ~ pi}[ log pi(y|x)/pi_ref(y|x) - (r* + lambda g*)/beta ] ]`, in nats. Since
    `log Z` is too low by about `Optimum.log_z_bias`, so is this; the interval does not cover that bias.

    Args:
        log_ratio: log pi - log pi_ref of pi's own answers. Shape: (prompts,) or (prompts, samples).
        rewards: r* of these answers, in the same shape.
        safeties: g* of these answers, in the same shape.
        log_z: From `optimum` at the same strengths, for the same prompts. Shape: (prompts,).
        beta: KL strength of the reward.
        lam: The constraint's multiplier.
        clusters: Each prompt's cluster; None when all prompts are independent.

    Raises:
        DataError: Shapes differ, or a number is not finite.
    """
    ratios, r, g = _answers("log_ratio", log_ratio), _answers("rewards", rewards), _answers("safeties", safeties)
    partition = np.asarray(log_z, float)
    _has_shape("rewards", r, ratios.shape)
    _has_shape("safeties", g, ratios.shape)
    _has_shape("log_z", partition, ratios.shape[:1])
    return mean_interval(partition + (ratios - _tilt(r, g, beta, lam)).mean(1), clusters, zero_is_exact=True)


def alarm(bank: Bank, *, beta: float, lam: float) -> float:
    """Return `KL(pi_ref || pi*) = E_x[ log Z(x) - E_{pi_ref}[(r* + lambda g*)/beta] ]`, nats.

    A trained model farther from pi* than this is farther than if it had not been trained: it has collapsed.

    Raises:
        DataError: beta is not positive or lambda is negative.
    """
    tilt = bank.tilt(beta, lam)
    return float((log_partition(tilt) - tilt.mean(1)).mean())


def log_partition(tilt: Floats) -> Floats:
    """Return `log Z`: the log of the mean of `exp(tilt)`, of each prompt. Shape: (prompts, answers) to (prompts,)."""
    top = tilt.max(1, keepdims=True)
    found: Floats = top[:, 0] + np.log(np.exp(tilt - top).mean(1))
    return found


def self_normalised(tilt: Floats) -> Floats:
    """Return weights that add up to 1 for each prompt, in proportion to `exp(tilt)`. Shape: (prompts, answers)."""
    raw = np.exp(tilt - tilt.max(1, keepdims=True))
    weights: Floats = raw / raw.sum(1, keepdims=True)
    return weights


def _tilt(rewards: Floats, safeties: Floats, beta: float, lam: float) -> Floats:
    if not beta > 0 or not lam >= 0:
        raise DataError("no such strengths", value={"beta": beta, "lambda": lam}, allowed="beta > 0 and lambda >= 0")
    tilt: Floats = (rewards + lam * safeties) / beta
    return tilt


def _mean(weighted: Floats) -> float:
    return float(weighted.sum(1).mean())


def _rate(weights: Floats, flags: Flags | None, prompts: Flags | None) -> float | None:
    if flags is None:
        return None
    shares = (weights * flags).sum(1)
    chosen = shares if prompts is None else shares[prompts]
    return float(chosen.mean()) if chosen.size else None


def _win_rate(weights: Floats, scores: Floats) -> float:
    """Compare an answer drawn with the weights with another sample of the same prompt, ties half.

    Shape: (prompts, answers) each. An answer is not compared with itself: two draws from a model are two answers.
    """
    total = 0.0
    for w, s in zip(weights, scores, strict=True):
        ordered = np.sort(s)
        below = np.searchsorted(ordered, s, "left")
        tied = np.searchsorted(ordered, s, "right") - below - 1
        total += float(w @ (below + tied / 2)) / (len(s) - 1)
    return total / len(weights)


def _answers(name: str, values: npt.ArrayLike) -> Floats:
    array = np.asarray(values, float)
    if array.ndim not in (1, 2) or not array.size:
        raise DataError("not one number an answer", where=name, value=array.shape, allowed="(prompts, samples)")
    _finite(name, array)
    return array[:, None] if array.ndim == 1 else array


def _has_shape(name: str, values: Any, shape: tuple[int, ...]) -> None:
    if values is not None and np.shape(values) != shape:
        raise DataError("shapes differ", where=name, value=np.shape(values), allowed=str(shape))


def _finite(name: str, values: Floats) -> None:
    if not np.isfinite(values).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
        raise DataError("a score is not finite", where=f"{name}{list(place)}", value=float(values[place]))
