"""What a model loses beside the optimum with the same safety."""

from __future__ import annotations

import pytest

from sacpo.theory.regret import regret

CURVE = [{"E_g": 0.2, "E_r": 1.0, "kl": 0.4}, {"E_g": 0.6, "E_r": 0.8, "kl": 0.8}]


def test_the_regret_is_read_at_the_models_own_safety() -> None:
    """Half way the optimum has r .9 and KL .6, so R = .9 - .3 = .6; the model's is .7 - .5 = .2."""
    found = regret(CURVE, E_g=0.4, E_r=0.7, kl=1.0, beta=0.5)
    assert found == {"reward": pytest.approx(0.2), "objective": pytest.approx(0.4), "E_g": 0.4}
    assert regret(CURVE, E_g=0.7, E_r=0.7, kl=1.0, beta=0.5) is None
