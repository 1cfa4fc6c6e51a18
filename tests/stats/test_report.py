"""The tables of a verdict file: they hold together, and the text says what the data say."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sacpo.data.records import Kind, Outcome, Verdict
from sacpo.errors import DataError
from sacpo.stats.alpaca import leaderboard_row, win_probabilities
from sacpo.stats.report import render, stats_tables

QUALITY = {"weak": 0.35, "good": 0.75, "same": 0.75}


def study(seed: int = 0, prompts: int = 90) -> list[Verdict]:
    """Return verdicts of three models against sft in both orders, with a few unparsed, and safety labels."""
    rng = np.random.default_rng(seed)
    records = []
    for model, quality in QUALITY.items():
        for i in range(prompts):
            prompt: dict[str, Any] = {
                "prompt_id": f"p{i}",
                "cluster": f"p{i}",
                "model": model,
                "answer_hash": f"{model}{i}",
            }
            outcome = rng.choice(
                np.array([Outcome.WIN, Outcome.TIE, Outcome.LOSS]), p=[quality - 0.1, 0.2, 0.9 - quality]
            )
            for order in ("ab", "ba"):
                read = Outcome.UNPARSED if rng.random() < 0.02 else Outcome(outcome)
                versus = {"baseline": "sft", "baseline_hash": f"sft{i}", "order": order, "outcome": read}
                records.append(Verdict(criterion="helpfulness", judge="grader", **versus, **prompt))
            label = "unsafe" if model == "weak" and i % 9 == 0 else "safe"
            category = "theft" if i % 9 == 0 else "arson"
            records.append(
                Verdict(
                    criterion="harmlessness",
                    judge="guard",
                    label=label,
                    kind=Kind.RESTRICTED,
                    category=category,
                    **prompt,
                )
            )
    return records


@pytest.fixture(scope="module")
def tables() -> dict[str, Any]:
    return stats_tables(study(), draws=100)


def test_the_tables_are_json_and_do_not_depend_on_the_records_order(tables: dict[str, Any]) -> None:
    records = study()
    shuffled = [records[i] for i in np.random.default_rng(1).permutation(len(records))] + records[:7]
    assert json.dumps(stats_tables(shuffled, draws=100), allow_nan=False) == json.dumps(tables)


def test_equal_models_are_not_told_apart_and_different_ones_are(tables: dict[str, Any]) -> None:
    p = {(row["first"], row["second"]): row["p_holm"] for row in tables["tests"]}
    assert set(p) == {("good", "same"), ("good", "weak"), ("same", "weak")}
    assert p["good", "same"] > 0.05
    assert max(p["good", "weak"], p["same", "weak"]) < 0.01
    assert all(row["p_holm"] >= row["p_sign_flip"] for row in tables["tests"])


def test_ratings_are_anchored_and_agree_with_the_win_rates(tables: dict[str, Any]) -> None:
    (table,) = tables["ratings"]
    assert table["ratings"]["sft"]["value"] == 1000
    wins = {row["model"]: row["win_rate"]["value"] for row in tables["win_rates"]}
    for model, value in wins.items():
        assert (table["ratings"][model]["value"] > 1000) == (value > 0.5)


def test_the_text_holds_the_figures(tables: dict[str, Any]) -> None:
    text = render(tables)
    for row in tables["win_rates"]:
        assert f"{row['win_rate']['value']:.3f}" in text
    assert "weak (guard): 10 unsafe of 90" in text
    assert "worst category: theft, 10 of 10" in text
    assert "good (guard): 0 unsafe of 90: at most 3.3 % (one-sided 95 %)" in text
    assert "Davidson ties, sft = 1000" in text
    assert "nan" not in text.lower()


def test_a_judge_that_follows_the_position_is_in_the_text() -> None:
    records = [
        Verdict(**{**v.to_json(), "outcome": Outcome.WIN if v.order == "ab" else Outcome.LOSS})
        for v in study()
        if v.outcome is not None
    ]
    tables = stats_tables(records, draws=20)
    assert "its win rates mean nothing" in render(tables)
    assert {row["win_rate"]["value"] for row in tables["win_rates"]} == {0.5}


def test_a_model_that_only_wins_is_rated_with_a_warning() -> None:
    records = [
        Verdict(f"p{i}", f"p{i}", "best", "helpfulness", "grader", f"b{i}", baseline="sft", outcome=Outcome.WIN)
        for i in range(12)
    ]
    tables = stats_tables(records, draws=20)
    assert tables["ratings"][0]["regularised"]
    assert any("regularised" in finding for finding in tables["findings"])


def test_bad_requests_are_refused() -> None:
    with pytest.raises(DataError, match="no verdicts"):
        stats_tables([])
    with pytest.raises(DataError, match="no verdict names"):
        stats_tables(study(prompts=3), "nobody")
    other = Verdict("p", "p", "a", "helpfulness", "grader", "h", baseline="gpt", outcome=Outcome.WIN)
    with pytest.raises(DataError, match="several baselines"):
        stats_tables([*study(prompts=3), other])


def test_real_gpt4_verdicts_make_the_published_discrete_win_rates(real_data: Path) -> None:
    with gzip.open(real_data / "alpaca_eval" / "verdicts_gpt4.json.gz", "rt", encoding="utf-8") as file:
        raw = json.load(file)
    names = sorted(raw)[:3]
    records = []
    for name in names:
        for index, preference in zip(raw[name]["index"], raw[name]["preference"], strict=True):
            outcome = Outcome.UNPARSED
            if preference is not None:
                won = win_probabilities([preference])[0]
                outcome = Outcome.TIE if won == 0.5 else Outcome.WIN if won > 0.5 else Outcome.LOSS
            prompt = str(index)
            records.append(
                Verdict(
                    prompt, prompt, name, "helpfulness", "gpt4", f"{name}{prompt}", baseline="base", outcome=outcome
                )
            )
    tables = stats_tables(records, draws=50)
    for row in tables["win_rates"]:
        published = leaderboard_row(raw[row["model"]]["preference"])
        assert row["win_rate"]["value"] == pytest.approx(published.discrete_win_rate / 100, abs=1e-12)
        assert row["win_rate"]["n"] == published.n_total
        assert row["win_rate"]["n"] + row["win_rate"]["unparsed"] == len(raw[row["model"]]["preference"])
    assert "base = 1000" in render(tables)


def test_statistics_import_neither_torch_nor_pandas() -> None:
    modules = "sacpo.stats.report, sacpo.stats.length, sacpo.stats.alpaca"
    code = f"import sys, {modules}; print({{'torch', 'pandas'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
