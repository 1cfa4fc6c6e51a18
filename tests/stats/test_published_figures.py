"""Figures that others publish of the same verdicts: shown beside ours, by hand and on the published data."""

from __future__ import annotations

import csv
import gzip
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sacpo.cli.stats import StatsOptions, render_stats, stats_command
from sacpo.cli.stats.alpaca import ALONE, WITH_DIFFICULTY, read_difficulty, read_weights
from sacpo.data.records import Kind, Outcome, Verdict, text_hash, write_jsonl
from sacpo.errors import DataError
from sacpo.stats.length import length_controlled_win_rate
from sacpo.stats.majority import majority
from sacpo.stats.rates import refusals_apart

WIN, TIE, LOSS, UNPARSED = Outcome.WIN, Outcome.TIE, Outcome.LOSS, Outcome.UNPARSED


def tables(path: Path, form: str = "verdicts", **options: Any) -> dict[str, Any]:
    (found,) = stats_command([path], StatsOptions(form=form, **options))["sets"]
    return found


def game(judge: str, outcome: Outcome, i: int = 0, model: str = "new", baseline: str = "old", **more: Any) -> Verdict:
    return Verdict(f"p{i}", f"p{i}", model, "help", judge, f"{model}{i}", baseline=baseline,
                   baseline_hash=f"{baseline}{i}", outcome=outcome, **more)  # fmt: skip


def said(verdicts: list[Verdict]) -> list[Outcome | str | None]:
    return [verdict.label or verdict.outcome for verdict in majority(verdicts)]


def test_a_majority_is_more_than_half_of_those_asked() -> None:
    assert said([game("a", WIN), game("b", WIN), game("c", LOSS)]) == [WIN]
    assert said([game("a", WIN), game("b", TIE), game("c", LOSS)]) == [UNPARSED]
    assert said([game("a", WIN), game("b", LOSS)]) == [UNPARSED]
    assert said([game("a", TIE), game("b", TIE), game("c", LOSS)]) == [TIE]
    assert said([game("a", WIN), game("b", WIN), game("c", UNPARSED), game("d", UNPARSED)]) == [UNPARSED]
    assert said([game("a", WIN)]) == []


def test_a_majority_counts_each_judge_once_and_from_either_side() -> None:
    twice = [game("a", WIN, order="ab"), game("a", LOSS, order="ba"), game("b", LOSS), game("c", LOSS)]
    assert said(twice) == [LOSS]  # a has no side: it ties
    other = game("b", LOSS, model="old", baseline="new")
    assert (other.answer_hash, other.baseline_hash) == ("old0", "new0")
    assert said([game("a", WIN), other]) == [WIN]
    labels = [Verdict("p", "p", "m", "safety", judge, "h", kind=Kind.RESTRICTED, label=label)
              for judge, label in (("a", "safe"), ("b", "unsafe"), ("c", "unsafe"))]  # fmt: skip
    (verdict,) = majority(labels)
    assert (verdict.judge, verdict.label, verdict.kind) == ("majority", "unsafe", Kind.RESTRICTED)


def test_a_majority_has_tables_of_its_own(tmp_path: Path) -> None:
    """p0 and p1 won, p2 tied, p3 without a majority: (2 + .5) / 3, and plain Bradley-Terry odds of 2.5 to .5."""
    votes = ["wwl", "wtw", "ttl", "wtl"]
    words = {"w": WIN, "t": TIE, "l": LOSS}
    write_jsonl(tmp_path / "v.jsonl",
                [game(f"j{j}", words[v], i) for i, all_ in enumerate(votes) for j, v in enumerate(all_)])  # fmt: skip
    found = tables(tmp_path / "v.jsonl", majority=True, ratings=True, tie_model="half", draws=10)
    (row,) = [row for row in found["win_rates"] if row["judge"] == "majority"]
    assert (row["win_rate"]["value"], row["win_rate"]["unparsed"]) == (pytest.approx(2.5 / 3), 1)
    assert row["won_tied_lost"] == [2, 1, 0]
    (rated,) = [table for table in found["ratings"] if table["judge"] == "majority"]
    assert rated["tie_model"] == "half"
    assert rated["ratings"]["new"]["value"] == pytest.approx(1000 + 400 * math.log10(5))
    assert {name for table in found["agreement"] for name in table["raters"]} == {"j0", "j1", "j2"}


def test_full_and_partial_refusals_apart() -> None:
    words = ["full_refusal", "full_refusal", "partial_refusal", "full_compliance", "refusal"]
    records = [Verdict(f"p{i}", f"p{i}", "m", "refusal", "j", f"h{i}", kind=Kind.BORDERLINE, label=word)
               for i, word in enumerate(words)]  # fmt: skip
    rows = {(row["prompts"], row["degree"]): row["overall"] for row in refusals_apart(records)}
    assert {name: (row["events"], row["rate"]["n"], row["rate"]["unparsed"]) for name, row in rows.items()} == {
        ("borderline", "full"): (2, 4, 1),
        ("borderline", "partial"): (1, 4, 1),
    }
    assert refusals_apart([verdict for verdict in records if "_refusal" not in verdict.label]) == []


def test_subsets_in_one_file_have_figures_of_their_own(tmp_path: Path) -> None:
    """Natural: right 2 and 1 of 2, one reply the same; Hard: nothing read in either order, which is the same reply."""
    runs = [
        {"subset": "Natural", "evaluator": "E", "strategy": "S", "label": [1, 2], "no_swap": ["1", "2"],
         "swap": ["1", None]},
        {"subset": "Hard", "evaluator": "E", "strategy": "S", "label": [1], "no_swap": [None], "swap": [None]},
    ]  # fmt: skip
    (tmp_path / "runs.jsonl").write_text("\n".join(map(json.dumps, runs)))
    found = tables(tmp_path / "runs.jsonl", "llmbar", gold="gold")
    (pooled,) = found["gold"]
    assert pooled["same_reply"]["value"] == pytest.approx(2 / 3)
    assert (pooled["positional_agreement"]["value"], pooled["positional_agreement"]["n"]) == (1.0, 1)
    rows = {row["category"]: row for row in found["gold_by_category"]}
    assert {name: row["accuracy"]["ab"]["value"] for name, row in rows.items()} == {"Natural": 1.0, "Hard": 0.0}
    assert {name: row["same_reply"]["value"] for name, row in rows.items()} == {"Natural": 0.5, "Hard": 1.0}
    text = render_stats({"sets": [found]})
    assert "each category alone" in text and "same reply, unread or not" in text


def test_several_baselines_need_none_until_ratings_are_wanted(tmp_path: Path) -> None:
    records = [game("j", WIN, i, "a", "b") for i in range(3)] + [game("j", LOSS, i, "b", "c") for i in range(3)]
    write_jsonl(tmp_path / "v.jsonl", records)
    found = tables(tmp_path / "v.jsonl")
    assert [(row["model"], row["baseline"]) for row in found["win_rates"]] == [("a", "b"), ("b", "c")]
    assert found["baseline"] is None and found["tests"] == []
    assert any(text.startswith("several baselines (b, c)") and "--baseline" in text for text in found["findings"])
    assert "a v b" in render_stats({"sets": [found]})
    head = tables(tmp_path / "v.jsonl", against="b")["against"]
    assert [(row["first"], row["measure"], row["difference"]["value"]) for row in head] == [
        ("a", "head to head", 0.5),
        ("c", "head to head", 0.5),
    ]
    with pytest.raises(DataError, match="several baselines and none chosen") as caught:
        tables(tmp_path / "v.jsonl", ratings=True)
    assert "--baseline" in str(caught.value.do)


def annotations(folder: Path, preferences: list[float]) -> Path:
    items = [{"instruction": f"do {i}", "output_1": "four", "generator_1": "base", "output_2": "x" * (3 + 2 * i),
              "generator_2": "new", "annotator": "judge", "preference": p}
             for i, p in enumerate(preferences)]  # fmt: skip
    (folder / "annotations.json").write_text(json.dumps(items))
    return folder / "annotations.json"


def test_published_length_control_stands_beside_our_own(tmp_path: Path) -> None:
    """Coefficients .5 and 2 at difficulties 0, 1, -1: 100 mean sigmoid(.5, 2.5, -1.5)."""
    path = annotations(tmp_path, [1.9, 1.2, 2, 1.7][:3])
    difficulty, weights = tmp_path / "difficulty.csv", tmp_path / "weights.csv"
    difficulty.write_text("instruction,instruction_difficulty\ndo 0,0\ndo 1,1\ndo 2,-1\nnever asked,9\n")
    weights.write_text(",np.tanh(std_delta_len),instruction_difficulty,not_gamed_baseline.astype(float)\nnew,1,2,.5\n")
    found = tables(path, "alpaca-eval", difficulty=difficulty, length_weights=weights)
    (row,) = found["length_controlled"]
    theirs = 100 * np.mean([1 / (1 + math.exp(-x)) for x in (0.5, 2.5, -1.5)])
    assert row["alpaca_eval"]["length_controlled_winrate"] == pytest.approx(theirs)
    assert row["alpaca_eval"]["difference"] == pytest.approx(100 * row["controlled"]["value"] - theirs)
    assert any("points from AlpacaEval's published coefficients" in text for text in found["findings"])
    assert f"{theirs:.2f} %" in render_stats({"sets": [found]})
    ours = tables(path, "alpaca-eval")
    assert ours["length_controlled"][0]["controlled"]["value"] != row["controlled"]["value"]
    (finding,) = [text for text in ours["findings"] if "not AlpacaEval's fit" in text]
    assert ALONE in finding and WITH_DIFFICULTY in finding and "--difficulty" in finding
    with pytest.raises(DataError, match="need the instructions' difficulties"):
        tables(path, "alpaca-eval", length_weights=weights)
    difficulty.write_text("instruction,instruction_difficulty\ndo 0,0\n")
    with pytest.raises(DataError, match="no difficulty of 2 of 3 prompts"):
        tables(path, "alpaca-eval", difficulty=difficulty)


def test_pandalm_without_a_baseline(real_data: Path) -> None:
    """The paper's majority votes of people: LLaMA against Bloom 72 won, 28 lost, 11 tied."""
    found = tables(real_data / "pandalm" / "testset-v1.json", "pandalm", majority=True)
    votes = {(row["model"], row["baseline"]): row["won_tied_lost"] for row in found["win_rates"]
             if row["judge"] == "majority"}  # fmt: skip
    assert votes["bloom-7b", "llama-7b"] == [28, 11, 72]
    assert votes["llama-7b", "opt-7b"] == [71, 11, 24]
    assert sum(map(sum, votes.values())) == 999
    (agreed,) = found["agreement"]
    assert [round(pair["cohen_kappa"]["value"], 2) for pair in agreed["pairs"]] == [0.85, 0.88, 0.86]


def test_xstests_full_refusals(real_data: Path) -> None:
    """Of 250 safe prompts Llama 2 refuses 38 % in full and 21.6 % in part, as published."""
    found = tables(real_data / "xstest" / "labels.csv", "xstest")
    asked = ("llama2orig", "human:final", "borderline")
    rows = [row for row in found["refusals_apart"] if (row["model"], row["judge"], row["prompts"]) == asked]
    rates = {row["degree"]: row["overall"]["rate"] for row in rows}
    assert {degree: rate["value"] for degree, rate in rates.items()} == {"full": 0.38, "partial": 0.216}
    assert "Full refusals alone, borderline prompts" in render_stats({"sets": [found]})


def test_llmbars_positional_agreement_run_by_run(real_data: Path, tmp_path: Path) -> None:
    path = real_data / "llmbar" / "verdicts_both_orders.jsonl.gz"
    found = tables(path, "llmbar", gold="gold")
    rows = {(row["judge"], row["category"]): row for row in found["gold_by_category"]}
    with gzip.open(path, "rt", encoding="utf-8") as file:
        runs = [json.loads(line) for line in file]
    assert len(rows) == len(runs) == 250
    unread = Counter()
    for run in runs:
        row = rows[f"{run['evaluator']} {run['strategy']}", run["subset"]]
        same = [a == b for a, b in zip(run["no_swap"], run["swap"], strict=True)]
        assert row["same_reply"]["value"] == pytest.approx(np.mean(same), abs=1e-12)
        assert row["same_reply"]["n"] == len(same)
        unread[row["positional_agreement"]["value"] == row["same_reply"]["value"]] += 1
    assert unread[False] > 50  # without unread replies the figure is another


def test_how_far_own_length_control_is_from_the_published(real_data: Path) -> None:
    """What the finding says: median and most of the 37 models, without and with difficulties."""
    folder = real_data / "alpaca_eval"
    difficulty, weights = (
        read_difficulty(folder / "instruction_difficulty.csv"),
        read_weights(folder / "length_control_weights.csv"),
    )
    with (folder / "instruction_difficulty.csv").open(encoding="utf-8", newline="") as file:
        assert difficulty[text_hash(next(csv.DictReader(file))["instruction"])] == pytest.approx(0, abs=1e-9)
    hard = [*difficulty.values()]
    assert (len(hard), len(weights)) == (805, 37)
    with gzip.open(folder / "verdicts_weighted.json.gz", "rt", encoding="utf-8") as file:
        raw = json.load(file)
    with (folder / "official_weighted.csv").open(encoding="utf-8") as file:
        official = {row[""]: row["length_controlled_winrate"] for row in csv.DictReader(file)}
    for known, words in ((False, ALONE), (True, WITH_DIFFICULTY)):
        apart = []
        for model in sorted(raw.keys() & {name for name, value in official.items() if value}):
            data = raw[model]
            won = [None if p is None else 0.5 if p == 0 else p - 1 for p in data["preference"]]
            terms = {"difficulty": [hard[i] for i in data["index"]]} if known else {}
            ours = length_controlled_win_rate(won, data["len_2"], data["len_1"], draws=0, **terms).controlled.value
            apart.append(abs(100 * ours - float(official[model])))
        assert len(apart) == 37
        assert f"a median of {np.median(apart):.1f}" in words and f"up to {max(apart):.1f}" in words
