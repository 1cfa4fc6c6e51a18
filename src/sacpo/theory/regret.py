"""What a model loses beside the optimum that has the same mean safety."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sacpo.plain import JsonMapping


def regret(curve: Sequence[JsonMapping], *, E_g: float, E_r: float, kl: float, beta: float) -> dict[str, float] | None:
    """Return a model's regret at equal safety; None where the curve does not reach its mean safety.

    The optimum with the model's own E[g] is read off the curve, linear between its points. `reward` is its E[r] less
    the model's; `objective` the same of `R = E[r] - beta KL(. || SFT)`, which the optimum maximises among all policies
    with this E[g]: it is negative only by the errors of the estimates.

    Args:
        curve: The optimum over strengths: `E_g`, `E_r` and `kl` of each point.
        E_g: The model's mean safety.
        E_r: Its mean reward.
        kl: Its KL from the SFT model, nats.
        beta: The reward's strength.
    """
    points = sorted((point["E_g"], point["E_r"], point["kl"]) for point in curve if point["kl"] is not None)
    if not points or not points[0][0] <= E_g <= points[-1][0]:
        return None
    safeties, rewards, kls = (list(column) for column in zip(*points, strict=True))
    best_r, best_kl = float(np.interp(E_g, safeties, rewards)), float(np.interp(E_g, safeties, kls))
    return {"reward": best_r - E_r, "objective": best_r - beta * best_kl - (E_r - beta * kl), "E_g": E_g}
