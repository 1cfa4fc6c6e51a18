"""Bradley-Terry with ties: closed forms, recovery, invariance, refusal, and a real table of five models."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from sacpo.data.records import Outcome, Verdict
from sacpo.errors import DataError
from sacpo.stats.ratings import Comparison, bradley_terry, comparisons_of
from sacpo.stats.tie_models import TIE_MODELS


def duel(wins: int, ties: int, losses: int, first: str = "policy", second: str = "sft") -> list[Comparison]:
    values = [1.0] * wins + [0.5] * ties + [0.0] * losses
    return [Comparison(f"{first}-{second}-{i}", first, second, value) for i, value in enumerate(values)]


def test_ten_to_one_is_400_points() -> None:
    ratings = bradley_terry(duel(100, 0, 10), "sft")
    assert ratings.ratings["policy"].value == pytest.approx(1400)
    assert ratings.ratings["sft"].value == 1000.0
    assert (ratings.ratings["sft"].low, ratings.ratings["sft"].high) == (1000.0, 1000.0)
    assert ratings.ratings["policy"].low < 1400 < ratings.ratings["policy"].high


def test_davidson_by_hand() -> None:
    # Two models fit perfectly: win/loss = e^d = 4, tie/sqrt(win loss) = nu = 20/20.
    ratings = bradley_terry(duel(40, 20, 10), "sft")
    assert ratings.ratings["policy"].value == pytest.approx(1000 + 400 * math.log10(4))
    assert (ratings.tie_model, ratings.tie_parameter) == ("Davidson", pytest.approx(1.0))


def test_rao_kupper_by_hand() -> None:
    # P(win) = .5 = sigmoid(d - c), P(loss) = .2 = sigmoid(-d - c): d - c = 0, d + c = ln 4.
    ratings = bradley_terry(duel(50, 30, 20), "sft", tie_model="rao-kupper")
    assert ratings.ratings["policy"].value == pytest.approx(1000 + 400 / math.log(10) * math.log(2))
    assert (ratings.tie_model, ratings.tie_parameter) == ("Rao-Kupper", pytest.approx(2.0))


@pytest.mark.parametrize("name", ["davidson", "rao-kupper"])
def test_likelihoods_match_their_derivatives_and_sum_to_one(name: str) -> None:
    model, step = TIE_MODELS[name], 1e-5
    d, tie = np.array([[0.7]]), np.array([[0.4]])
    chances = [math.exp(model.curve(np.eye(3)[None, [i]], d, tie).value[0, 0]) for i in range(3)]
    assert sum(chances) == pytest.approx(1)
    counts = np.array([[[3.0, 2.0, 4.0]]])
    here = model.curve(counts, d, tie)
    by_d = [model.curve(counts, d + s, tie) for s in (-step, step)]
    by_tie = [model.curve(counts, d, tie + s) for s in (-step, step)]
    for ahead, names in ((by_d, ("d", "d_d", "d_tie")), (by_tie, ("tie", "d_tie", "tie_tie"))):
        for field, source in zip(names, ("value", "d", "tie"), strict=True):
            slope = (getattr(ahead[1], source) - getattr(ahead[0], source)) / (2 * step)
            assert getattr(here, field) == pytest.approx(slope, rel=1e-6), (name, field)


def season(seed: int, clusters: int = 200) -> list[Comparison]:
    """Return comparisons of four models whose true ratings in nats are 0, .5, 1, 1.5 under Davidson's nu = .6."""
    rng = np.random.default_rng(seed)
    games = []
    for prompt in range(clusters):
        for i in range(4):
            for j in range(i):
                d = (i - j) / 2
                weights = np.array([math.exp(d / 2), 0.6, math.exp(-d / 2)])
                games.append(
                    Comparison(prompt, f"m{i}", f"m{j}", float(rng.choice([1, 0.5, 0], p=weights / weights.sum())))
                )
    return games


def test_known_ratings_are_recovered_within_their_intervals() -> None:
    hits = []
    for seed in range(25):
        fitted = bradley_terry(season(seed), "m0", draws=200).ratings
        for i in (1, 2, 3):
            truth = 1000 + 400 / math.log(10) * i / 2
            hits.append(fitted[f"m{i}"].low <= truth <= fitted[f"m{i}"].high)
    assert np.mean(hits) >= 0.85
    assert list(fitted) == ["m3", "m2", "m1", "m0"]


def test_order_and_sides_of_records_change_no_bit() -> None:
    games = season(1, clusters=30)
    order = np.random.default_rng(2).permutation(len(games))
    turned = [
        Comparison(games[i].cluster, games[i].second, games[i].first, 1 - games[i].value) if i % 2 else games[i]
        for i in order
    ]
    assert bradley_terry(games, "m0", draws=50) == bradley_terry(turned, "m0", draws=50)


def test_the_scale_is_additive() -> None:
    games = season(3, clusters=40)
    low, high = (bradley_terry(games, name, draws=0).ratings for name in ("m0", "m3"))
    for name in ("m1", "m2"):
        assert low[name].value - low["m0"].value == pytest.approx(high[name].value - high["m0"].value)


def test_a_model_that_only_wins_has_no_rating_unless_regularised() -> None:
    games = duel(20, 0, 0) + duel(5, 2, 5, "other")
    with pytest.raises(DataError, match="do not exist"):
        bradley_terry(games, "sft")
    ratings = bradley_terry(games, "sft", regularise=True)
    assert ratings.regularised
    assert 1000 < ratings.ratings["policy"].value < 4000
    assert math.isfinite(ratings.ratings["policy"].high)


def test_ties_alone_decide_nothing() -> None:
    with pytest.raises(DataError, match="do not exist"):
        bradley_terry(duel(0, 9, 0), "sft")
    assert bradley_terry(duel(0, 9, 0), "sft", regularise=True).ratings["policy"].value == pytest.approx(1000)


def test_resamples_without_a_maximum_are_counted() -> None:
    ratings = bradley_terry(duel(9, 0, 1), "sft", draws=200)
    assert not ratings.regularised
    assert 40 < ratings.regularised_draws < 110  # .9^10 = .35 of the resamples lose the only loss


@pytest.mark.parametrize(
    ("games", "baseline", "match"),
    [
        (duel(3, 0, 2), "nobody", "baseline takes part"),
        (duel(3, 0, 2) + duel(2, 0, 2, "x", "y"), "sft", "no comparison links"),
        ([Comparison(0, "a", "b", 0.75)], "a", "not a comparison"),
        ([Comparison(0, "a", "a", 1.0)], "a", "not a comparison"),
    ],
)
def test_bad_comparisons_are_refused(games: list[Comparison], baseline: str, match: str) -> None:
    with pytest.raises(DataError, match=match):
        bradley_terry(games, baseline)
    with pytest.raises(DataError, match="tie model"):
        bradley_terry(games, baseline, tie_model="elo")


def test_unparsed_verdicts_are_no_comparisons() -> None:
    plain = {"cluster": "p", "model": "policy", "criterion": "h", "judge": "j", "answer_hash": "a", "baseline": "sft"}
    records = [Verdict(prompt_id="p", outcome=outcome, **plain) for outcome in Outcome]
    assert sorted(game.value for game in comparisons_of(records)) == [0.0, 0.5, 1.0]


def test_pandalms_five_models_on_real_votes(real_data: Path) -> None:
    items = json.loads((real_data / "pandalm" / "testset-v1.json").read_text(encoding="utf-8"))
    games, points, played = [], Counter(), Counter()
    for item in items:
        first, second = item["cmp_key"].split("_")
        for annotator in (1, 2, 3):
            value = {"0": 0.5, "1": 1.0, "2": 0.0}[str(item[f"annotator{annotator}"])]
            games.append(Comparison(item["idx"], first, second, value))
            points.update({first: value, second: 1 - value})
            played.update((first, second))
    ratings = {name: bradley_terry(games, "llama-7b", tie_model=name, draws=100) for name in TIE_MODELS}
    assert {"davidson", "rao-kupper"} == set(ratings)
    for fitted in ratings.values():
        # A balanced round robin: the order of the ratings is that of the points per game.
        assert list(fitted.ratings) == sorted(points, key=lambda name: -points[name] / played[name])
        assert next(iter(fitted.ratings)) == "llama-7b"
        assert all(rating.n == played[name] for name, rating in fitted.ratings.items())
        assert fitted.ratings["cerebras-gpt-6.7B"].high < 1000
        assert not fitted.regularised
    for name, rating in ratings["davidson"].ratings.items():
        assert rating.value == pytest.approx(ratings["rao-kupper"].ratings[name].value, abs=60)
