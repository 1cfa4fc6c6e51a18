"""What is kept of weights: few of them, with the same mean."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import numpy as np
import pytest

from sacpo.theory.draws import effective_size, thinned, thirds, tournament, without_few


def test_few_weights_stand_for_all_of_them() -> None:
    """Of .4 .2 .15 .1 .05 .04 .03 .02 .01 four: .4 and the threshold .2 three times. .4 and .2 stay as they are."""
    weights = np.array([0.4, 0.2, 0.15, 0.1, 0.05, 0.04, 0.03, 0.02, 0.01, 0.0])
    rng = np.random.default_rng(0)
    found = np.array([thinned(weights, 4, rng) for _ in range(4000)])
    assert {*(found > 0).sum(1).tolist()} == {4}
    assert found.sum(1) == pytest.approx(1.0)
    assert {*np.round(np.unique(found), 9).tolist()} == {0.0, 0.2, 0.4}
    assert found.mean(0) == pytest.approx(weights, abs=0.01)
    drawn = rng.multinomial(4, weights, 4000) / 4
    assert found.var(0).sum() < 0.4 * drawn.var(0).sum()


def test_no_more_weights_than_are_kept_stay_as_they_are() -> None:
    weights = np.array([0.5, 0.0, 0.3, 0.2])
    assert thinned(weights, 3, np.random.default_rng(0)).tolist() == weights.tolist()


def test_equal_weights_are_all_as_likely() -> None:
    rng = np.random.default_rng(0)
    found = np.array([thinned(np.full(4, 0.25), 2, rng) for _ in range(2000)])
    assert {*found.ravel().tolist()} == {0.0, 0.5}
    assert found.mean(0) == pytest.approx(0.25, abs=0.02)


def test_the_smallest_weights_are_left_out() -> None:
    """.004 and .006 are 1 %; .03 is more."""
    assert without_few(np.array([0.006, 0.96, 0.004, 0.03])).tolist() == [0.0, 0.96, 0.0, 0.03]


def test_every_third_of_what_weighs_nothing_stands_for_three() -> None:
    """Two answers have weights; of five others one or two stay, and each is counted once on the average."""
    weights = np.array([0.0, 0.5, 0.0, 0.0, 0.5, 0.0, 0.0])
    rng = np.random.default_rng(0)
    found = np.array([thirds(weights, rng) for _ in range(6000)])
    assert (found[:, [1, 4]] == 1).all()
    assert {*(found == 3).sum(1).tolist()} == {1, 2}
    assert found.mean(0) == pytest.approx(1.0, abs=0.07)
    assert thirds(np.array([1.0]), rng).tolist() == [1.0]


def test_the_effective_size_is_of_as_many_samples_as_are_asked_for() -> None:
    """Of 64 answers parts of 4 are looked at; of 2 the share, as if more were alike."""
    tilt = 3 * np.random.default_rng(0).normal(size=(50, 64))
    parts = tilt.reshape(50 * 16, 4)
    assert effective_size(tilt, 4) == pytest.approx(effective_size(parts, 4))
    assert effective_size(tilt, 4) < effective_size(tilt, 64)
    assert effective_size(np.zeros((3, 2)), 8) == pytest.approx(8.0)
    assert effective_size(tilt[:, :7], 4) == pytest.approx(effective_size(tilt[:, :4], 4)), "three are left over"


@pytest.mark.parametrize("places", [0, 1, 2, 5, 16])
def test_pairs_are_rounds_in_which_each_place_is_once(places: int) -> None:
    rng = random.Random(0)
    every = [frozenset(pair) for pair in itertools.combinations(range(places), 2)]
    found = tournament(range(places), 1000, rng)
    assert Counter(map(frozenset, found)) == Counter(every), "all there are, each once"
    few = tournament(range(places), places // 2, rng)
    assert len({*itertools.chain(*few)}) == 2 * len(few) == 2 * (places // 2), "a round: each place in one pair"


def test_pairs_are_drawn_by_lot_and_so_is_which_is_first() -> None:
    rng = random.Random(1)
    drawn = Counter(tournament(range(4), 1, rng)[0] for _ in range(6000))
    assert len(drawn) == 12 and all(n / 6000 == pytest.approx(1 / 12, abs=0.02) for n in drawn.values())
