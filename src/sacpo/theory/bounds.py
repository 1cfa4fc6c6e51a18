"""The bounds of Theorems 2 and 3, on many small worlds at once.

With `Gamma(x,y,c) = e_r + c e_g + |c - lambda_hat| B`, where `e = alpha U_D` bounds the error of a learned score:

    Theorem 2   R(pi*) - R(pi_hat) <= -lambda* b + E_{pi*}[Gamma(0) exp(2 Gamma(lambda*) / beta)]
                                      + beta log E_{pi*}[exp(Gamma(lambda*) / beta)]
    Theorem 3   [b - G(pi_hat)]_+  <= E_{pi*}[e_g exp(2 Gamma(lambda*) / beta)]      if E_{pi_hat}[g_hat] >= b

Theorem 3 is false as it stands (`sacpo.theory.counterexamples`). What its proof does reach, prompt by prompt, is

    repaired    [b - G(pi_hat)]_+  <= E_x[ E_{pi*}[e_g exp(Gamma(lambda*) / beta)] E_{pi*}[exp(Gamma(lambda*) / beta)] ]

because `pi_hat / pi* <= exp(Gamma / beta) E_{pi*}[exp(Gamma / beta)]`. The step from the product of two means to one
mean of the product needs `e_g exp(Gamma / beta)` and `exp(Gamma / beta)` to grow together (Chebyshev's inequality).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Worlds:
    """Small worlds with learned scores.

    Attributes:
        reference: pi_ref, with full support. Shape: (worlds, prompts, answers), as the next six.
        reward: r*.
        safety: g*.
        reward_hat: The learned reward.
        safety_hat: The learned safety.
        reward_error: `alpha U_{D_r}`, at least `|r* - reward_hat|`.
        safety_error: `alpha U_{D_g}`, likewise.
        bound: b. Shape: (worlds,), as the next three.
        beta: KL strength of the reward.
        lam_hat: The multiplier that pi_hat was trained with.
        ceiling: B, at least every score's size.
    """

    reference: Floats
    reward: Floats
    safety: Floats
    reward_hat: Floats
    safety_hat: Floats
    reward_error: Floats
    safety_error: Floats
    bound: Floats
    beta: Floats
    lam_hat: Floats
    ceiling: Floats


@dataclass(frozen=True)
class Measured:
    """Both sides of the theorems. Shape: (worlds,) each.

    Attributes:
        lam: lambda*, from the dual.
        eligible: Whether `E_{pi_hat}[g_hat] >= b`, as Theorem 3 asks.
        regret: `R(pi*) - R(pi_hat)`.
        regret_bound: Theorem 2's right side.
        violation: `[b - G(pi_hat)]_+`.
        printed: Theorem 3's right side.
        repaired: What its proof reaches.
    """

    lam: Floats
    eligible: npt.NDArray[np.bool_]
    regret: Floats
    regret_bound: Floats
    violation: Floats
    printed: Floats
    repaired: Floats


def measure(worlds: Worlds) -> Measured:
    """Compute both sides of both theorems; a right side too large for a float is infinite."""
    lam = multiplier(worlds.reference, worlds.reward, worlds.safety, worlds.bound, worlds.beta)
    beta = _wide(worlds.beta)
    best = tilt(worlds.reference, (worlds.reward + _wide(lam) * worlds.safety) / beta)
    trained = tilt(worlds.reference, (worlds.reward_hat + _wide(worlds.lam_hat) * worlds.safety_hat) / beta)
    ceiling, lam_hat = _wide(worlds.ceiling), _wide(worlds.lam_hat)
    plain = worlds.reward_error + lam_hat * ceiling
    gamma = worlds.reward_error + _wide(lam) * worlds.safety_error + np.abs(_wide(lam) - lam_hat) * ceiling
    with np.errstate(over="ignore", invalid="ignore"):
        once, twice = np.exp(gamma / beta), np.exp(2 * gamma / beta)
        partition = worlds.beta * np.log((best * once).sum(2)).mean(1)
        product = (best * worlds.safety_error * once).sum(2) * (best * once).sum(2)
        regret_bound = -lam * worlds.bound + expect(best, plain * twice) + partition
        printed = expect(best, worlds.safety_error * twice)
    return Measured(
        lam=lam,
        eligible=expect(trained, worlds.safety_hat) >= worlds.bound - 1e-12,
        regret=_objective(best, worlds) - _objective(trained, worlds),
        regret_bound=regret_bound,
        violation=np.maximum(worlds.bound - expect(trained, worlds.safety), 0.0),
        printed=printed,
        repaired=product.mean(1),
    )


def multiplier(reference: Floats, reward: Floats, safety: Floats, bound: Floats, beta: Floats) -> Floats:
    """Return lambda* of each world by bisection, the end that meets the bound; infinite where none up to 2^40 does.

    Shape: (worlds, prompts, answers) and (worlds,) to (worlds,).
    """

    def slack(lam: Floats) -> Floats:
        return expect(tilt(reference, (reward + _wide(lam) * safety) / _wide(beta)), safety) - bound

    low, high = np.zeros_like(bound), np.ones_like(bound)
    free = slack(low) >= 0
    for _ in range(40):
        short = slack(high) < 0
        if not short.any():
            break
        low, high = np.where(short, high, low), np.where(short, 2 * high, high)
    for _ in range(60):
        middle = (low + high) / 2
        meets = slack(middle) >= 0
        low, high = np.where(meets, low, middle), np.where(meets, middle, high)
    return np.where(free, 0.0, np.where(slack(high) >= 0, high, np.inf))


def expect(policy: Floats, score: Floats) -> Floats:
    """Return `E_x E_{y ~ pi}[f]`. Shape: (worlds, prompts, answers) each to (worlds,)."""
    found: Floats = (policy * score).sum(2).mean(1)
    return found


def tilt(policy: Floats, logits: Floats) -> Floats:
    """Return `pi exp(logits) / Z(x)`. Shape: (worlds, prompts, answers) each."""
    with np.errstate(divide="ignore"):
        total = np.log(policy) + logits
    raw = np.exp(total - total.max(2, keepdims=True))
    found: Floats = raw / raw.sum(2, keepdims=True)
    return found


def _objective(policy: Floats, worlds: Worlds) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(policy > 0, np.log(policy / worlds.reference), 0.0)
    return expect(policy, worlds.reward - _wide(worlds.beta) * ratio)


def _wide(values: Floats) -> Floats:
    return values[:, None, None]
