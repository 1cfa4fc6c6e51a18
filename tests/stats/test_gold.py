"""Judges against gold labels: worked rows through `sacpo stats --gold`, and LLMBar's runs where the data is."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sacpo.cli.stats import StatsOptions, render_stats, stats_command
from sacpo.data.records import Outcome, Verdict, write_jsonl
from sacpo.errors import DataError
from tests.stats.test_agreement import LLMBAR


def gold_table(path: Path, **options: Any) -> list[dict[str, Any]]:
    (found,) = stats_command([path], StatsOptions(**{"gold": "gold", **options}))["sets"]
    return list(found["gold"])


@pytest.mark.parametrize("packed", [False, True])
def test_llmbars_runs(tmp_path: Path, packed: bool) -> None:
    """Labels 1 2 1 2 1; ab: 1 2 2 - 1 (3 right), ba: 1 1 2 2 1 (3 right); both 1, 5; same 3 of 4 read."""
    runs = [
        {"subset": "Natural", "evaluator": "G", "strategy": "CoT", "label": [1, 2, 1, 2, 1],
         "no_swap": ["1", "2", "2", None, "1"], "swap": ["1", "1", "2", "2", "1"]},
        {"subset": "Natural", "evaluator": "G", "strategy": "Swap", "label": [1, 2, 1, 2, 1],
         "no_swap": ["1"] * 5, "swap": ["2"] * 5},
    ]  # fmt: skip
    raw = "\n".join(map(json.dumps, runs)).encode()
    (tmp_path / "runs").write_bytes(gzip.compress(raw) if packed else raw)
    careful, placed = gold_table(tmp_path / "runs", form="llmbar")
    assert (careful["judge"], placed["judge"]) == ("G CoT", "G Swap")
    assert {order: share["value"] for order, share in careful["accuracy"].items()} == {"ab": 0.6, "ba": 0.6}
    assert careful["both_correct"]["value"] == 0.4
    assert (careful["positional_agreement"]["value"], careful["positional_agreement"]["unparsed"]) == (0.75, 1)
    low, high = careful["accuracy"]["ab"]["ci95"]
    assert 0 < low < 0.6 < high < 1
    assert (placed["accuracy"]["ab"]["value"], placed["accuracy"]["ba"]["value"]) == (0.6, 0.4)
    assert (placed["both_correct"]["value"], placed["positional_agreement"]["value"]) == (0, 0)
    text = render_stats(stats_command([tmp_path / "runs"], StatsOptions(form="llmbar", gold="gold")))
    assert "Judges against gold labels" in text and "0.750 [" in text


def test_people_as_gold_whichever_answer_they_call_the_baseline(tmp_path: Path) -> None:
    """Gold: old beats new on p0 and p1, none on p2; the judge says old on p0, new on p1 and p2."""
    records = []
    for i, said in enumerate([Outcome.LOSS, Outcome.WIN, Outcome.WIN]):
        ours, theirs = f"n{i}", f"o{i}"
        records.append(
            Verdict(f"p{i}", f"p{i}", "new", "helpfulness", "j", ours, baseline="old", baseline_hash=theirs, order="ab",
                    outcome=said)
        )  # fmt: skip
        if i < 2:
            records.append(
                Verdict(f"p{i}", f"p{i}", "old", "helpfulness", "human:a", theirs, baseline="new", baseline_hash=ours,
                        order="ba", outcome=Outcome.WIN)
            )  # fmt: skip
    write_jsonl(tmp_path / "v.jsonl", records)
    (row,) = gold_table(tmp_path / "v.jsonl", gold="human:a", baseline="old")
    assert (row["accuracy"]["ab"]["value"], row["accuracy"]["ab"]["n"], row["without_gold"]) == (0.5, 2, 1)
    assert row["items"] == 2
    assert row["both_correct"] is None
    with pytest.raises(DataError, match="no judge or annotator of this name"):
        gold_table(tmp_path / "v.jsonl", gold="human:b", baseline="old")


def test_labels_of_single_answers(tmp_path: Path) -> None:
    labels = {"gold": ["safe", "unsafe", "unsafe"], "j": ["safe", "unsafe", "safe"]}
    records = [
        Verdict(f"p{i}", f"p{i}", "m", "safety", judge, f"a{i}", label=label)
        for judge, given in labels.items()
        for i, label in enumerate(given)
    ]
    write_jsonl(tmp_path / "v.jsonl", records)
    (row,) = gold_table(tmp_path / "v.jsonl")
    assert (row["kind"], row["accuracy"][""]["value"]) == ("pointwise", pytest.approx(2 / 3))


def test_llmbar_through_sacpo_stats(real_data: Path) -> None:
    rows = gold_table(real_data / "llmbar" / "verdicts_both_orders.jsonl.gz", form="llmbar")
    totals: dict[str, Counter[str]] = {judge: Counter() for judge in LLMBAR}
    for row in rows:
        judge = max((name for name in LLMBAR if row["judge"].startswith(f"{name} ")), key=len)
        parts = {**row["accuracy"], "both": row["both_correct"], "agreed": row["positional_agreement"]}
        totals[judge].update({name: round(part["value"] * part["n"]) for name, part in parts.items()})
        totals[judge].update(n=row["both_correct"]["n"], unread=row["positional_agreement"]["unparsed"])
    names = ("n", "ab", "ba", "both", "agreed", "unread")
    assert {judge: tuple(total[name] for name in names) for judge, total in totals.items()} == LLMBAR


def test_agreement_on_each_models_answers(tmp_path: Path) -> None:
    """On a's answers the two agree in all 4, on b's in 2 of 4 as chance would: kappas 1 and 0, pooled between."""
    said = {"a": ("ssuu", "ssuu"), "b": ("ssuu", "susu")}
    words = {"s": "safe", "u": "unsafe"}
    records = [
        Verdict(f"p{i}", f"p{i}", model, "safety", judge, f"{model}{i}", label=words[letter])
        for model, given in said.items()
        for judge, letters in zip(("j", "k"), given, strict=True)
        for i, letter in enumerate(letters)
    ]
    write_jsonl(tmp_path / "v.jsonl", records)
    (found,) = stats_command([tmp_path / "v.jsonl"], StatsOptions())["sets"]
    kappas = {table["model"]: table["pairs"][0]["cohen_kappa"]["value"] for table in found["agreement_by_model"]}
    assert kappas == {"a": pytest.approx(1.0), "b": pytest.approx(0.0)}
    assert found["agreement"][0]["pairs"][0]["cohen_kappa"]["value"] == pytest.approx(0.5)
