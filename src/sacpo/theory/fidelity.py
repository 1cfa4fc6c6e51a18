"""How far a merged model is from the path that it stands for: the sequence-level mixture of the merged models.

    p_w(y|x) = prod_k pi_k(y|x)^w_k / Z_w(x),      Z_w(x) = sum_y prod_k pi_k(y|x)^w_k

Between a step's reference and its model, with `w = (1 - q, q)`, it is the optimum for `q lambda` (eq. 11 of the paper).
Averaged weights and mixed logits only approximate it. With samples of the merged model pi_m,

    KL(pi_m || p_w) = E_m[log pi_m - sum_k w_k log pi_k] + log Z_w

and Z_w is estimated from samples of all models together, the same number of each, with the weights

    v(y) = prod_k pi_k(y|x)^w_k / (1/K sum_k pi_k(y|x)),      Z_w = E[v]

which never exceed K. Where the models hardly overlap few samples carry the sum: the effective sample size
`(sum v)^2 / sum v^2` tells. Everything is in nats.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sacpo.errors import DataError
from sacpo.stats.estimate import Estimate
from sacpo.stats.intervals import mean_interval

Floats = npt.NDArray[np.float64]
BELIEVED = 5.0
"""Effective samples a prompt below which an estimate of log Z is not to be believed."""


@dataclass(frozen=True)
class Normaliser:
    """log Z_w of each prompt, and how far to believe it.

    Attributes:
        log_z: At most 0 in truth. Shape: (prompts,).
        ess: Effective sample size. Shape: (prompts,).
        bias: By how much the mean of `log_z` is expected to be too low (delta method).
    """

    log_z: Floats
    ess: Floats
    bias: float


@dataclass(frozen=True)
class Fidelity:
    """How far a merged model is from the mixture with its weights.

    Attributes:
        kl: KL(pi_m || p_w).
        alarm: The least KL(pi_k || p_w) of the merged models themselves: a merged model beyond it is no better an
            approximation of its target than the nearest of them.
        ess: Mean effective sample size a prompt.
        believed: Share of the prompts with an effective sample size of `BELIEVED` or more.
        bias: By how much `kl` is expected to be too low.
    """

    kl: Estimate
    alarm: float
    ess: float
    believed: float
    bias: float


def normaliser(logps: Floats, weights: Sequence[float]) -> Normaliser:
    """Estimate log Z_w from samples of all models.

    Args:
        logps: log pi_k of every sample, up to one number a sample. Shape: (prompts, samples, models); samples of each
            model are equally many.
        weights: One for each model, adding up to 1.

    Raises:
        DataError: The shape or a number is not as it should be.
    """
    if logps.ndim != 3 or logps.shape[2] != len(weights) or not np.isfinite(logps).all():
        raise DataError("samples of a path need finite log-probs under every model", value=logps.shape)
    mixture = np.logaddexp.reduce(logps, axis=2) - np.log(logps.shape[2])
    log_v = logps @ np.asarray(weights, float) - mixture
    highest = log_v.max(axis=1, keepdims=True)
    v = np.exp(log_v - highest)
    mean = v.mean(axis=1)
    n = v.shape[1]
    relative = v.var(axis=1, ddof=1) / (n * mean**2) if n > 1 else np.zeros(len(v))
    ess = v.sum(axis=1) ** 2 / (v**2).sum(axis=1)
    return Normaliser(highest[:, 0] + np.log(mean), ess, float((relative / 2).mean()))


def fidelity(
    ratios: Floats,
    weights: Sequence[float],
    logps: Floats,
    clusters: Sequence[Hashable] | None = None,
) -> Fidelity:
    """Measure how far a merged model is from its target.

    Args:
        ratios: log pi_m - log pi_k of one sample of the merged model a prompt. Shape: (prompts, models).
        weights: Its weights.
        logps: Samples of the models themselves, as for `normaliser`: the first model's first, then the next one's.
        clusters: Each prompt's cluster.

    Raises:
        DataError: As of `normaliser`, or the prompts differ in number.
    """
    if len(ratios) != len(logps):
        raise DataError("a path needs samples of every model to the same prompts", value=[len(ratios), len(logps)])
    found = normaliser(logps, weights)
    w = np.asarray(weights, float)
    kl = mean_interval(ratios @ w + found.log_z, clusters)
    own = np.split(logps, logps.shape[2], axis=1)
    alarms = [float(((part[:, :, [k]] - part) @ w).mean() + found.log_z.mean()) for k, part in enumerate(own)]
    believed = float((found.ess >= BELIEVED).mean())
    return Fidelity(kl, min(alarms), float(found.ess.mean()), believed, found.bias)
