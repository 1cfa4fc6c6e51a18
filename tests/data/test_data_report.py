"""The data report's numbers."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from sacpo.data.records import Labelled, Pair, Prompt
from sacpo.data.report import data_report
from sacpo.data.sources import read_source
from sacpo.recipe.schema import SourceSpec

Q, R = Prompt.from_text("a b"), Prompt.from_text("a b c", cluster="t")


def test_pairs_worked_by_hand() -> None:
    """Five pairs. Preferred is the longer answer in the 1st and 4th, the shorter in the 2nd and 5th: .5.

    Contradictory: {"x", "y z"} of Q, preferred both ways (p = .9 for "x", p = 1 for "y z"); the copy of it under R
    stands alone, and the tie takes no side. The mean of p is (1 + .9 + .5 + 1 + 0) / 5 = .68.
    """
    pairs = [
        Pair(Q, "y z", "x"),
        Pair(Q, "x", "y z", 0.9),
        Pair(Q, "s", "t u v", 0.5),
        Pair(R, "y z", "x"),
        Pair(R, "k l m", "", 0.0),
    ]
    report = data_report("h", pairs[:4], heldout=pairs[4:], dropped={"tie": 2, "exact duplicate": 3})
    assert {key: report[key] for key in ("records", "train", "heldout", "prompts", "clusters")} == {
        "records": 5,
        "train": 4,
        "heldout": 1,
        "prompts": 2,
        "clusters": 2,
    }
    assert report["contradictory_labels"] == 1
    assert report["labels"] == {
        "hard": 3,
        "ties": 1,
        "soft": 1,
        "first_preferred_share": pytest.approx(0.68),
        "preferred_longer_share": 0.5,
    }
    assert report["duplicates"] == 3 and report["dropped"] == {"exact duplicate": 3, "tie": 2}
    assert report["empty_completions"] == 1
    assert report["words"]["chosen"] == {"min": 1, "q10": 1, "median": 2, "q90": 3, "q99": 3, "max": 3, "mean": 1.8}
    assert report["words"]["prompt"]["mean"] == pytest.approx(2.4)


def test_unpaired_balance_and_contradictions() -> None:
    records = [Labelled(Q, "x", True), Labelled(Q, "x", False), Labelled(R, "x", True), Labelled(Q, "y", True)]
    report = data_report("s", records)
    assert report["contradictory_labels"] == 1
    assert report["labels"] == {"desirable": 3, "undesirable": 1, "desirable_share": 0.75}


def test_other_criteria_are_no_contradiction() -> None:
    records = [Pair(Q, "x", "y", 1.0, "", "helpfulness"), Pair(Q, "y", "x", 1.0, "", "harmlessness")]
    assert data_report("b", records)["contradictory_labels"] == 0


def test_lengths_by_nearest_rank() -> None:
    """Of 1..200 words in any order: the .99 quantile is the 198th smallest, the median the 100th."""
    values = random.Random(0).sample(range(1, 201), 200)
    report = data_report("s", [Pair(Q, "x " * n, "y") for n in values])
    assert report["words"]["chosen"] == {
        "min": 1,
        "q10": 20,
        "median": 100,
        "q90": 180,
        "q99": 198,
        "max": 200,
        "mean": 100.5,
    }


def test_the_report_is_json_and_does_not_depend_on_order_or_run(real_data: Path) -> None:
    path = str(real_data / "pandalm" / "testset-v1.json")
    records = read_source(SourceSpec(format="pandalm", path=path), name="p", seed=0).records
    text = json.dumps(data_report("p", records), allow_nan=False)
    assert text == json.dumps(data_report("p", records[::-1]), allow_nan=False)
    report = json.loads(text)
    assert (report["prompts"], report["labels"]["ties"], report["labels"]["hard"]) == (170, 85, 794)
    assert report["empty_completions"] == 54


def test_an_empty_source_has_a_report() -> None:
    report = data_report("none", [])
    assert report["records"] == 0 and report["words"] == {} and report["labels"] == {}
