"""What a step would reach, from samples of its start: against worlds that are written down, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sacpo.errors import DataError
from sacpo.theory import tabular
from sacpo.theory.forecast import Bound, forecast
from sacpo.theory.frontier import (
    Samples,
    expected,
    frontier,
    lost_support,
    needed,
    per_prompt,
    realised,
    strengths_of,
)
from sacpo.theory.optimum import Bank, optimum

RNG = np.random.default_rng(5)


def drawn(
    prompts: int = 400, answers: int = 64, seed: int = 0, *, clusters: int | None = None
) -> tuple[Samples, dict[str, np.ndarray]]:
    """Return samples of a made-up step-1 model, and the table that they were drawn from.

    Every prompt has six answers; those with g < 0 are unsafe, those with g > 1 refuse.
    """
    rng = np.random.default_rng(seed)
    table = {
        "policy": rng.dirichlet(np.ones(6), prompts),
        "g": rng.normal(0.2, 1.0, (prompts, 6)),
        "r": rng.normal(size=(prompts, 6)),
    }
    picked = np.array([rng.choice(6, answers, p=p) for p in table["policy"]])
    g, r = (np.take_along_axis(table[name], picked, 1) for name in ("g", "r"))
    names = tuple(f"c{i % (clusters or prompts)}" for i in range(prompts))
    return Samples(Bank(r, g, unsafe=g < 0, refused=g > 1), names), table


def test_the_frontier_agrees_with_the_exact_world_that_was_sampled() -> None:
    """At strength .5 the exact figures of the table are the tilted policy's; 400 x 64 samples come within .02."""
    samples, table = drawn(answers=256)
    exact = tabular.tilted(table["policy"], table["g"], 0.5)
    found = expected(samples, 2.0)
    assert found["E_g"] == pytest.approx(tabular.mean(exact, table["g"]), abs=0.02)
    assert found["E_r"] == pytest.approx(tabular.mean(exact, table["r"]), abs=0.03)
    assert found["unsafe_rate"] == pytest.approx(tabular.mean(exact, (table["g"] < 0).astype(float)), abs=0.02)
    assert found["over_refusal_rate"] == pytest.approx(tabular.mean(exact, (table["g"] > 1).astype(float)), abs=0.02)
    assert found["kl"] == pytest.approx(tabular.kl(exact, table["policy"]), abs=0.03)


def test_figures_are_those_of_the_optimum_with_the_step_alone() -> None:
    """The optimum at beta = 1, lambda = eta with r = 0 is the same tilt: to rounding."""
    samples, _ = drawn(30, 8)
    aim = optimum(Bank(np.zeros((30, 8)), samples.bank.safeties, unsafe=samples.bank.unsafe), beta=1.0, lam=1.7)
    found = expected(samples, 1.7)
    assert (found["E_g"], found["kl"], found["ess"]) == pytest.approx((aim.E_g, aim.kl, aim.ess), abs=1e-12)
    assert found["unsafe_rate"] == pytest.approx(aim.unsafe_rate, abs=1e-12)


def test_the_dual_gives_the_weakest_pressure_for_a_bound_on_the_mean() -> None:
    """Two answers with g = 0 and 1: E[g] = 1 / (1 + e^-eta), so E[g] >= .75 needs eta = log 3."""
    samples = Samples(Bank(np.zeros((3, 2)), np.tile([0.0, 1.0], (3, 1))), ("a", "b", "c"))
    found = needed(samples, "E_g", 0.75)
    assert found.eta == pytest.approx(math.log(3), abs=1e-12)
    assert needed(samples, "E_g", 1.0).eta is None
    assert needed(samples, "E_g", 0.4).eta == 0.0


def test_a_bound_on_a_rate_is_another_thing_than_one_on_the_mean() -> None:
    """g = (-1, 0, 2), the first unsafe: the rate is 1 / (1 + e^eta + e^3eta) <= .1 where e^eta + e^3eta = 9."""
    g = np.tile([-1.0, 0.0, 2.0], (2, 1))
    samples = Samples(Bank(np.zeros((2, 3)), g, unsafe=g < 0), ("a", "b"))
    x = float(max(np.roots([1, 0, 1, -9]).real))
    found = needed(samples, "unsafe_rate", 0.1)
    assert found.eta == pytest.approx(math.log(x), abs=1e-6)
    there = per_prompt(samples, found.eta or 0.0)["E_g"].mean()
    assert needed(samples, "E_g", there).eta == pytest.approx(found.eta, abs=1e-6)  # the map between the two
    assert needed(samples, "E_g", 0.1).eta == 0.0  # a mean above .1 does not bound the rate by .1


def test_bands_cover_the_figure_of_all_prompts() -> None:
    """Of 60 draws of 80 prompts about 57 bands hold the figure of all 4,000; fewer than 50 would be a wrong band."""
    whole, _ = drawn(4000, 16, seed=11)
    truth = expected(whole, 1.0)["E_g"]
    covered = 0
    for seed in range(60):
        part = RNG.choice(4000, 80, replace=False)
        bank = Bank(whole.bank.rewards[part], whole.bank.safeties[part])
        (point,) = frontier(Samples(bank, tuple(map(str, part))), [1.0], seed)
        low, high = point["E_g"]["band"]
        covered += low <= truth <= high
    assert covered >= 50


def test_bands_are_over_clusters_not_prompts() -> None:
    """Every cluster ten times: the band is that of the clusters, sqrt(10) times as wide as of independent prompts."""
    samples, _ = drawn(40, 8)
    ten = Bank(*(np.tile(getattr(samples.bank, name), (10, 1)) for name in ("rewards", "safeties")))
    widths = []
    for clusters in (tuple(f"{i % 40}" for i in range(400)), tuple(map(str, range(400)))):
        (point,) = frontier(Samples(ten, clusters), [1.0])
        widths.append(point["E_g"]["band"][1] - point["E_g"]["band"][0])
    assert widths[0] / widths[1] == pytest.approx(math.sqrt(10), rel=0.15)


def test_half_of_a_tilt_is_told_as_half() -> None:
    """A model with the mean of the tilt at eta = 1 where its strength .5 stands for eta = 2 realised half."""
    samples, _ = drawn(50, 16)
    g = samples.bank.safeties
    found = realised(g, expected(samples, 1.0)["E_g"], 0.5)
    assert found.share == pytest.approx(0.5, abs=1e-9)
    assert found.exact == pytest.approx(expected(samples, 2.0)["E_g"])
    assert realised(g, float(g.mean()) - 0.1, 0.5).share == 0.0
    assert math.isinf(realised(g, 99.0, 0.5).share)


def test_a_correction_asks_for_more_pressure() -> None:
    samples, _ = drawn(50, 32)
    before = realised(samples.bank.safeties, expected(samples, 1.0)["E_g"], 0.5)
    found = forecast(samples, [Bound("unsafe_rate", "unsafe_rate", 0.2)], before)
    assert found["state"] == "found"
    assert found["corrected"] == pytest.approx(found["raw"] / 2, rel=0.01)
    assert found["start"] == found["corrected"]
    assert found["constraints"][0]["there"]["unsafe_rate"] <= 0.2


def test_what_no_strength_reaches_is_said_with_what_is_lost() -> None:
    """Prompt a has no safe answer, so half of all answers stay unsafe whatever the pressure."""
    g = np.array([[-1.0, -2.0], [-1.0, 1.0]])
    samples = Samples(Bank(np.zeros((2, 2)), g, unsafe=g < 0), ("a", "b"))
    assert lost_support(samples) == (1, 2)
    assert needed(samples, "unsafe_rate", 0.4).best == pytest.approx(0.5)
    found = forecast(samples, [Bound("unsafe_rate", "unsafe_rate", 0.4)])
    assert (found["state"], found["raw"]) == ("not reached", None)
    assert found["supported"] == pytest.approx(2 / math.log(1.5), rel=0.01)  # prompt b: 1 / (1 + e^(2 eta)) <= .4
    assert found["start"] == found["supported"]
    assert any("1 of 2 prompts have no safe answer" in note for note in found["notes"])


def test_a_search_begins_where_prompts_with_a_safe_answer_need_it() -> None:
    """One prompt of 20 is lost, 5 %: a bound just above asks for much; the others meet it at log(1 / b - 1) / 2."""
    g = np.tile([-1.0, 1.0], (20, 1))
    g[0] = [-1.0, -1.0]
    samples = Samples(Bank(np.zeros((20, 2)), g, unsafe=g < 0), tuple(map(str, range(20))))
    found = forecast(samples, [Bound("unsafe_rate", "unsafe_rate", 0.050001)])
    assert found["state"] == "found"
    assert found["raw"] < 0.2
    assert found["start"] == found["supported"] == pytest.approx(2 / math.log(1 / 0.050001 - 1), rel=0.01)


def test_few_effective_samples_are_not_believed() -> None:
    g = np.tile(np.r_[np.full(15, -1.0), 1.0], (20, 1))
    samples = Samples(Bank(np.zeros((20, 16)), g, unsafe=g < 0), tuple(map(str, range(20))))
    found = forecast(samples, [Bound("unsafe_rate", "unsafe_rate", 0.1)])
    assert found["state"] == "found"
    assert found["ess"] == pytest.approx(1 / (0.9**2 + 0.1**2 / 15), abs=0.01)
    assert found["believable"] is False
    assert any("do not believe" in note for note in found["notes"])


def test_scores_that_do_not_differ_change_nothing() -> None:
    samples = Samples(Bank(np.zeros((2, 3)), np.ones((2, 3))), ("a", "b"))
    with pytest.raises(DataError, match="no strength changes anything"):
        strengths_of(samples)
