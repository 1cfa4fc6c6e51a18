"""Paired tests: worked p values, level and power by simulation, Holm by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from sacpo.errors import DataError
from sacpo.stats.significance import difference_sd, holm, minimum_detectable_difference, sign_flip_test, sign_test


def test_sign_test_by_hand() -> None:
    # 5 better, 1 worse, 1 equal: p = 2 (C(6,0) + C(6,1)) / 2^6 = 14/64.
    test = sign_test([1, 1, 1, 1, 1, 0, 0.5], [0, 0, 0.5, 0, 0, 1, 0.5])
    assert (test.better, test.worse, test.equal) == (5, 1, 1)
    assert test.p_value == pytest.approx(14 / 64)


def test_sign_flip_by_hand() -> None:
    # Differences 1, 1, .5: |S| = 2.5 is reached by 2 of the 8 patterns.
    test = sign_flip_test([1, 1, 1], [0, 0, 0.5])
    assert test.p_value == pytest.approx(0.25)
    assert test.method == "sign-flip permutation, exact"
    assert test.difference.value == pytest.approx(2.5 / 3)


def test_clusters_flip_as_a_whole() -> None:
    # Twelve items that all favour the first, in three clusters: 2 of 8 patterns, not 2 of 4096.
    test = sign_flip_test([1] * 12, [0] * 12, [i // 4 for i in range(12)])
    assert test.p_value == pytest.approx(0.25)
    assert test.better == 3


def test_equal_models_have_p_one() -> None:
    assert sign_flip_test([1, 0], [1, 0]).p_value == 1.0
    assert sign_test([1, 0], [1, 0]).p_value == 1.0


def test_flips_agree_with_the_binomial() -> None:
    # Differences of +-1 only: the sign-flip test is the sign test. A hair less leaves no step: drawn.
    first = np.array([1.0] * 30 + [0.0] * 14)
    second = 1 - first
    exact = sign_test(first, second).p_value
    assert sign_flip_test(first, second).p_value == pytest.approx(exact, rel=1e-9)
    noise = 1e-5 * np.random.default_rng(0).random(44)
    drawn = sign_flip_test(first - noise, second, seed=3, draws=40_000)
    assert drawn.method == "sign-flip permutation, 40000 draws"
    assert drawn.p_value == pytest.approx(exact, rel=0.15)


@pytest.mark.parametrize("step", [1, 2, 4, 6])
def test_flips_of_stepped_differences_are_exact(step: int) -> None:
    differences = np.random.default_rng(step).integers(-step, step + 1, size=12) / step
    patterns = np.array(list(itertools.product((-1, 1), repeat=12))) @ differences
    expected = np.mean(np.abs(patterns) >= abs(differences.sum()) - 1e-9)
    assert sign_flip_test(differences, np.zeros(12)).p_value == pytest.approx(expected, rel=1e-9)


def test_a_certain_difference_of_many_prompts_keeps_a_p_value_above_zero() -> None:
    assert sign_flip_test([1.0] * 100, [0.0] * 100).p_value == pytest.approx(2**-99, rel=1e-9)
    assert 0 < sign_flip_test([1.0] * 3000, [0.0] * 3000).p_value < 1e-300


def test_order_of_prompts_does_not_move_the_p_value() -> None:
    rng = np.random.default_rng(0)
    first, second, names = rng.random(60), rng.random(60), np.arange(60) // 2
    order = rng.permutation(60)
    forward = sign_flip_test(first, second, names.tolist(), seed=1)
    backward = sign_flip_test(first[order], second[order], names[order].tolist(), seed=1)
    assert forward == backward


def test_sign_flip_keeps_its_level_with_clusters() -> None:
    rng = np.random.default_rng(8)
    names = (np.arange(60) // 3).tolist()
    p = []
    for study in range(400):
        shared = np.repeat(rng.normal(size=20), 3)
        p.append(sign_flip_test(shared + rng.normal(size=60), np.zeros(60), names, seed=study, draws=499).p_value)
    assert 0.02 <= np.mean(np.array(p) <= 0.05) <= 0.08


def test_the_minimum_detectable_difference_is_detected_four_times_in_five() -> None:
    rng = np.random.default_rng(9)
    n, sd = 60, 0.4
    shift = minimum_detectable_difference(n, sd=sd)
    found = [
        sign_flip_test(rng.normal(shift, sd, n), np.zeros(n), seed=study, draws=499).p_value <= 0.05
        for study in range(500)
    ]
    assert 0.75 <= np.mean(found) <= 0.85


def test_detectable_difference_of_the_papers_prompts() -> None:
    # (1.96 + .84) .5 / sqrt(83) = .154 with normal quantiles; t is slightly larger.
    assert minimum_detectable_difference(83) == pytest.approx(2.8016 * 0.5 / math.sqrt(83), rel=0.02)
    assert minimum_detectable_difference(83) > 2.8016 * 0.5 / math.sqrt(83)
    assert minimum_detectable_difference(83, tests=10) > minimum_detectable_difference(83)


def test_difference_sd_uses_cluster_means() -> None:
    # Cluster means of the differences 1 and 0: sd = 1 / sqrt(2).
    assert difference_sd([1, 1, 0, 0], [0, 0, 0, 0], "aabb") == pytest.approx(math.sqrt(0.5))


def test_holm_by_hand() -> None:
    # Sorted .01 x 4, .02 x 3, .03 x 2, .5 x 1 = .04, .06, .06, .5.
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(
    "call",
    [
        lambda: sign_test([1], [1, 0]),
        lambda: sign_flip_test([], []),
        lambda: holm([1.2]),
        lambda: minimum_detectable_difference(1),
        lambda: difference_sd([1.0], [0.0]),
    ],
)
def test_bad_numbers_are_refused(call: object) -> None:
    with pytest.raises(DataError):
        call()  # type: ignore[operator]
