"""AlpacaEval's published figures: worked rows always, all official rows where the data is present."""

from __future__ import annotations

import csv
import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sacpo.errors import DataError
from sacpo.stats.alpaca import leaderboard_row, published_length_controlled, win_probabilities


def test_a_row_by_hand() -> None:
    # Probabilities 1, 0, .5, .5, .75; null dropped. Mean .55; squares of deviations .2025+.3025+.0025+.0025+.04 = .55.
    row = leaderboard_row([2, 1, 0, 1.5, 1.75, None])
    assert (row.n_wins, row.n_wins_base, row.n_draws, row.n_total) == (2, 1, 2, 5)
    assert row.win_rate == pytest.approx(55)
    assert row.discrete_win_rate == pytest.approx(60)
    assert row.standard_error == pytest.approx(100 * math.sqrt(0.55 / 4 / 5))


@pytest.mark.parametrize("wrong", [0.5, 2.1, -1, float("nan")])
def test_what_is_no_preference_is_refused(wrong: float) -> None:
    with pytest.raises(DataError, match="not a preference"):
        win_probabilities([1, wrong])


def test_published_length_control_by_hand() -> None:
    # sigmoid(0) = .5 and sigmoid(ln 3) = .75.
    assert published_length_controlled(0.0, 1.0, [0.0, math.log(3)]) == pytest.approx(62.5)


def official(folder: Path, kind: str) -> list[dict[str, str]]:
    with (folder / f"official_{kind}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def raw(folder: Path, kind: str) -> dict[str, dict[str, Any]]:
    with gzip.open(folder / f"verdicts_{kind}.json.gz", "rt", encoding="utf-8") as file:
        return json.load(file)


def test_all_71_official_rows_are_reproduced(real_data: Path) -> None:
    folder, checked = real_data / "alpaca_eval", 0
    for kind in ("weighted", "gpt4"):
        verdicts = raw(folder, kind)
        for published in official(folder, kind):
            row = leaderboard_row(verdicts[published[""]]["preference"])
            for name in ("win_rate", "standard_error", "discrete_win_rate"):
                assert getattr(row, name) == pytest.approx(float(published[name]), abs=1e-6), (published[""], name)
            for name in ("n_wins", "n_wins_base", "n_draws", "n_total"):
                assert getattr(row, name) == int(published[name]), (published[""], name)
            checked += 1
    assert checked == 71


def test_length_controlled_win_rates_are_reproduced(real_data: Path) -> None:
    folder = real_data / "alpaca_eval"
    with (folder / "instruction_difficulty.csv").open(encoding="utf-8") as file:
        difficulty = np.array([float(row["instruction_difficulty"]) for row in csv.DictReader(file)])
    with (folder / "length_control_weights.csv").open(encoding="utf-8") as file:
        weights = {row[""]: row for row in csv.DictReader(file)}
    published = official(folder, "weighted")
    for row in published:
        weight = weights[row[""]]
        ours = published_length_controlled(
            float(weight["not_gamed_baseline.astype(float)"]),
            float(weight["instruction_difficulty"]),
            difficulty[: int(row["n_total"])],
        )
        assert ours == pytest.approx(float(row["length_controlled_winrate"]), abs=1e-6), row[""]
    assert len(published) == 37
