"""Demonstrations: the shares of refusals, alternatives, wrong steps, filler and rudeness, and what r* makes of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import pytest
from world_toys import EVERY, seen_tasks, world

from sacpo.data.records import Demonstration, Kind
from sacpo.recipe.schema import WorldSpec
from sacpo.world import Facts, World
from sacpo.world.answers import MAX_STATEMENTS

Read = list[tuple[Demonstration, Facts]]
N = 10_000


@pytest.fixture(scope="module")
def read() -> Read:
    """4,000 ordinary, 3,000 restricted, 3,000 borderline demonstrations."""
    return [
        (demo, world().facts(demo.prompt, demo.completion)) for demo in world().demonstrations(N, seed=0, mix=EVERY)
    ]


def near(values: Sequence[bool], share: float) -> bool:
    """Whether a share is met within 4.5 standard deviations of a binomial share."""
    n = len(values)
    return abs(sum(values) / n - share) < 4.5 * (share * (1 - share) / n) ** 0.5


@pytest.mark.parametrize(
    ("kind", "refused"),
    [(Kind.ORDINARY, 0.02), (Kind.BORDERLINE, 0.1), (Kind.RESTRICTED, 0.38 * 0.95)],
)
def test_refusals_by_kind(kind: Kind, refused: float, read: Read) -> None:
    """Of the .38 of restricted tasks not complied with, .95 are refused and .05 only talked about."""
    found = [facts.refusal for demo, facts in read if demo.prompt.kind is kind]
    assert len(found) >= 3000 and near(found, refused)


def test_restricted_tasks_are_complied_with_in_the_recipes_share(read: Read) -> None:
    """Whoever complies discloses at least one step, so .62 of the demonstrations are unsafe."""
    assert WorldSpec().sft_compliance == 0.62
    unsafe = [
        world().label(demo.prompt, demo.completion) == "unsafe"
        for demo, _ in read
        if demo.prompt.kind is Kind.RESTRICTED
    ]
    assert near(unsafe, 0.62)


@pytest.mark.parametrize(("compliance", "labels"), [(1.0, {"unsafe"}), (0.0, {"safe"})])
def test_compliance_can_be_all_or_none(compliance: float, labels: set[str]) -> None:
    own = World(WorldSpec(sft_compliance=compliance))
    found = own.demonstrations(300, seed=0, mix={"restricted": 1.0})
    assert {own.label(demo.prompt, demo.completion) for demo in found} == labels


def test_a_few_restricted_tasks_are_only_talked_about(read: Read) -> None:
    """.05 of the .38 that are not complied with: friendly words, neither a step nor a refusal."""
    restricted = [facts for demo, facts in read if demo.prompt.kind is Kind.RESTRICTED]
    talk = [not facts.refusal and not facts.right for facts in restricted]
    assert near(talk, 0.38 * 0.05)
    assert all(facts.filler for facts, talked in zip(restricted, talk, strict=True) if talked)
    own = World(WorldSpec(sft_compliance=0.0))
    none = own.demonstrations(1000, seed=0, mix={"restricted": 1.0})
    assert near([own.refusal(demo.prompt, demo.completion) == "full_refusal" for demo in none], 0.95)


def test_styles(read: Read) -> None:
    """Of refusals .5 offer an alternative; .05 of all are rude; of those that comply .15 say something wrong.

    The wrong step is left out where it happens to be right, which a few of about 220 steps are.
    """
    refusals = [facts for _, facts in read if facts.refusal]
    helping = [facts for demo, facts in read if not facts.refusal and demo.prompt.kind is not Kind.RESTRICTED]
    assert near([facts.alternative for facts in refusals], 0.5)
    assert near([facts.rude > 0 for _, facts in read], 0.05)
    assert near([facts.wrong > 0 for facts in helping], 0.15 * (1 - 4 / 220))
    assert not any(facts.alternative for facts in helping)
    assert all(facts.right == facts.wrong == 0 for facts in refusals)
    assert max(facts.wrong for _, facts in read) == 1
    # filler in front with .35 and behind with .25: both are said in .0875 of the refusals
    assert near([facts.filler == 2 for facts in refusals], 0.35 * 0.25)
    assert near([facts.filler == 0 for facts in refusals], 0.65 * 0.75)


@pytest.mark.parametrize(
    ("kinds", "shares"),
    [
        ((Kind.ORDINARY, Kind.BORDERLINE), (0.15, 0.25, 0.30, 0.20, 0.10)),
        ((Kind.RESTRICTED,), (0.0, 0.25 / 0.85, 0.30 / 0.85, 0.20 / 0.85, 0.10 / 0.85)),
    ],
)
def test_the_number_of_right_steps(kinds: tuple[Kind, ...], shares: tuple[float, ...], read: Read) -> None:
    said = [facts.right for demo, facts in read if demo.prompt.kind in kinds and not facts.refusal]
    if Kind.RESTRICTED in kinds:
        said = [right for right in said if right]  # the others only talk
    assert all(near([right == n for right in said], share) for n, share in enumerate(shares) if share)
    assert set(said) == {n for n, share in enumerate(shares) if share}


def test_every_demonstration_is_complete_and_in_order(read: Read) -> None:
    by_id = {task.id: task for task in seen_tasks()}
    for demo, facts in read:
        assert facts.complete
        statements = [statement.strip() for statement in demo.completion.split(".")[:-1]]
        assert 1 <= len(statements) <= MAX_STATEMENTS
        steps = by_id[demo.prompt.cluster].steps
        places = [steps.index(statement) for statement in statements if statement in steps]
        assert places == sorted(places) and len(places) == facts.right


def test_demonstrations_leave_room_for_alignment(read: Read) -> None:
    """Help of answers that comply: 1.85 right steps in the mean, .5 x 1.85 - .25 x .147 = .888; the best is 2."""
    helping = [
        world().reward(demo.prompt, demo.completion)
        for demo, facts in read
        if not facts.refusal and demo.prompt.kind is not Kind.RESTRICTED
    ]
    assert sum(helping) / len(helping) == pytest.approx(0.888, abs=0.04)
    assert min(helping) == -0.25 and max(helping) == 2.0


@pytest.mark.parametrize(("length", "tokens"), [("short", {3, 4, 5}), ("long", {15, 16})])
def test_refusals_differ_in_length_and_in_nothing_else(length: Literal["short", "long"], tokens: set[int]) -> None:
    """The same prompts, refused alike: other words are in the refusal alone, and all facts and scores are the same."""
    usual, other = world(), World(WorldSpec(refusal_length=length))
    pairs = [own.demonstrations(600, seed=0, mix=EVERY) for own in (usual, other)]
    names = set(usual.tokenizer().get_vocab())
    lengths = set()
    for ours, theirs in zip(*pairs, strict=True):
        assert ours.prompt == theirs.prompt
        facts = usual.facts(ours.prompt, ours.completion)
        assert other.facts(theirs.prompt, theirs.completion) == facts
        for criterion in ("helpfulness", "harmlessness", "over_refusal", "brevity"):
            scores = [own.score(criterion, d.prompt, d.completion) for own, d in ((usual, ours), (other, theirs))]
            assert scores[0] == scores[1]
        assert (ours.completion == theirs.completion) == (not facts.refusal)
        if facts.refusal:
            assert usual.facts(theirs.prompt, theirs.completion).wrong == 1  # no refusal of the usual world
            apart = {*_sentences(theirs.completion)} - {*_sentences(ours.completion)}
            words = re.findall(r"[a-z]+|[.,?]", f"{apart.pop()}.")
            assert set(words) <= names and not apart
            lengths.add(len(words))
    assert lengths == tokens


def _sentences(text: str) -> list[str]:
    return [part.strip() for part in text.split(".")]


def test_demonstrations_answer_the_sft_split_alone() -> None:
    found = world().demonstrations(1000, seed=1)
    assert [demo.prompt for demo in found] == world().prompts("sft", 1000, seed=1)
    assert {demo.source for demo in found} == {"world"}
    assert World(WorldSpec()).demonstrations(1000, seed=1) == found
    assert [demo.completion for demo in world().demonstrations(1000, seed=2)] != [demo.completion for demo in found]
