"""A score learned from pairs by a Gaussian process: by kind of prompt, and shrunk where votes are few."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from sacpo.theory.learned_score import LearnedScore, learn_score
from sacpo.theory.preference_process import PairTraits, ProcessScore, Traits


def world(n: int, kinds: int, seed: int) -> tuple[PairTraits, np.ndarray, list[str]]:
    """Pairs of 5 traits; the first one counts +2 on prompts of one kind and -2 on others, the second always 1."""
    random = np.random.default_rng(seed)
    first, second = random.normal(size=(2, n, 5))
    kind = random.integers(kinds, size=n)
    prompts = np.sqrt(np.array([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]]))[kind]
    gap = np.where(kind == 0, 2.0, -2.0) * (first - second)[:, 0] + (first - second)[:, 1]
    return PairTraits(first, second, prompts), gap, [str(i) for i in range(n)]


def slope(score: LearnedScore, pairs: PairTraits, gap: np.ndarray) -> tuple[float, float]:
    sides = [score.scores(Traits(side, pairs.prompts)) for side in (pairs.first, pairs.second)]
    learned = sides[0] - sides[1]
    return float(np.polyfit(gap, learned, 1)[0]), float(np.corrcoef(gap, learned)[0, 1])


def test_a_score_may_depend_on_the_kind_of_prompt() -> None:
    """An additive score could know the second trait alone: correlation sqrt(2 / (8 + 2)) = .45."""
    pairs, gap, prompts = world(500, 2, 0)
    score = learn_score(pairs, expit(gap), prompts, seed=1)
    found = slope(score, *world(300, 2, 1)[:2])
    assert found[0] == pytest.approx(1, abs=0.1) and found[1] > 0.97
    assert score.fit.loss < 0.55 < score.fit.coin


def test_single_votes_are_believed_less() -> None:
    """The penalty that held-out pairs choose is stronger with 200 votes than with 200 exact probabilities."""
    pairs, gap, prompts = world(200, 1, 2)
    votes = (np.random.default_rng(4).random(200) < expit(gap)).astype(float)
    exact, voted = (learn_score(pairs, labels, prompts, seed=1, kinds=1) for labels in (expit(gap), votes))
    fresh = world(300, 1, 3)[:2]
    assert slope(exact, *fresh)[0] == pytest.approx(1, abs=0.05)
    assert 0.5 < slope(voted, *fresh)[0] < 1.3
    assert voted.fit.penalty and exact.fit.penalty and voted.fit.penalty > 10 * exact.fit.penalty


def test_few_anchors_carry_a_score_of_few_traits() -> None:
    """On one kind of prompt the kernels span 5 traits, 15 products and a constant: 60 of 300 pairs are enough."""
    pairs, gap, prompts = world(300, 1, 5)
    all_of_them = learn_score(pairs, expit(gap), prompts, seed=1, kinds=1)
    few = learn_score(pairs, expit(gap), prompts, seed=1, anchors=60, kinds=1)
    assert isinstance(few, ProcessScore)
    sides = [Traits(side, pairs.prompts) for side in (pairs.first, pairs.second)]
    gaps = [score.scores(sides[0]) - score.scores(sides[1]) for score in (all_of_them, few)]
    assert len(few.weights) == 60
    assert gaps[0] == pytest.approx(gaps[1], abs=0.05)


def test_prompts_on_which_answers_differ_little_keep_little_noise() -> None:
    """On half of the prompts answers differ by 4 times the trait, on the others not at all; votes are single.

    Measured: on the others the noise of the scores is .31 of what it is without scales.
    """
    random = np.random.default_rng(7)
    first, second = random.normal(size=(2, 500, 5))
    kind = random.integers(2, size=500)
    prompts = np.sqrt(np.array([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]]))[kind]
    gap = 4.0 * kind * (first - second)[:, 0]
    pairs, votes = PairTraits(first, second, prompts), (random.random(500) < expit(gap)).astype(float)
    score = learn_score(pairs, votes, [str(i) for i in range(500)], seed=1, kinds=1)
    assert isinstance(score, ProcessScore) and score.fit.scaled
    sides = [score.scores(Traits(side, prompts)) for side in (first, second)]
    learned = sides[0] - sides[1]
    plain = replace(score, weights=score.reach.weights, reach=None)  # type: ignore[union-attr]
    unscaled = plain.scores(Traits(first, prompts)) - plain.scores(Traits(second, prompts))
    assert learned[kind == 0].std() < 0.5 * unscaled[kind == 0].std()


def test_answers_to_a_prompt_may_stand_anywhere() -> None:
    pairs, gap, prompts = world(300, 2, 8)
    score = learn_score(pairs, expit(gap), prompts, seed=1)
    order = np.argsort(pairs.prompts[:, 0], kind="stable")
    together = score.scores(Traits(pairs.first[order], pairs.prompts[order]))
    assert score.scores(Traits(pairs.first, pairs.prompts))[order] == pytest.approx(together, abs=1e-9)
    assert score.scores(Traits(pairs.first[:0], pairs.prompts[:0])).shape == (0,)


def test_traits_with_a_share_have_it_and_are_believed_sooner() -> None:
    """Two traits among sixty say all: among equals they have a thirtieth of z.z, and 200 votes hardly find them."""
    random = np.random.default_rng(0)
    first, second = random.normal(size=(2, 600, 60)) * random.uniform(0.1, 10, 60)
    gap = 2 * ((first - second)[:, -2:] / first[:, -2:].std(0)).sum(1)
    votes = (random.random(600) < expit(gap)).astype(float)
    few = PairTraits(first[:200], second[:200], np.ones((200, 1)))
    prompts = [str(i) for i in range(200)]
    alike, shared = (
        learn_score(few, votes[:200], prompts, seed=1, kinds=1, numbers=numbers, share=share)
        for numbers, share in ((0, 0.0), (2, 0.4))
    )
    for score, share in ((alike, 2 / 60), (shared, 0.4)):
        assert isinstance(score, ProcessScore)
        squares = (((np.concatenate([few.first, few.second]) - score.centre) / score.scale) ** 2).mean(0)
        assert (squares.sum(), squares[-2:].sum()) == pytest.approx((1, share))
    fresh = PairTraits(first[200:], second[200:], np.ones((400, 1)))
    correlations = [slope(score, fresh, gap[200:])[1] for score in (alike, shared)]
    assert correlations[0] < 0.9 < 0.95 < correlations[1]
    assert shared.fit.loss < alike.fit.loss
