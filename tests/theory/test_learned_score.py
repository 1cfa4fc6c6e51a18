"""Two kinds of prompts, told apart from votes alone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from sacpo.errors import DataError
from sacpo.theory.learned_score import KindsScore, learn_score, least_squares_cut
from sacpo.theory.preference_process import PairTraits, ProcessScore, Traits


def two_kinds(n: int, seed: int) -> tuple[PairTraits, np.ndarray, np.ndarray]:
    """Pairs of 5 traits; their prompts' kind shows in their first tokens, in noise.

    On a third of the prompts the first trait counts 4, on the others the second one -.5.
    """
    random = np.random.default_rng(seed)
    first, second = random.normal(size=(2, n, 5))
    kind = random.random(n) < 1 / 3
    chances = np.where(kind[:, None], [0.6, 0.3, 0.1], [0.1, 0.3, 0.6]) * random.uniform(0.5, 1.5, (n, 3))
    gap = np.where(kind, 4 * (first - second)[:, 0], -0.5 * (first - second)[:, 1])
    return PairTraits(first, second, np.sqrt(chances / chances.sum(1, keepdims=True))), gap, kind


def gaps(score: ProcessScore | KindsScore, pairs: PairTraits) -> np.ndarray:
    sides = [score.scores(Traits(side, pairs.prompts)) for side in (pairs.first, pairs.second)]
    return np.asarray(sides[0] - sides[1])


def test_two_kinds_are_told_apart_from_single_votes() -> None:
    """Measured on fresh pairs of three seeds: errors are .58 to .69 and .62 to .81 of those of one process for all."""
    pairs, gap, _ = two_kinds(900, 0)
    votes = (np.random.default_rng(1).random(900) < expit(gap)).astype(float)
    names = [str(i) for i in range(900)]
    both, one = (learn_score(pairs, votes, names, seed=1, kinds=kinds) for kinds in (2, 1))
    assert isinstance(both, KindsScore) and isinstance(one, ProcessScore)
    assert both.fit.loss < one.fit.loss and both.fit.pairs == 900
    assert [fit.pairs for fit in both.fit.kinds] == pytest.approx([600, 300], abs=60)
    fresh, true, kind = two_kinds(400, 2)
    told = both.first.reach_over(both.looked_at, fresh.prompts) > both.cut
    assert (told == kind).mean() > 0.98
    for own in (kind, ~kind):
        off = [np.sqrt(np.mean((gaps(score, fresh) - true)[own] ** 2)) for score in (both, one)]
        assert off[0] < 0.9 * off[1]


def test_both_kinds_give_traits_their_share() -> None:
    pairs, gap, _ = two_kinds(900, 0)
    found = learn_score(pairs, expit(gap), [str(i) for i in range(900)], seed=1, numbers=2, share=0.25)
    assert isinstance(found, KindsScore)
    for score in (found.first, *found.kinds):
        squares = (np.concatenate([score.anchors.first, score.anchors.second]) ** 2).mean(0)
        assert (squares.sum(), squares[-2:].sum()) == pytest.approx((1, 0.25), abs=0.02)  # some pairs are anchors


def test_a_kind_with_few_pairs_is_not_told_apart() -> None:
    """Of 120 pairs a third is of one kind, fewer than the 60 that a score is learned from."""
    pairs, gap, kind = two_kinds(120, 3)
    assert kind.sum() < 60
    assert isinstance(learn_score(pairs, expit(gap), [str(i) for i in range(120)], seed=1), ProcessScore)


def test_a_score_that_says_nothing_tells_no_kinds_apart() -> None:
    """All pairs are ties, so that no answer is better on any prompt."""
    pairs, _, _ = two_kinds(200, 4)
    score = learn_score(pairs, np.full(200, 0.5), [str(i) for i in range(200)], seed=1)
    assert isinstance(score, ProcessScore) and np.abs(gaps(score, pairs)).max() < 1e-6


def test_a_kind_of_ties_alone_has_no_accuracy() -> None:
    """Of a third of the prompts the votes tell, of the others nothing: all of their answers are called safe."""
    pairs, gap, kind = two_kinds(600, 5)
    votes = np.where(kind, np.random.default_rng(6).random(600) < expit(gap), 0.5).astype(float)
    score = learn_score(pairs, votes, [str(i) for i in range(600)], seed=1)
    assert isinstance(score, KindsScore)
    low, high = score.fit.kinds
    assert low.accuracy is None and low.factor is None and high.accuracy is not None
    assert score.fit.accuracy is not None


def test_what_is_not_finite_is_refused() -> None:
    pairs, gap, _ = two_kinds(100, 7)
    pairs.first[3, 2] = np.nan
    with pytest.raises(DataError, match="not finite"):
        learn_score(pairs, expit(gap), [str(i) for i in range(100)], seed=1)


def test_too_few_pairs_are_refused() -> None:
    pairs, gap, _ = two_kinds(59, 6)
    with pytest.raises(DataError, match="too few preference pairs"):
        learn_score(pairs, expit(gap), [str(i) for i in range(59)], seed=1)


@given(st.lists(st.integers(-50, 50), min_size=2, max_size=12), st.integers(1, 3))
def test_the_cut_leaves_the_least_squares(values: list[int], least: int) -> None:
    """All cuts between neighbours are tried that leave enough values on both sides."""
    x = np.array(values, float)
    cut = least_squares_cut(x, least)

    def left(at: float) -> float:
        return float(sum(((part - part.mean()) ** 2).sum() for part in (x[x <= at], x[x > at]) if part.size))

    cuts = [(a + b) / 2 for a, b in pairwise(sorted({*values}))]
    cuts = [at for at in cuts if least <= (x <= at).sum() <= len(x) - least]
    if cuts:
        assert left(cut) == pytest.approx(min(map(left, cuts)), abs=1e-6) and any(cut == pytest.approx(c) for c in cuts)
    else:
        assert cut == max(values)
