"""The tilt that has a model's mean scores, and the two parts of a distance."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sacpo.theory.optimum import Bank, Floats, kl_to_optimum, optimum, self_normalised
from sacpo.theory.tilt import tilt_parts


def world(seed: int, prompts: int = 30, answers: int = 40) -> Bank:
    rng = np.random.default_rng(seed)
    return Bank(rng.normal(size=(prompts, answers)), rng.normal(size=(prompts, answers)))


def terms_of(bank: Bank, tilt: Floats) -> tuple[Floats, Floats, Floats]:
    """Return log-ratios, r* and g* of a distribution over a bank's answers, which stand for all there are.

    It is in proportion to exp(tilt); an answer that is not drawn by its probability counts with it instead.
    """
    counted = self_normalised(tilt) * tilt.shape[1]
    return counted * np.log(counted), counted * bank.rewards, counted * bank.safeties


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.floats(0, 1.5), st.floats(0, 1.5), st.floats(0.5, 3), st.floats(0.2, 3))
def test_a_tilt_has_its_own_shares_and_no_shape(seed: int, a: float, b: float, beta: float, lam: float) -> None:
    bank = world(seed)
    terms = terms_of(bank, (a * bank.rewards + b * lam * bank.safeties) / beta)
    found = tilt_parts(bank, *terms, beta=beta, lam=lam)
    assert found is not None
    assert [found.reward, found.safety] == pytest.approx([a, b], abs=1e-3)
    assert found.shape == pytest.approx(0, abs=1e-4)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.floats(0.5, 3), st.floats(0.2, 3))
def test_the_parts_add_up_and_none_is_negative(seed: int, beta: float, lam: float) -> None:
    """A distribution that is no tilt: noise beside the scores, as a training has it."""
    bank = world(seed)
    noise = np.random.default_rng(seed + 1).normal(size=bank.rewards.shape)
    terms = terms_of(bank, 0.4 * bank.rewards + 0.2 * bank.safeties + 0.5 * noise)
    found = tilt_parts(bank, *terms, beta=beta, lam=lam)
    assert found is not None
    whole = kl_to_optimum(*terms, optimum(bank, beta=beta, lam=lam).log_z, beta=beta, lam=lam)
    assert found.strength + found.shape == pytest.approx(whole.value, abs=1e-9)
    assert found.strength > -1e-6
    assert found.shape > 0.01


def test_scores_beyond_all_samples_have_no_tilt() -> None:
    bank = world(0)
    best = bank.rewards.max(1)
    assert tilt_parts(bank, np.zeros(30), best + 0.1, bank.safeties[:, 0], beta=1, lam=1) is None
    assert tilt_parts(bank, np.zeros(30), best, bank.safeties.max(1), beta=1, lam=1) is None  # only infinitely strong


def test_several_answers_a_prompt_count_alike() -> None:
    bank = world(3)
    rng = np.random.default_rng(4)
    ratio, r, g = (0.3 * rng.normal(size=(30, 2)) + shift for shift in (0.2, 0.1, 0.1))
    both = tilt_parts(bank, ratio, r, g, beta=0.5, lam=2)
    means = tilt_parts(bank, ratio.mean(1), r.mean(1), g.mean(1), beta=0.5, lam=2)
    assert both is not None
    assert means is not None
    assert astuple(both) == pytest.approx(astuple(means))
