"""Preparing records: duplicates, ties, soft labels and prompts held out."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sacpo.data.prepare import heldout_prompts, prepare, split_key
from sacpo.data.records import Demonstration, Labelled, Message, Pair, Prompt
from sacpo.data.sources import read_source
from sacpo.errors import DataError
from sacpo.recipe.schema import DataSpec


def spec(**fields: Any) -> DataSpec:
    return DataSpec(format="preference", path="rows.jsonl", **fields)


def pair(prompt: str, chosen: str = "A", rejected: str = "B", p: float = 1.0, **fields: Any) -> Pair:
    return Pair(Prompt.from_text(prompt), chosen, rejected, p, **fields)


def test_exact_duplicates_are_dropped_and_near_ones_kept() -> None:
    records = [
        pair("Q", source="row 1"),
        pair("Q", source="row 2"),  # a copy: its source does not count
        pair("Q", p=0.5),
        pair("Q", criterion="helpfulness"),
        pair("Q", "B", "A"),
        pair("Q "),
    ]
    result = prepare(records, spec(), name="x", seed=0)
    assert result.train == [records[0], *records[2:]]
    assert result.dropped == {"exact duplicate": 1} and result.heldout == []


@pytest.mark.parametrize(
    ("one", "other", "copies"),
    [
        (Labelled(Prompt.from_text("Q"), "A", True), Labelled(Prompt.from_text("Q"), "A", True), 1),
        (Labelled(Prompt.from_text("Q"), "A", True), Labelled(Prompt.from_text("Q"), "A", False), 0),
        (Demonstration(Prompt.from_text("Q"), "A"), Demonstration(Prompt.from_text("Q"), "A", "row 2"), 1),
        (Demonstration(Prompt.from_text("Q"), "A"), Demonstration(Prompt.from_text("Q"), "B"), 0),
        (Prompt.from_text("Q"), Prompt.from_text("Q", category="other"), 1),
    ],
)
def test_duplicates_of_every_kind_of_record(one: Any, other: Any, copies: int) -> None:
    result = prepare([one, other], spec(), name="x", seed=0)
    assert len(result.train) == 2 - copies
    assert result.dropped == ({"exact duplicate": 1} if copies else {})


def test_equal_answers_are_dropped_and_an_error_when_there_is_nothing_else() -> None:
    result = prepare([pair("Q", "A", "A"), pair("Q")], spec(), name="x", seed=0)
    assert result.train == [pair("Q")] and result.dropped == {"chosen and rejected are equal": 1}
    with pytest.raises(DataError, match=r"every pair has equal answers[\s\S]*'x'"):
        prepare([pair("Q", "A", "A"), pair("R", "A", "A")], spec(), name="x", seed=0)


def test_ties_and_hardened_labels() -> None:
    """Hardened, p = .2 prefers the second answer, which becomes `chosen`: the copy of a hard pair, and dropped."""
    records = [pair("Q", p=0.8), pair("Q", "B", "A", p=0.2), pair("Q", p=0.5)]
    kept = prepare(records, spec(), name="x", seed=0)
    assert kept.train == records and kept.dropped == {}
    hard = prepare(records, spec(soft_labels="harden"), name="x", seed=0)
    assert hard.train == [pair("Q", p=1.0), pair("Q", p=0.5)] and hard.dropped == {"exact duplicate": 1}
    none = prepare(records, spec(soft_labels="harden", ties="drop"), name="x", seed=0)
    assert none.train == [pair("Q")] and none.dropped == {"exact duplicate": 1, "tie": 1}
    with pytest.raises(DataError, match=r"no record is left[\s\S]*'tie': 1"):
        prepare(records[2:], spec(ties="drop"), name="x", seed=0)


@given(
    texts=st.lists(st.integers(0, 30), min_size=20, max_size=60, unique=True),
    share=st.floats(0.05, 0.6),
    seed=st.integers(0, 5),
)
def test_holdout_splits_by_prompt_and_loses_nothing(texts: list[int], share: float, seed: int) -> None:
    records = [pair(f"Q{text}", f"A{row}") for text in texts for row in range(3)]
    held = heldout_prompts([record.prompt for record in records], share, seed)
    assume(len(held) < len(texts))
    result = prepare(records, spec(holdout=share), name="x", seed=seed)
    assert sorted(r.id for r in result.train + result.heldout) == sorted(r.id for r in records)
    assert not {r.prompt.id for r in result.train} & {r.prompt.id for r in result.heldout}
    assert {split_key(r.prompt) for r in result.heldout} == held and held
    shuffled = random.Random(0).sample(records, len(records))
    again = prepare(shuffled, spec(holdout=share), name="other", seed=seed)
    assert {r.id for r in again.heldout} == {r.id for r in result.heldout}


def test_a_prompt_is_on_one_side_whatever_else_a_source_holds() -> None:
    """Two sources overlap in 50 prompts: none of these is trained on in one and held out in the other."""
    first = prepare([pair(f"Q{i}") for i in range(100)], spec(holdout=0.3), name="h", seed=3)
    second = prepare([pair(f"Q{i}", "C") for i in range(50, 150)], spec(holdout=0.3), name="s", seed=3)
    assert not {r.prompt.id for r in first.train} & {r.prompt.id for r in second.heldout}
    assert not {r.prompt.id for r in second.train} & {r.prompt.id for r in first.heldout}


def test_the_share_is_met_on_average_and_the_seed_draws() -> None:
    """Of 4000 prompts, 10 % is 400 with a standard deviation of sqrt(4000 * .1 * .9) = 19; allowed are 5 of these."""
    prompts = [Prompt.from_text(f"Q{i}") for i in range(4000)]
    held = heldout_prompts(prompts, 0.1, 0)
    assert abs(len(held) - 400) < 95
    assert len(held & heldout_prompts(prompts, 0.1, 1)) < 100
    assert held < heldout_prompts(prompts, 0.2, 0)
    assert heldout_prompts(prompts, 0.0, 0) == set()
    assert len(heldout_prompts(prompts[:5], 1e-9, 0)) == 1


def test_clusters_and_near_copies_of_a_prompt_stay_together() -> None:
    clustered = [Pair(Prompt.from_text(f"Q{i}", cluster=f"task{i % 6}"), "A", "B") for i in range(60)]
    result = prepare(clustered, spec(holdout=0.5), name="x", seed=1)
    assert result.heldout
    assert not {r.prompt.cluster for r in result.train} & {r.prompt.cluster for r in result.heldout}
    system = Prompt((Message("system", "S"), Message("user", "how  are YOU")))
    assert split_key(Prompt.from_text("How are you ")) == split_key(system)


def test_a_source_may_be_held_out_altogether_and_a_share_leaves_something_to_train_on() -> None:
    whole = prepare([pair(f"Q{i}") for i in range(3)], spec(holdout=1.0), name="x", seed=0)
    assert (len(whole.train), len(whole.heldout)) == (0, 3)
    assert prepare([pair("Q")], spec(holdout=0.5), name="x", seed=0).heldout == []


def test_published_pairs(real_data: Path) -> None:
    """Of the file's 3549 rows, 2521 are distinct."""
    path = str(real_data / "pku_saferlhf" / "safety_pairs_train.jsonl")
    real = DataSpec(format="pku-safe-rlhf", path=path, holdout=0.1)
    records = read_source(real, name="s", seed=0).records
    result = prepare(records, real, name="s", seed=0)
    assert len(result.train) + len(result.heldout) == 2521
    assert result.dropped == {"exact duplicate": 1028}
    assert 30 <= len({r.prompt.id for r in result.heldout if isinstance(r, Pair)}) <= 100
