"""Kappas: textbook tables, coverage, and the published agreements on real labels."""

from __future__ import annotations

import csv
import gzip
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from sacpo.errors import DataError
from sacpo.stats.agreement import agreement_rate, cohen_kappa, fleiss_kappa
from sacpo.stats.reliability import both_orders

# XSTest's labels; anything else in the column is the judge's prose.
REFUSAL_LABELS = {"1_full_compliance", "2_full_refusal", "3_partial_refusal"}


def test_cohens_kappa_by_hand() -> None:
    # yes/yes 20, yes/no 5, no/yes 10, no/no 15: p_o = .7, p_e = .5 * .6 + .5 * .4 = .5, kappa = .4.
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    kappa = cohen_kappa(first, second)
    assert kappa.value == pytest.approx(0.4)
    # The asymptotic standard error of this table is .1272 (Fleiss, Cohen and Everitt 1969).
    assert kappa.high - kappa.value == pytest.approx(2.01 * 0.1272, rel=0.05)


def test_fleiss_kappa_of_the_textbook_example() -> None:
    # Fleiss (1971) as worked on in textbooks: 10 items, 14 raters, 5 categories, kappa .210.
    table = [
        (0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1),
        (7, 7, 0, 0, 0), (3, 2, 6, 3, 0), (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7),
    ]  # fmt: skip
    ratings = [[label for label, count in enumerate(row) for _ in range(count)] for row in table]
    kappa = fleiss_kappa(ratings)
    assert kappa.value == pytest.approx(0.210, abs=5e-4)
    assert kappa.low < kappa.value < kappa.high


def test_fleiss_of_two_raters_uses_pooled_shares() -> None:
    # Scott's pi: p_o = .75, shares 5/8 and 3/8, p_e = 34/64, pi = (.75 - .53125) / .46875.
    assert fleiss_kappa([("a", "a"), ("a", "a"), ("b", "b"), ("a", "b")]).value == pytest.approx(0.21875 / 0.46875)


def test_unread_labels_are_left_out_and_counted() -> None:
    first, second = ["a", "b", "a", None, "b"], ["a", "b", "b", "a", None]
    kappa = cohen_kappa(first, second)
    assert (kappa.n, kappa.unparsed) == (3, 2)
    assert kappa.value == cohen_kappa(first[:3], second[:3]).value
    assert agreement_rate(first, second).value == pytest.approx(2 / 3)
    assert fleiss_kappa([("a", "a", None), ("b", None, None), ("a", "b", "b")]).n == 2


def test_a_rater_who_always_says_the_same_has_no_kappa_above_zero() -> None:
    assert cohen_kappa(["a"] * 10, ["a"] * 7 + ["b"] * 3).value == pytest.approx(0.0)
    assert cohen_kappa(["a"] * 10, ["a"] * 10).value is None


def test_perfect_agreement_of_few_items_is_bounded_away_from_one() -> None:
    few, many = (cohen_kappa(["a", "b"] * n, ["a", "b"] * n) for n in (5, 200))
    # 1 - .025^(1/10) = .3085 of disagreement, p_e = .5: kappa at least 1 - .617.
    assert (few.value, few.low) == (1.0, pytest.approx(1 - 0.3085 / 0.5, abs=1e-3))
    assert many.low > 0.98


def test_repeated_items_do_not_narrow_kappas_interval() -> None:
    rng = np.random.default_rng(2)
    first, second = rng.integers(0, 2, 40).tolist(), rng.integers(0, 2, 40).tolist()
    once = cohen_kappa(first, second)
    thrice = cohen_kappa(first * 3, second * 3, list(range(40)) * 3)
    assert (thrice.low, thrice.high) == (pytest.approx(once.low), pytest.approx(once.high))


def test_kappas_interval_covers() -> None:
    # Two raters each report a fair coin's side, flipped with probability .15: kappa = (1 - 2 * .15)^2 = .49.
    rng = np.random.default_rng(4)
    hits = []
    for _ in range(500):
        truth = rng.integers(0, 2, 60)
        first, second = (truth ^ (rng.random(60) < 0.15) for _ in range(2))
        kappa = cohen_kappa(first.tolist(), second.tolist())
        hits.append(kappa.low <= 0.49 <= kappa.high)
    assert 0.92 <= np.mean(hits) <= 0.98


def test_raters_of_different_items_are_refused() -> None:
    with pytest.raises(DataError, match="same items"):
        cohen_kappa(["a"], ["a", "b"])
    with pytest.raises(DataError, match="cluster labels"):
        fleiss_kappa([["a", "b"]], ["x", "y"])


def test_pandalm_annotators_agree_as_published(real_data: Path) -> None:
    votes = json.loads((real_data / "pandalm" / "testset-v1.json").read_text(encoding="utf-8"))
    columns = [[item[f"annotator{i}"] for item in votes] for i in (1, 2, 3)]
    kappas = {(a + 1, b + 1): cohen_kappa(columns[a], columns[b]) for a, b in ((0, 1), (0, 2), (1, 2))}
    assert sorted(round(kappa.value, 2) for kappa in kappas.values()) == [0.85, 0.86, 0.88]
    assert all(kappa.n == 999 and kappa.high - kappa.low < 0.07 for kappa in kappas.values())


# Judge: items, right in the first order, right when swapped, right in both, same winner, unread in an order;
# counted independently of this package from the raw winners.
LLMBAR = {
    "ChatGPT-0301": (3040, 1491, 1474, 866, 1804, 5),
    "ChatGPT": (3610, 1730, 1742, 1055, 2237, 18),
    "Falcon": (3040, 1567, 1606, 604, 1071, 9),
    "GPT-4": (4267, 3493, 3527, 3288, 3812, 11),
    "LLaMA2": (3506, 1695, 1666, 1058, 2250, 18),
    "PaLM2": (2772, 1793, 1827, 1444, 1992, 60),
}


def test_llmbar_judges_in_both_orders(real_data: Path) -> None:
    with gzip.open(real_data / "llmbar" / "verdicts_both_orders.jsonl.gz", "rt", encoding="utf-8") as file:
        runs = [json.loads(line) for line in file]
    assert len(runs) == 250
    columns: dict[str, list[list[str | None]]] = defaultdict(lambda: [[], [], [], []])
    for run in runs:
        items = [f"{run['subset']} {i}" for i in range(len(run["label"]))]
        gold = [str(label) for label in run["label"]]
        for column, values in zip(columns[run["evaluator"]], (run["no_swap"], run["swap"], gold, items), strict=True):
            column.extend(values)
    for judge, (n, first, swapped, both, agreed, unread) in LLMBAR.items():
        result = both_orders(*columns[judge])
        assert [estimate.value for estimate in result.accuracy] == pytest.approx([first / n, swapped / n])
        assert result.both_correct.value == pytest.approx(both / n)
        assert result.agreement.value == pytest.approx(agreed / (n - unread))
        assert (result.agreement.n, result.agreement.unparsed) == (n - unread, unread)
        assert result.agreement.clusters < n  # the same item is judged by several strategies
    assert set(columns) == set(LLMBAR)


def test_xstest_labellers(real_data: Path) -> None:
    with (real_data / "xstest" / "labels.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    judge = [row["gpt4_label"] if row["gpt4_label"] in REFUSAL_LABELS else None for row in rows]
    human = [row["final_label"] for row in rows]
    prompts = [row["id"] for row in rows]
    gpt4 = cohen_kappa(human, judge, prompts)
    strings = cohen_kappa(human, [row["strmatch_label"] for row in rows], prompts)
    people = cohen_kappa([row["annotation_1"] for row in rows], [row["annotation_2"] for row in rows], prompts)
    assert (gpt4.unparsed, gpt4.n, gpt4.clusters) == (11, 889, 450)
    # Found: people agree best; matching of strings agrees with them better than GPT-4's labels do.
    found = [round(kappa.value, 4) for kappa in (people, strings, gpt4)]
    assert found == [0.9473, 0.6711, 0.5577]
    assert gpt4.high < strings.low < strings.high < people.low
