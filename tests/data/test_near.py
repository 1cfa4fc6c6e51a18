"""Near-duplicates: the similarity is a Jaccard index, the index finds what comparing all would, in linear time."""

from __future__ import annotations

import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sacpo.data import near


def test_similarity_is_the_share_of_common_runs_of_five() -> None:
    """abcdef has {abcde, bcdef}, bcdefg has {bcdef, cdefg}: 1 of 3; case and spaces do not count."""
    assert near.similarity("abcdef", "bcdefg") == pytest.approx(1 / 3)
    assert near.similarity("Abc  def", "abc DEF\n") == 1
    assert near.similarity("ab", "ab") == 1
    assert near.similarity("ab", "abc") == 0


@given(st.text(max_size=30), st.text(max_size=30))
def test_similarity_is_symmetric_and_at_most_one(a: str, b: str) -> None:
    assert near.similarity(a, b) == near.similarity(b, a)
    assert 0 <= near.similarity(a, b) <= 1
    assert near.similarity(a, a) == 1


def texts(n: int) -> list[str]:
    """Return n random texts of 200 letters, every fifth followed by a copy with three letters changed."""
    rng = random.Random(3)
    found: list[str] = []
    while len(found) < n:
        text = [rng.choice(string.ascii_lowercase + " ") for _ in range(200)]
        found.append("".join(text))
        if len(found) % 5 == 0:
            for place in (20, 100, 180):
                text[place] = "#"
            found.append("".join(text))
    return found


def test_the_index_finds_what_comparing_all_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three changed letters of 200 spoil 15 of 196 runs: 181 / 211 = .86 of the runs are common."""
    every = texts(300)
    banded = near.groups(every)
    monkeypatch.setattr(near, "FEW", 1000)
    assert banded == near.groups(every)
    joined = [i for i, leader in enumerate(banded) if leader != i]
    assert len(joined) == sum("#" in text for text in every) > 50
    assert all(banded[i] == i - 1 for i in joined)


def test_a_group_is_named_by_its_first_text_and_a_higher_threshold_parts_it() -> None:
    some = [
        "how do I bake a loaf of rye bread",
        "other",
        "how do I bake a loaf of rye bread?",
        "HOW do I bake a loaf of rye bread",
    ]
    assert near.groups(some) == [0, 1, 0, 0]
    assert near.groups(some, 1.0) == [0, 1, 2, 0]
    assert near.distinct(some) == [0, 1]


def test_texts_of_one_cluster_are_together() -> None:
    assert near.groups(["one thing", "another", "a third one"], together=["a", "b", "a"]) == [0, 1, 0]


def test_thousands_of_copies_take_linear_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 texts that differ by a number: each is compared with a few others, not with all before it."""
    compared = 0
    honest = near.similarity

    def counted(first: str, second: str) -> float:
        nonlocal compared
        compared += 1
        return honest(first, second)

    monkeypatch.setattr(near, "similarity", counted)
    same = "a long text that all of them share from its beginning to its very end, and more of it, number "
    assert set(near.groups([f"{same}{i}" for i in range(1000)])) == {0}
    assert compared < 1000 * 3
