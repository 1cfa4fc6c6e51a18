"""Intervals: worked numbers, exactness, invariance, and the coverage that the reports rely on."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.coverage import JUDGES, Judge, coverage, judged
from sacpo.data.records import Outcome
from sacpo.errors import DataError
from sacpo.stats.intervals import clustered_rate, mean_interval, rate_interval, upper_bound, win_ends, win_rate

STUDIES = 2000


def test_zero_of_83_unsafe_certifies_at_most_three_and_a_half_percent() -> None:
    # The bound u solves (1 - u)^83 = .05.
    assert upper_bound(0, 83) == pytest.approx(1 - 0.05 ** (1 / 83), abs=1e-12)
    assert round(100 * upper_bound(0, 83), 1) == 3.5


def test_clopper_pearson_ends_solve_the_binomial_tails() -> None:
    # 0 of n: the upper end solves (1 - u)^n = .025. 8 of 10: textbook .4439, .9748.
    zero = rate_interval(0, 20)
    assert (zero.low, zero.high) == (0.0, pytest.approx(1 - 0.025 ** (1 / 20)))
    eight = rate_interval(8, 10)
    assert (eight.low, eight.high) == (pytest.approx(0.44390, abs=1e-5), pytest.approx(0.97479, abs=1e-5))


def test_mean_interval_of_singletons_is_the_t_interval() -> None:
    # 1, 2, 3: mean 2, s = 1, t(2) = 4.302653, half width 4.302653 / sqrt(3).
    estimate = mean_interval([1.0, 2.0, 3.0])
    assert estimate.high == pytest.approx(2 + 4.3026527 / 3**0.5)
    assert (estimate.n, estimate.clusters, estimate.method) == (3, 3, "cluster t")


def test_copies_of_every_item_do_not_narrow_a_clustered_interval() -> None:
    values = [0.0, 1.0, 0.5, 1.0, 0.0, 1.0]
    names = list("abcdef")
    for interval in (mean_interval, win_rate):
        once, thrice = interval(values, names), interval(values * 3, names * 3)
        assert (thrice.low, thrice.high) == (pytest.approx(once.low), pytest.approx(once.high))
        assert (thrice.n, thrice.clusters) == (18, 6)


def test_unparsed_outcomes_are_left_out_and_counted() -> None:
    read = [Outcome.WIN, Outcome.TIE, Outcome.LOSS, Outcome.WIN]
    with_garbage = win_rate([*read, Outcome.UNPARSED], list("aabbc"), unparsed=2)
    without = win_rate(read, list("aabb"))
    assert with_garbage.unparsed == 3
    assert (with_garbage.value, with_garbage.low, with_garbage.high) == (without.value, without.low, without.high)
    assert without.value == 0.625


def test_nothing_counted_is_no_number() -> None:
    for empty in (win_rate([], unparsed=4), clustered_rate([], unparsed=4), mean_interval([], unparsed=4)):
        assert (empty.value, empty.low, empty.high, empty.n, empty.unparsed) == (None, None, None, 0, 4)


def test_one_cluster_says_nothing_of_a_rate() -> None:
    for estimate in (win_rate([1, 1, 0], "aaa"), clustered_rate([1, 1, 0], "aaa")):
        assert (estimate.low, estimate.high, estimate.clusters) == (0.0, 1.0, 1)
    assert mean_interval([1, 2, 3], "aaa").low is None


def test_singleton_clusters_give_the_exact_rate_interval() -> None:
    assert clustered_rate([1, 0, 0, 0], "wxyz") == rate_interval(1, 4)


def test_no_event_bounds_a_rate_by_clusters_not_by_items() -> None:
    # 40 clusters of 2 items, none flagged: the same end as 0 of 40.
    clusters = [i // 2 for i in range(80)]
    assert clustered_rate([0] * 80, clusters).high == pytest.approx(rate_interval(0, 40).high)


def test_independent_items_in_clusters_keep_nearly_their_own_number() -> None:
    rng = np.random.default_rng(5)
    flags = rng.random(2000) < 0.3
    clustered, single = clustered_rate(flags, list(np.arange(2000) // 4)), clustered_rate(flags)
    width = (clustered.high - clustered.low) / (single.high - single.low)
    assert 0.9 < width < 1.15


@pytest.mark.parametrize(
    "call",
    [
        lambda: win_rate([1.5]),
        lambda: win_rate([float("nan")]),
        lambda: win_rate([1.0], ["a", "b"]),
        lambda: clustered_rate([0.5]),
        lambda: rate_interval(3, 2),
        lambda: mean_interval([float("inf")]),
        lambda: upper_bound(0, 0),
    ],
)
def test_bad_numbers_are_refused(call: object) -> None:
    with pytest.raises(DataError):
        call()  # type: ignore[operator]


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from("abcdefg")), min_size=1, max_size=30),
    st.randoms(use_true_random=False),
)
def test_order_of_items_does_not_move_a_bit(items: list[tuple[float, str]], random: object) -> None:
    shuffled = list(items)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for interval in (mean_interval, win_rate):
        assert interval(*zip(*items, strict=True)) == interval(*zip(*shuffled, strict=True))


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=2, max_size=40))
def test_swapping_the_sides_mirrors_the_interval(values: list[float]) -> None:
    ours, theirs = win_rate(values), win_rate([1 - value for value in values])
    assert ours.value == pytest.approx(1 - theirs.value)
    assert (ours.low, ours.high) == (pytest.approx(1 - theirs.high), pytest.approx(1 - theirs.low))
    assert 0 <= ours.low <= ours.value <= ours.high <= 1


def covered_share(rng: np.random.Generator, prompts: int, rate: float, judge: Judge) -> float:
    means = judged(rng, STUDIES, prompts, rate, judge)
    m = means.shape[1]
    low, high = win_ends(means.mean(axis=1), means.var(axis=1, ddof=1) / m, 1 / m, m)
    for study in range(3):  # the benchmark's formula is what win_rate computes
        estimate = win_rate(means[study])
        assert (estimate.low, estimate.high) == (pytest.approx(low[study]), pytest.approx(high[study]))
    return coverage(means, rate)


@pytest.mark.parametrize("prompts", [83, 805])
def test_win_rate_covers_93_to_97_percent(prompts: int) -> None:
    rng = np.random.default_rng([11, prompts])
    for rate, judge in itertools.product((0.1, 0.5, 0.9), JUDGES):
        covered = covered_share(rng, prompts, rate, judge)
        assert 0.93 <= covered <= 0.97, (prompts, rate, judge, covered)


@pytest.mark.parametrize("prompts", [30, 83])
def test_win_rate_covers_at_least_93_percent_of_small_and_extreme_studies(prompts: int) -> None:
    rng = np.random.default_rng([12, prompts])
    for rate, judge in itertools.product((0.03, 0.1, 0.95, 0.97), JUDGES):
        covered = covered_share(rng, prompts, rate, judge)
        assert covered >= 0.93, (prompts, rate, judge, covered)


@pytest.mark.parametrize(("clusters", "size"), [(12, 10), (25, 6), (40, 8)])
def test_clusters_of_unequal_size_keep_their_coverage(clusters: int, size: int) -> None:
    rng = np.random.default_rng([13, clusters])
    sizes = rng.integers(size // 2, size + size // 2 + 1, size=clusters)
    labels = np.repeat(np.arange(clusters), sizes).tolist()
    for rate in (0.3, 0.6, 0.85):
        hits = []
        for _ in range(400):
            chance = np.repeat(rng.beta(4 * rate, 4 * (1 - rate), size=clusters), sizes)
            estimate = win_rate((rng.random(chance.size) < chance).astype(float), labels)
            hits.append(estimate.low <= rate <= estimate.high)
        assert np.mean(hits) >= 0.92, (clusters, rate, np.mean(hits))


def test_clustered_rate_covers_at_least_93_percent() -> None:
    rng = np.random.default_rng(14)
    labels = np.repeat(np.arange(40), 8).tolist()
    for rate, alike in itertools.product((0.02, 0.1, 0.4), (0.5, 4.0)):
        hits = []
        for _ in range(400):
            chance = np.repeat(rng.beta(alike * rate, alike * (1 - rate), size=40), 8)
            estimate = clustered_rate(rng.random(320) < chance, labels)
            hits.append(estimate.low <= rate <= estimate.high)
        assert np.mean(hits) >= 0.93, (rate, alike, np.mean(hits))
