"""The arithmetic of what the closed form costs."""

from __future__ import annotations

import pytest

from benchmarks.distil_cost import Setting, beside, parts


def test_hours_are_tokens_times_operations() -> None:
    """1,000 pairs of 100 tokens, 1 epoch: 2e5 tokens at (2 + 8) x 1e9 operations, at 5e11 a second: 4,000 s."""
    small = Setting(parameters=1e9, pairs=1000, epochs=1, tokens=100, peak=1e12, share=0.5)
    found = [part for whose, part in parts(small) if whose == "paper"]
    assert [part.hours for part in found] == pytest.approx([4000 / 3600] * 2)
    assert found[0].trained == 2e5


def test_only_the_last_part_is_paid_for_each_lambda() -> None:
    """10 prompts x (40 + 10 answers x 120) tokens x 2 epochs; 10 x 16 x 120 tokens are sampled, and scored
    behind prompts that are computed once."""
    own = [part for whose, part in parts(Setting(prompts=10)) if whose != "paper"]
    assert own[1].sampled == 19_200
    assert own[2].scored == 19_600
    assert own[0].scored == 2 * 27_000 * 280
    assert own[-1].trained == 24_800
    assert own[-1].sampled == own[-1].scored == 0


def test_reward_models_read_each_answer_behind_its_own_prompt() -> None:
    """2 models x 10 prompts x 16 answers of 160 tokens; 51,200 tokens at 2 x 6.7e9 operations."""
    models, said = beside(Setting(prompts=10))
    assert models.scored == 51_200
    assert models.hours == pytest.approx(51_200 * 2 * 6.7e9 / (0.4 * 312e12) / 3600)
    assert said.hours == 16
