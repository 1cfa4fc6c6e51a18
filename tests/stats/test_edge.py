"""Estimates whose data hardly vary: no interval of no width, none beyond what can be, one rule for all of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmarks.coverage_edge import covered, difference, kappa, rating
from sacpo.cli.stats import StatsOptions
from sacpo.cli.stats.read import VerdictSet
from sacpo.cli.stats.tables import set_tables
from sacpo.data.records import Outcome, Verdict
from sacpo.stats import ratings, verdicts
from sacpo.stats.agreement import cohen_kappa, fleiss_kappa
from sacpo.stats.edge import gaffke_ends, hardly_varies
from sacpo.stats.intervals import mean_interval, rate_interval
from sacpo.stats.ratings import Comparison, Ratings, bradley_terry
from sacpo.stats.report import stats_tables
from sacpo.stats.significance import RATES, detectable_difference, difference_sd, sign_flip_test, sign_test

ONES = np.ones


def duel(wins: int, ties: int, losses: int, rival: str = "base") -> list[Comparison]:
    values = [1.0] * wins + [0.5] * ties + [0.0] * losses
    return [Comparison(i, "m", rival, value) for i, value in enumerate(values)]


def points(share: float) -> float:
    return 1000 + 400 * math.log10(share / (1 - share))


def test_gaffkes_ends_of_a_plain_rate_are_clopper_and_pearsons() -> None:
    for won, n in ((5, 5), (0, 7), (3, 10), (1, 40)):
        flags = np.array([1.0] * won + [0.0] * (n - won))
        exact = rate_interval(won, n)
        assert gaffke_ends(flags, ONES(n), 0, 1) == pytest.approx((exact.low, exact.high), abs=1e-12)


def test_gaffkes_ends_of_three_values_lie_outside_the_t_intervals_and_inside_the_bounds() -> None:
    values = np.array([0.0] * 40 + [0.5, -1.0])
    low, high = gaffke_ends(values, ONES(42), -1, 1)
    spread = values.std(ddof=1) / math.sqrt(42) * float(stats.t.ppf(0.975, 41))
    assert -1 <= low < values.mean() - spread and values.mean() + spread < high <= 1
    assert gaffke_ends(values[::-1].copy(), ONES(42), -1, 1) == (low, high)
    mirrored = gaffke_ends(-values, ONES(42), -1, 1)
    assert mirrored == pytest.approx((-high, -low), abs=0.01)  # two sets of weights


def test_what_hardly_varies() -> None:
    assert hardly_varies(np.array([1.0] * 5))
    assert hardly_varies(np.array([0.0] * 91 + [1.0] * 9))
    assert not hardly_varies(np.array([0.0] * 90 + [1.0] * 10))
    assert not hardly_varies(np.array([0.0, 1.0]))
    assert not hardly_varies(np.array([0.2, 0.4, 0.5]))


@pytest.mark.parametrize("test", [sign_test, sign_flip_test])
def test_a_difference_of_rates_has_a_width_and_stays_within_one(test: Any) -> None:
    """Six prompts all better by 1: 1 - 2 (1 - .025^(1/6)) = .0815. Forty alike: within 2 (1 - .025^(1/40)) / 2."""
    won = test([1.0] * 6, [0.0] * 6, bounds=RATES).difference
    assert (won.value, won.high, won.low) == (1.0, 1.0, pytest.approx(2 * 0.025 ** (1 / 6) - 1))
    same = test([1.0, 0.0] * 20, [1.0, 0.0] * 20, bounds=RATES).difference
    assert (same.low, same.high) == (pytest.approx(0.025 ** (1 / 40) - 1), pytest.approx(1 - 0.025 ** (1 / 40)))
    few = test([1.0, 0.0, 1.0], [0.0, 1.0, 0.0], bounds=RATES).difference
    assert -1 <= few.low < few.value < few.high <= 1


def test_scores_that_do_not_vary_have_no_interval() -> None:
    for estimate in (mean_interval([3.5] * 9), mean_interval([1.0, 2.0] * 3, [0, 0, 1, 1, 2, 2])):
        assert (estimate.low, estimate.high, estimate.method) == (None, None, "none: no variation")
    assert mean_interval([3.5, 3.5, 3.6]).method == "cluster t"
    same = mean_interval([0.0] * 9, zero_is_exact=True)  # log-ratios of a model and itself
    assert (same.low, same.high) == (0, 0)
    assert mean_interval([0.1] * 9, zero_is_exact=True).low is None


def test_what_is_detectable_lies_within_the_bounds() -> None:
    """Without variation the two bounds count as clusters: sd of 40 zeros, 1 and -1 is sqrt(2 / 41)."""
    equal = [0.0] * 40
    assert difference_sd(equal, equal, bounds=RATES) == pytest.approx(math.sqrt(2 / 41))
    assert difference_sd(equal, equal) == 0
    quantiles = float(stats.t.ppf(0.975, 39) + stats.t.ppf(0.8, 39))
    assert detectable_difference(equal, equal, bounds=RATES) == pytest.approx(quantiles * math.sqrt(2 / 41 / 40))
    assert detectable_difference(equal, equal) is None
    assert detectable_difference([1.0, 0.0, 0.0], [0.0, 0.0, 1.0], bounds=RATES) is None
    assert detectable_difference([9.0, 0.0, 0.0], [0.0, 0.0, 9.0]) > 9


@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0]), min_size=2, max_size=40))
def test_no_bounded_difference_leaves_its_bounds_or_has_no_width(values: list[float]) -> None:
    estimate = mean_interval(values, bounds=RATES)
    assert -1 <= estimate.low <= estimate.value <= estimate.high <= 1
    assert estimate.high - estimate.low > 1e-3


@pytest.mark.parametrize("tie_model", ["davidson", "rao-kupper", "half"])
def test_five_wins_of_five_do_not_make_a_certain_rating(tie_model: str) -> None:
    """Clopper and Pearson's ends: .025^(1/5) = .478 for 5 of 5; .751 and .9987 for 19 of 20."""
    always = bradley_terry(duel(5, 0, 0), "base", regularise=True, tie_model=tie_model).ratings["m"]
    assert always.low == pytest.approx(points(0.025**0.2), abs=30)
    assert always.high > always.value > always.low
    never = bradley_terry(duel(0, 0, 5), "base", regularise=True, tie_model=tie_model).ratings["m"]
    assert never.high == pytest.approx(points(1 - 0.025**0.2), abs=30)
    most = bradley_terry(duel(19, 0, 1), "base", tie_model=tie_model).ratings["m"]
    assert most.low == pytest.approx(points(0.7513), abs=30)
    assert most.high == pytest.approx(points(0.99873), abs=120)


def test_a_model_that_resamples_lack_has_its_own_interval_and_moves_no_other() -> None:
    games = [Comparison(i, "a", "base", float(i % 2)) for i in range(100)]
    alone = bradley_terry(games, "base").ratings["a"]
    both = bradley_terry(games + [Comparison(i, "s", "base", 1.0) for i in range(3)], "base", regularise=True).ratings
    assert both["s"].low == pytest.approx(points(0.025 ** (1 / 3)), abs=40)
    assert (both["a"].low, both["a"].high) == (pytest.approx(alone.low, abs=3), pytest.approx(alone.high, abs=3))


def test_a_judge_that_names_a_place_gives_no_certain_rating() -> None:
    """Every prompt is won once and lost once: no resample varies, yet 1000 is not known to a point."""
    games = [Comparison(i, "m", "base", value) for i in range(8) for value in (1.0, 0.0)]
    m = bradley_terry(games, "base").ratings["m"]
    assert m.value == pytest.approx(1000)
    assert m.low < 950 and m.high > 1050


@pytest.mark.parametrize("tie_model", ["davidson", "rao-kupper"])
@pytest.mark.parametrize("counts", [(0, 5, 1), (5, 5, 0), (1, 5, 0), (0, 6, 0), (2, 10, 10), (1, 1, 1)])
def test_ties_without_wins_of_both_sides_have_no_maximum(tie_model: str, counts: tuple[int, int, int]) -> None:
    """With wins of one side alone the tie parameter grows without end: the fit is regularised, and converges."""
    found = bradley_terry(duel(*counts), "base", regularise=True, tie_model=tie_model, draws=100)
    assert found.regularised == (min(counts[0], counts[2]) == 0)
    m = found.ratings["m"]
    assert -500 < m.low < m.value < m.high < 2500
    if counts[0] != counts[2]:
        assert (m.value > 1000) == (counts[0] > counts[2])


def test_ties_bound_a_rating_where_another_pair_bounds_the_ties() -> None:
    """a and base win, lose and tie, so nu is known; m only wins or ties against base: a finite rating."""
    games = [Comparison(i, "a", "base", (1.0, 0.5, 0.0)[i % 3]) for i in range(30)]
    games += [Comparison(i, "m", "base", (1.0, 0.5)[i % 2]) for i in range(30)]
    found = bradley_terry(games, "base", draws=20)
    assert not found.regularised
    # Scores fit: 30 games with 15 wins and 15 ties at nu: P(win) + P(tie) / 2 = .75.
    odds, nu = math.exp((found.ratings["m"].value - 1000) * math.log(10) / 400), found.tie_parameter
    norm = odds**0.5 + nu + odds**-0.5
    assert (odds**0.5 + nu / 2) / norm == pytest.approx(0.75, abs=1e-6)


def test_ties_as_halves_are_plain_bradley_terry() -> None:
    """9 wins, 6 ties, 3 losses: 12 against 6, odds 2."""
    found: Ratings = bradley_terry(duel(9, 6, 3), "base", tie_model="half", draws=50)
    assert found.ratings["m"].value == pytest.approx(1000 + 400 * math.log10(2))
    assert (found.tie_model, found.tie_parameter, found.regularised) == ("half", 0.0, False)
    assert found.ratings["m"].n == 18


def reasons(outcomes: dict[str, list[Outcome]]) -> list[str]:
    records = [
        Verdict(f"p{i}", f"p{i}", model, "help", "j", f"{model}{i}", baseline="base", baseline_hash=f"b{i}",
                outcome=outcome)
        for model, given_ in outcomes.items()
        for i, outcome in enumerate(given_)
    ]  # fmt: skip
    return [text for text in stats_tables(records, draws=20)["findings"] if "ratings" in text]


def test_why_ratings_are_regularised() -> None:
    begin = "ratings for help by j are regularised: "
    win, tie, loss = Outcome.WIN, Outcome.TIE, Outcome.LOSS
    assert reasons({"m": [tie] * 9}) == [f"{begin}every comparison is a tie"]
    assert reasons({"m": [win] * 9}) == [f"{begin}m only wins"]
    assert reasons({"m": [win, loss] * 5, "x": [loss] * 9, "y": [win] * 9}) == [f"{begin}x only loses; y only wins"]
    assert reasons({"m": [win, tie] * 5}) == [f"{begin}m never loses"]
    assert reasons({"m": [win, loss, tie] * 5}) == []


def test_kappa_without_variation_has_a_width() -> None:
    """A rater with one label agrees as chance does, whatever the other says: kappa 0, and nothing is known of it."""
    constant = cohen_kappa(["a"] * 20, ["a"] * 12 + ["b"] * 8)
    assert constant.value == pytest.approx(0, abs=1e-12)
    exact = rate_interval(12, 20)
    assert (constant.low, constant.high) == pytest.approx(((exact.low - 0.6) / 0.4, (exact.high - 0.6) / 0.4))
    opposed = cohen_kappa(list("aabb"), list("bbaa"))  # every leave-one-out kappa is -.8
    assert opposed.value == pytest.approx(-1)
    assert (opposed.low, opposed.high) == (-1, pytest.approx(2 * (1 - 0.025**0.25) - 1))
    agreed = cohen_kappa(list("aabb"), list("aabb"))
    assert (agreed.low, agreed.high) == (pytest.approx(1 - 2 * (1 - 0.025**0.25)), 1)


def test_fleiss_kappa_without_variation_has_a_width() -> None:
    for labels in ([["a", "b"]] * 6, [["a", "a"]] * 3 + [["b", "b"]] * 3, [["a", "a", "b"], ["b", "b", "a"]] * 3):
        found = fleiss_kappa(labels)
        assert found.low <= found.value <= found.high
        assert found.high - found.low > 0.2


@pytest.mark.parametrize(("prompts", "better", "worse"), [(5, 0.05, 0), (60, 0.03, 0), (60, 0.03, 0.03), (60, 0.97, 0)])
def test_differences_that_are_rare_are_covered(prompts: int, better: float, worse: float) -> None:
    cell = difference(prompts, better, worse)
    assert covered(cell, 300, 3, 0) >= 0.95


def test_edge_cells_know_their_truth() -> None:
    assert kappa(20, 0.5, 0.1).truth == pytest.approx(0.8)
    assert difference(20, 0.05, 0.01).truth == pytest.approx(0.04)
    assert rating(20, 0.6, 0.34).truth == pytest.approx(1400)
    assert covered(kappa(20, 0.5, 0.97), 100, 3, 0) >= 0.95


def test_ratings_are_fitted_once_and_prompts_valued_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    fit, values = ratings.fit, verdicts._values
    monkeypatch.setattr(ratings, "fit", lambda *args: calls.append("fit") or fit(*args))
    monkeypatch.setattr(verdicts, "_values", lambda *args: calls.append("values") or values(*args))
    records = [
        Verdict(f"p{i}", f"p{i}", "m", "help", "j", f"m{i}", baseline="base", baseline_hash=f"b{i}",
                outcome=(Outcome.WIN, Outcome.LOSS)[i % 2])
        for i in range(30)
    ]  # fmt: skip
    for wanted, fits in ((True, 2), (False, 0)):  # the ratings and their resamples
        calls.clear()
        set_tables(VerdictSet("", tuple(records), {"m0": 3}), StatsOptions(ratings=wanted, draws=10, against="base"))
        assert (calls.count("fit"), calls.count("values")) == (fits, 1)
