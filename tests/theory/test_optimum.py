"""Estimates of the optimum from samples, against exact small worlds and numbers worked by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from theory_tables import drawn, looked_up, table_world

from sacpo.errors import DataError
from sacpo.report.theory import KlToOptimum, OptimumPoint, Theory
from sacpo.theory.optimum import Bank, alarm, curve, kl_to_optimum, optimum, support
from sacpo.theory.tabular import kl, log_partition, mean, smallest_eta, tilted

SEEDS = st.integers(0, 2**31)


def sampled_bank(seed: int, n: int, sample: int = 1) -> tuple[Bank, np.ndarray, np.ndarray, np.ndarray]:
    """Return a bank of n answers a prompt with the exact reference, reward and safety."""
    reference, (reward, safety) = table_world(seed)
    answers = drawn(reference, n, sample)
    return Bank(looked_up(reward, answers), looked_up(safety, answers)), reference, reward, safety


def test_worked_numbers() -> None:
    """One prompt, two answers, beta = 1, lambda = 1: f = (0, ln 3), weights (1/4, 3/4), Z = 2.

    With r = (0, ln 3 - 1) and g = (0, 1): E_r = 3/4 (ln 3 - 1), E_g = 3/4,
    KL = 3/4 ln 3 - ln 2 = 3/4 ln(3/2) + 1/4 ln(1/2), ess = 1 / (1/16 + 9/16) = 1.6,
    bias = (2 / 1.6 - 1) / 2 = 1/8. The better answer is drawn three times in four and meets the other: win rate 3/4.
    """
    found = optimum(Bank(np.array([[0.0, math.log(3) - 1]]), np.array([[0.0, 1.0]])), beta=1, lam=1)
    assert found.E_r == pytest.approx(0.75 * (math.log(3) - 1))
    assert found.E_g == pytest.approx(0.75)
    assert found.kl == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert found.log_z == pytest.approx([math.log(2)])
    assert found.ess == found.least_ess == pytest.approx(1.6)
    assert found.log_z_bias == pytest.approx(1 / 8)
    assert found.win_rate == pytest.approx({"reward": 0.75, "safety": 0.75})
    assert found.beta_over_lambda == 1


def test_rates_count_their_own_prompts() -> None:
    """g = (0, ln 3) for three prompts, weights (1/4, 3/4): the first prompt is restricted, the last two borderline."""
    bank = Bank(
        np.zeros((3, 2)),
        np.tile([0.0, math.log(3)], (3, 1)),
        unsafe=np.array([[1, 0], [1, 1], [1, 1]]),
        refused=np.array([[1, 1], [0, 1], [0, 0]]),
        restricted=np.array([1, 0, 0]),
        borderline=np.array([0, 1, 1]),
    )
    found = optimum(bank, beta=1, lam=1)
    assert found.unsafe_rate == pytest.approx(0.25)
    assert found.over_refusal_rate == pytest.approx((0.75 + 0) / 2)


def test_rates_are_none_where_nothing_can_be_counted() -> None:
    scores = np.zeros((2, 2))
    assert optimum(Bank(scores, scores), beta=1, lam=1).unsafe_rate is None
    none = Bank(scores, scores, unsafe=np.ones((2, 2)), restricted=np.zeros(2))
    assert optimum(none, beta=1, lam=1).unsafe_rate is None
    every = Bank(scores, scores, unsafe=np.ones((2, 2)))
    assert optimum(every, beta=1, lam=1).unsafe_rate == 1.0


def test_win_rate_by_hand_with_ties() -> None:
    """r = (0, 0, 1), lambda = 0, beta = 1/ln 2: weights (1/4, 1/4, 1/2).

    A zero ties with one of the two others and loses to the other: 1/4. The one wins always: 1/2 * 1/4 + 1/2 = 5/8.
    """
    bank = Bank(np.array([[0.0, 0.0, 1.0]]), np.zeros((1, 3)))
    found = optimum(bank, beta=1 / math.log(2), lam=0)
    assert found.win_rate["reward"] == pytest.approx(5 / 8)
    assert found.win_rate["safety"] == 0.5
    assert found.beta_over_lambda is None


@given(SEEDS, st.floats(0.3, 3), st.floats(0, 3))
def test_a_bank_of_every_answer_is_exact(seed: int, beta: float, lam: float) -> None:
    """With a uniform reference and every answer once, nothing is estimated: all figures equal the tables'."""
    _, (reward, safety) = table_world(seed)
    uniform = np.full(reward.shape, 1 / reward.shape[1])
    exact = tilted(uniform, reward + lam * safety, beta)
    bank = Bank(reward, safety, unsafe=safety < 0)
    found = optimum(bank, beta=beta, lam=lam)
    assert found.E_r == pytest.approx(mean(exact, reward))
    assert found.E_g == pytest.approx(mean(exact, safety))
    assert found.kl == pytest.approx(kl(exact, uniform), abs=1e-9)
    assert found.unsafe_rate == pytest.approx(mean(exact, (safety < 0).astype(float)))
    assert found.log_z == pytest.approx(log_partition(uniform, reward + lam * safety, beta))
    assert alarm(bank, beta=beta, lam=lam) == pytest.approx(kl(uniform, exact), abs=1e-9)


@settings(max_examples=15, deadline=None)
@given(SEEDS)
def test_estimates_come_close_to_the_exact_values(seed: int) -> None:
    """20,000 samples a prompt: standard errors are near .01, so .1 is far outside what chance does."""
    bank, reference, reward, safety = sampled_bank(seed, 20_000)
    exact = tilted(reference, reward + safety, 1.0)
    found = optimum(bank, beta=1, lam=1)
    assert found.E_r == pytest.approx(mean(exact, reward), abs=0.1)
    assert found.E_g == pytest.approx(mean(exact, safety), abs=0.1)
    assert found.kl == pytest.approx(kl(exact, reference), abs=0.1)
    assert alarm(bank, beta=1, lam=1) == pytest.approx(kl(reference, exact), abs=0.1)


def win_rate_exact(policy: np.ndarray, reference: np.ndarray, score: np.ndarray) -> float:
    """Return P(s > s') + P(s = s') / 2 for an answer of each, over the tables."""
    better = (score[:, :, None] > score[:, None, :]) + 0.5 * (score[:, :, None] == score[:, None, :])
    return float(np.einsum("pi,pj,pij->p", policy, reference, better).mean())


def test_win_rate_comes_close_to_the_exact_one() -> None:
    """400 banks of 200 samples: the mean over banks is within .01 of the table's win rate, far from one half."""
    reference, (reward, _) = table_world(3, prompts=1, answers=6)
    exact = win_rate_exact(tilted(reference, reward, 1.0), reference, reward)
    assert exact > 0.7
    scores = reward[0][drawn(np.repeat(reference, 400, 0), 200, 5)]
    assert optimum(Bank(scores, scores), beta=1.0, lam=0).win_rate["reward"] == pytest.approx(exact, abs=0.01)


def test_log_z_bias_shrinks_with_the_number_of_samples_as_predicted() -> None:
    """The same 20,000 x 128 samples, in banks of 16 to 128: log Z is too low, by half when n doubles.

    The gap of 16 is about .02, that of 128 about .002, with a standard error near .0003 shared by all four.
    """
    reference, (reward, safety) = table_world(7, prompts=1)
    exact = log_partition(reference, reward + safety, 1.0)[0]
    answers = np.random.default_rng(0).choice(reference.shape[1], size=(20_000, 128), p=reference[0])
    gaps, said = [], []
    for n in (16, 32, 64, 128):
        bank = Bank(reward[0][answers].reshape(-1, n), safety[0][answers].reshape(-1, n))
        found = optimum(bank, beta=1, lam=1)
        gaps.append(exact - found.log_z.mean())
        said.append(found.log_z_bias)
    assert gaps[0] > 0.01
    for more, fewer in zip(gaps[1:], gaps, strict=False):
        assert more == pytest.approx(fewer / 2, rel=0.25)
    assert said == pytest.approx(gaps, rel=0.25)


def test_the_curve_goes_from_helpful_to_safe() -> None:
    """As beta/lambda falls E_g grows; strengths come back in their order with lambda = beta / strength."""
    bank, *_ = sampled_bank(11, 500)
    points = curve(bank, (2.0, 1.0, 0.5, 0.25), beta=0.5)
    assert [point.beta_over_lambda for point in points] == [2.0, 1.0, 0.5, 0.25]
    safeties = [point.E_g for point in points]
    assert safeties == sorted(safeties)
    assert points[2].E_g == optimum(bank, beta=0.5, lam=1.0).E_g


@given(SEEDS, st.floats(0.05, 0.8))
def test_the_solved_strength_meets_the_bound_on_the_bank(seed: int, share: float) -> None:
    """`smallest_eta` on uniform weights over samples of pi_r is the sampled dual: the bank then has E_g = b."""
    _, (_, safety) = table_world(seed)
    start, best = float(safety.mean()), float(safety.max(1).mean())
    bound = start + share * (best - start)
    eta = smallest_eta(np.full(safety.shape, 1 / safety.shape[1]), safety, bound)
    assert optimum(Bank(np.zeros(safety.shape), safety), beta=1, lam=eta).E_g == pytest.approx(bound, abs=1e-9)


@settings(deadline=None)
@given(SEEDS, st.integers(0, 2**31), st.floats(0.3, 3), st.floats(0, 3))
def test_kl_to_optimum_is_exact_on_a_whole_table(seed: int, other: int, beta: float, lam: float) -> None:
    """For a uniform policy and every answer once, the estimate is KL(policy || pi*) itself."""
    reference, (reward, safety) = table_world(seed)
    policy = np.full(reference.shape, 1 / reference.shape[1])
    score = reward + lam * safety
    found = kl_to_optimum(
        np.log(policy / reference), reward, safety, log_partition(reference, score, beta), beta=beta, lam=lam
    )
    assert found.value == pytest.approx(kl(policy, tilted(reference, score, beta)), abs=1e-9)
    assert found.n == found.clusters == len(reference)


def test_kl_to_optimum_of_the_optimum_is_nil_and_of_the_reference_is_the_alarm() -> None:
    """For pi* every term is zero, not only their mean; for pi_ref the terms average to the alarm."""
    bank, reference, reward, safety = sampled_bank(5, 4)
    log_z = log_partition(reference, reward + 2 * safety, 0.5)
    best = tilted(reference, reward + 2 * safety, 0.5)
    nil = kl_to_optimum(np.log(best / reference), reward, safety, log_z, beta=0.5, lam=2)
    assert [nil.value, nil.low, nil.high] == pytest.approx([0, 0, 0], abs=1e-9)
    own = optimum(bank, beta=0.5, lam=2)
    same = kl_to_optimum(np.zeros((3, 4)), bank.rewards, bank.safeties, own.log_z, beta=0.5, lam=2)
    assert same.value == pytest.approx(alarm(bank, beta=0.5, lam=2))


def test_kl_interval_is_over_clusters() -> None:
    """Terms 0, 0, 2, 2 in two clusters: mean 1, cluster sums -2 and 2, variance 2 * 8 / 16 = 1, t(1) = 12.706."""
    terms = np.array([0.0, 0.0, 2.0, 2.0])
    nil = np.zeros(4)
    clustered = kl_to_optimum(terms, nil, nil, nil, beta=1, lam=1, clusters=["a", "a", "b", "b"])
    assert (clustered.value, clustered.clusters) == (1.0, 2)
    assert clustered.high == pytest.approx(1 + 12.706, abs=1e-3)
    # without clusters: variance 4/3 * 4 / 16 = 1/3, t(3) = 3.182
    alone = kl_to_optimum(terms, nil, nil, nil, beta=1, lam=1)
    assert alone.high == pytest.approx(1 + 3.182 / math.sqrt(3), abs=1e-3)


def test_the_figures_fit_the_results_schema() -> None:
    bank, *_ = sampled_bank(2, 50)
    point = optimum(bank, beta=1, lam=2)
    parsed = OptimumPoint(**point.to_point("help", "harm"))
    assert parsed.beta_over_lambda == 0.5
    assert parsed.win_rate == {"help": point.win_rate["reward"], "harm": point.win_rate["safety"]}
    distance = kl_to_optimum(np.zeros((3, 50)), bank.rewards, bank.safeties, point.log_z, beta=1, lam=2)
    theory = Theory(curve=[parsed], kl_to_optimum={"m": KlToOptimum(target=distance.to_json())}, target=0.5)
    measured = theory.kl_to_optimum["m"].target
    assert measured is not None
    assert measured.value == distance.value


def test_extreme_scores_stay_finite() -> None:
    """exp(1e5) overflows: weights must be taken from differences to the largest tilt."""
    found = optimum(Bank(np.array([[0.0, 1e5]]), np.zeros((1, 2))), beta=1, lam=1)
    assert found.E_r == 1e5
    assert found.kl == pytest.approx(math.log(2))
    assert found.log_z[0] == pytest.approx(1e5 - math.log(2))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Bank(np.zeros((2, 1)), np.zeros((2, 1))), "two answers a prompt"),
        (lambda: Bank(np.zeros((2, 3)), np.zeros((2, 2))), "shapes differ"),
        (lambda: Bank(np.zeros((2, 3)), np.zeros((2, 3)), restricted=np.zeros(3)), "shapes differ"),
        (lambda: Bank(np.zeros((1, 2)), np.array([[0, np.nan]])), "not finite"),
        (lambda: optimum(Bank(np.zeros((1, 2)), np.zeros((1, 2))), beta=0, lam=1), "no such strengths"),
        (lambda: optimum(Bank(np.zeros((1, 2)), np.zeros((1, 2))), beta=1, lam=-1), "no such strengths"),
        (lambda: curve(Bank(np.zeros((1, 2)), np.zeros((1, 2))), [0.0], beta=1), "must be positive"),
        (lambda: kl_to_optimum([0.0], [0.0], [0.0], [0.0, 0.0], beta=1, lam=1), "shapes differ"),
        (lambda: kl_to_optimum([np.inf], [0.0], [0.0], [0.0], beta=1, lam=1), "not finite"),
        (lambda: optimum(Bank(np.zeros((1, 2)), np.zeros((1, 2))), beta=1, lam=0).to_point(), "lambda = 0"),
    ],
)
def test_what_cannot_be_used_is_refused(make: Callable[[], object], match: str) -> None:
    with pytest.raises(DataError, match=match):
        make()


def test_what_few_samples_support() -> None:
    """Two equally probable answers with tilts 0 and ln 3: pi* is .25 and .75. One sample a prompt is the reference, .5
    and .5; of two samples a quarter is both the first, a quarter both the second, a half .25 and .75: .375 and .625.
    """
    bank = Bank(np.tile([0.0, math.log(3)], (400, 1)), np.zeros((400, 2)))
    one, two = (support(bank, bank.tilt(1, 1), samples, beta=1, lam=1) for samples in (1, 2))
    assert one.E_r == pytest.approx(0.5 * math.log(3), abs=0.01)
    assert two.E_r == pytest.approx(0.625 * math.log(3), abs=0.01)
    assert one.distance == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3), abs=0.01)
    assert two.distance == pytest.approx(0.375 * math.log(1.5) + 0.625 * math.log(2.5 / 3), abs=0.01)
    wrong = support(bank, -bank.tilt(1, 1), 1000, beta=1, lam=1)
    assert wrong.distance == pytest.approx(0.75 * math.log(3) + 0.25 * math.log(1 / 3), abs=0.02)
