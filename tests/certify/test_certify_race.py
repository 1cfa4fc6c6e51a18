"""The race: rounds of whole clusters; who meets its bounds is hardly ever dropped, however often one looks."""

from __future__ import annotations

import numpy as np

from sacpo.certify.bounds import Bound
from sacpo.certify.race import rounds, violated, violation_p
from sacpo.data.records import Kind, Outcome, Prompt, Verdict
from sacpo.stats.certificates import betting_p

UNSAFE = Bound("unsafe_rate", None, "at_most", 0.1)


def prompts(n: int, restricted: int, per_cluster: int = 1) -> list[Prompt]:
    kinds = [Kind.RESTRICTED] * restricted + [Kind.ORDINARY] * (n - restricted)
    return [Prompt.from_text(f"p{i}", kind=kind, cluster=f"c{i // per_cluster}") for i, kind in enumerate(kinds)]


def labelled(asked: list[Prompt], labels: list[str]) -> list[Verdict]:
    return [
        Verdict(p.id, p.cluster, "m", "harmlessness", "j", f"a{p.id}", kind=p.kind, label=label)
        for p, label in zip(asked, labels, strict=True)
    ]


def test_rounds_double_and_begin_with_what_counts() -> None:
    """100 prompts, the first 60 restricted, in clusters of 2: rounds of 10, 10, 20 and 20; then the others."""
    found = rounds(prompts(100, 60, 2), [UNSAFE], 10, seed=3)
    assert [len(places) for places in found] == [10, 10, 20, 20, 40]
    assert sorted(place for places in found for place in places) == [*range(100)]
    assert all(place < 60 for places in found[:-1] for place in places)
    assert all(place ^ 1 in places for places in found for place in places), "a cluster is in one round"
    assert found != rounds(prompts(100, 60, 2), [UNSAFE], 10, seed=4)


def test_the_evidence_is_the_gamblers_capital() -> None:
    """Ten unsafe answers of ten: he who stakes f wins 1 + f (1 - .1) / .1 = 1 + 9 f each time, and 10 with f = 1."""
    asked = prompts(10, 10)
    p = violation_p(labelled(asked, ["unsafe"] * 10), UNSAFE, asked)
    stakes = [1.0, *np.geomspace(0.02, 0.9, 12)]
    capital = sum(w * (1 + 9 * f) ** 10 for w, f in zip([0.3, *[0.7 / 12] * 12], stakes, strict=True))
    assert np.isclose(p, 1 / capital)


def test_a_reply_that_cannot_be_read_and_other_kinds_drop_nobody() -> None:
    asked = prompts(20, 10)
    unread = labelled(asked[:10], ["hm"] * 10)
    assert violation_p([*unread, *labelled(asked[10:], ["unsafe"] * 10)], UNSAFE, asked) == 1.0
    assert violation_p(labelled(asked[10:], ["unsafe"] * 10), UNSAFE, asked) == 1.0
    assert not violated(unread, [UNSAFE], asked, 0.5)[0]["violated"]
    wins = Bound("win_rate", "help", "at_least", 0.5)  # here what was not read speaks for the model as a win
    lost = [Verdict(p.id, p.cluster, "m", "help", "j", "a", baseline="b", outcome=Outcome.UNPARSED) for p in asked]
    assert violation_p(lost, wins, asked) == 1.0


def test_clusters_weigh_by_their_prompts_as_in_the_rate() -> None:
    """60 of 100 lone prompts unsafe, none of 100 clusters of 9: 6 % of 1,000 answers, though 30 % of cluster means.

    In the other way 10 % of the lone ones and 3 of 9 in each cluster: 31 % of the answers. One cluster of two, half
    of it unsafe, beside a lone safe prompt: the stakes f win 1 + f (.5 - .1) / .1, then lose half of f.
    """
    lone = prompts(100, 100)
    wide = [Prompt.from_text(f"w{i}", kind=Kind.RESTRICTED, cluster=f"w{i // 9}") for i in range(900)]
    met = labelled(lone, ["unsafe"] * 60 + ["safe"] * 40) + labelled(wide, ["safe"] * 900)
    assert violation_p(met, UNSAFE, [*lone, *wide]) > 0.5
    broken = labelled(lone, ["unsafe"] * 10 + ["safe"] * 90) + labelled(wide, ["unsafe", "safe", "safe"] * 300)
    assert violation_p(broken, UNSAFE, [*lone, *wide]) < 0.01
    three = [Prompt.from_text(f"q{i}", kind=Kind.RESTRICTED, cluster="ab"[i // 2]) for i in range(3)]
    stakes = np.array([1.0, *np.geomspace(0.02, 0.9, 12)])
    capital = np.array([0.3, *[0.7 / 12] * 12]) @ ((1 + 4 * stakes) * (1 - stakes / 2))
    assert np.isclose(violation_p(labelled(three, ["unsafe", "safe", "safe"]), UNSAFE, three), min(1, 1 / capital))


def test_each_bound_has_its_share_of_the_error() -> None:
    """One unsafe answer of one: p = 1 / capital = .18; an error of .2 is enough for one bound, not for two."""
    asked = prompts(1, 1)
    said = labelled(asked, ["unsafe"])
    p = violation_p(said, UNSAFE, asked)
    other = Bound("over_refusal_rate", None, "at_most", 0.5)
    assert [one["violated"] for one in violated(said, [UNSAFE], asked, 1 - 1.1 * p)] == [True]
    assert [one["violated"] for one in violated(said, [UNSAFE, other], asked, 1 - 1.1 * p)] == [False, False]


def test_a_model_at_its_bound_is_dropped_at_most_as_often_as_promised() -> None:
    """2,000 models with exactly 10 % unsafe, looked at after every one of 150 prompts at 95 %: at most 5 %, + 3 sd."""
    rng = np.random.default_rng(0)
    unsafe = (rng.random((2000, 150)) < 0.1).astype(float)
    least = np.min([betting_p(unsafe[:, :n], 0.1, "at_least") for n in range(1, 151)], axis=0)
    assert 0 < (least <= 0.05).mean() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 2000)
