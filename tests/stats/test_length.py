"""Length control: removes a length bias, leaves a quality difference, never NaN, and agrees with AlpacaEval's."""

from __future__ import annotations

import csv
import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import spearmanr

from sacpo.errors import DataError
from sacpo.stats.alpaca import win_probabilities
from sacpo.stats.length import length_controlled_win_rate


def judged(
    rng: np.random.Generator, n: int, quality: float, bias: float, extra: float = 60.0
) -> tuple[list[float], np.ndarray, np.ndarray]:
    """Return verdicts of a judge whose log-odds are quality + bias tanh(dlen / sd), and both lengths."""
    baseline = rng.normal(300, 50, n)
    lengths = baseline + rng.normal(extra, 60, n)
    gap = lengths - baseline
    won = (rng.random(n) < expit(quality + bias * np.tanh(gap / gap.std()))).astype(float)
    return won.tolist(), lengths, baseline


def test_a_pure_length_bias_is_removed() -> None:
    result = length_controlled_win_rate(*judged(np.random.default_rng(1), 3000, quality=0.0, bias=2.0))
    assert result.raw.low > 0.65  # longer answers won
    assert result.controlled.low < 0.5 < result.controlled.high
    assert result.controlled.high - result.controlled.low < 0.1
    assert result.length_slope == pytest.approx(2.0, abs=0.35)
    assert result.mean_length_difference == pytest.approx(60, abs=5)


def test_a_quality_difference_is_kept() -> None:
    result = length_controlled_win_rate(*judged(np.random.default_rng(2), 3000, quality=1.0, bias=0.0))
    assert result.controlled.value == pytest.approx(expit(1.0), abs=0.04)
    assert abs(result.length_slope) < 0.4


def test_equal_lengths_give_the_plain_win_rate() -> None:
    # 7 of 10 with the intercept's weak prior: within a thousandth.
    result = length_controlled_win_rate([1] * 7 + [0] * 3, [5] * 10, [5] * 10)
    assert result.controlled.value == pytest.approx(0.7, abs=1e-3)
    assert result.length_slope == 0.0


@pytest.mark.parametrize(
    ("won", "lengths"),
    [
        ([1.0] * 30, [10.0] * 30),  # always wins
        ([0.5] * 30, list(range(30))),  # only ties
        ([0.0] * 15 + [1.0] * 15, list(range(30))),  # length separates wins from losses
        ([1.0, 0.0], [1.0, 2.0]),
        ([1.0], [1.0]),
        ([None, 1.0, 0.0, 1.0], [1e9, 1.0, 2.0, 3.0]),
        ([None], [1.0]),
        ([], []),
    ],
)
def test_no_data_give_nan(won: list[float | None], lengths: list[float]) -> None:
    result = length_controlled_win_rate(won, lengths, [5.0] * len(won))
    controlled = result.controlled
    numbers = [controlled.value, controlled.low, controlled.high]
    if all(value is None for value in won):
        assert numbers == [None, None, None]
        assert controlled.unparsed == len(won)
    else:
        assert all(number is not None and math.isfinite(number) for number in numbers)
        assert 0 <= controlled.low <= controlled.value <= controlled.high <= 1


def test_unparsed_and_order_of_items_move_nothing() -> None:
    won, lengths, baseline = judged(np.random.default_rng(3), 60, 0.3, 1.0)
    names = [f"p{i // 2}" for i in range(60)]
    order = np.random.default_rng(4).permutation(60)
    plain = length_controlled_win_rate(won, lengths, baseline, clusters=names)
    turned = length_controlled_win_rate(
        [None, *(won[i] for i in order)],
        [900.0, *lengths[order]],
        [1.0, *baseline[order]],
        clusters=["q", *(names[i] for i in order)],
    )
    assert (turned.controlled.value, turned.controlled.low) == (plain.controlled.value, plain.controlled.low)
    assert (plain.controlled.unparsed, turned.controlled.unparsed) == (0, 1)


def test_its_interval_covers() -> None:
    # Without a length bias the controlled rate is the plain one.
    rng = np.random.default_rng(5)
    hits = []
    for seed in range(250):
        estimate = length_controlled_win_rate(*judged(rng, 129, 0.8, 0.0), draws=100, seed=seed).controlled
        hits.append(estimate.low <= expit(0.8) <= estimate.high)
    assert 0.915 <= np.mean(hits) <= 0.985


@pytest.mark.parametrize(
    "call",
    [
        lambda: length_controlled_win_rate([1.0], [1.0, 2.0], [1.0]),
        lambda: length_controlled_win_rate([2.0], [1.0], [1.0]),
        lambda: length_controlled_win_rate([1.0], [float("nan")], [1.0]),
        lambda: length_controlled_win_rate([1.0], [1.0], [1.0], clusters=["a", "b"]),
    ],
)
def test_bad_numbers_are_refused(call: object) -> None:
    with pytest.raises(DataError):
        call()  # type: ignore[operator]


def test_own_fit_ranks_alpacaevals_models_as_the_published_one(real_data: Path) -> None:
    folder = real_data / "alpaca_eval"
    with gzip.open(folder / "verdicts_weighted.json.gz", "rt", encoding="utf-8") as file:
        verdicts = json.load(file)
    with (folder / "official_weighted.csv").open(encoding="utf-8") as file:
        published = {row[""]: float(row["length_controlled_winrate"]) / 100 for row in csv.DictReader(file)}
    with (folder / "instruction_difficulty.csv").open(encoding="utf-8") as file:
        difficulty = [float(row["instruction_difficulty"]) for row in csv.DictReader(file)]
    ours, raw = {}, {}
    for name in published:
        data = verdicts[name]
        result = length_controlled_win_rate(
            win_probabilities(data["preference"]).tolist(),
            data["len_2"],
            data["len_1"],
            difficulty=[difficulty[i] for i in data["index"]],
            draws=2,
        )
        ours[name], raw[name] = result.controlled.value, result.raw.value
    names = sorted(published)
    close, plain = (np.mean([abs(values[name] - published[name]) for name in names]) for values in (ours, raw))
    assert spearmanr([ours[name] for name in names], [published[name] for name in names]).statistic > 0.95
    assert close < 0.025 < 0.04 < plain  # found: .018 and .048
