"""KTO's data: pairs as labelled completions, balanced weights, mismatches of different prompts, z0."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sacpo.align.objectives.kto import KtoObjective, class_weights, mismatched, mismatched_trees, unpaired
from sacpo.data.packing import Tree
from sacpo.data.records import Pair, Prompt
from sacpo.data.tokenize import TokenLabelled
from sacpo.errors import DataError


def test_pairs_become_two_labelled_completions_and_ties_go() -> None:
    prompt = Prompt.from_text("hello")
    records = unpaired([Pair(prompt, "a", "b"), Pair(prompt, "c", "d", p=0.5), Pair(prompt, "e", "f", p=0.2)])
    assert [(r.completion, r.label) for r in records] == [("a", True), ("b", False), ("e", False), ("f", True)]


def test_balanced_weights_give_both_labels_the_same_total() -> None:
    """30 desirable, 10 undesirable: w- = w+ n+/n- = 3 for w+ = 1, and w+ = w- n-/n+ = 2/3 for w- = 2."""
    labels = [True] * 30 + [False] * 10
    assert class_weights(labels, 1.0, "balanced") == (1.0, 3.0)
    assert class_weights(labels, "balanced", 2.0) == (pytest.approx(2 / 3), 2.0)
    assert class_weights(labels, 1.0, 1.5) == (1.0, 1.5)
    with pytest.raises(DataError, match="desirable and undesirable"):
        class_weights([True, True], 1.0, 1.0)


@given(st.lists(st.sampled_from("abcde"), min_size=2, max_size=40).filter(lambda p: len(set(p)) > 1), st.integers(0, 9))
def test_a_mismatch_never_shares_its_prompt(prompts: list[str], seed: int) -> None:
    partner = mismatched(prompts, seed)
    assert all(prompts[i] != prompts[j] for i, j in enumerate(partner))
    if max(Counter(prompts).values()) * 2 <= len(prompts):
        assert sorted(partner) == list(range(len(prompts)))  # every completion is used once
    assert partner == mismatched(prompts, seed)


def test_the_pairing_depends_on_its_seed_and_needs_two_prompts() -> None:
    prompts = [str(i // 2) for i in range(40)]
    assert mismatched(prompts, 0) != mismatched(prompts, 1)
    with pytest.raises(DataError, match="two prompts"):
        mismatched(["a", "a", "a"], 0)


def test_mismatches_fit_into_max_length() -> None:
    records = [
        TokenLabelled("0", "x", (5,) * 6, (7, 8, 9, 1), True),
        TokenLabelled("1", "y", (6,), (2, 1), False),
    ]
    assert mismatched_trees(records, 0, 8) == [Tree((5,) * 6, ((2, 1),)), Tree((6,), ((7, 8, 9, 1),))]
    assert mismatched_trees(records, 0, 4) == [Tree((5,) * 6, ((2,),)), Tree((6,), ((7, 8, 9),))]


def test_z0_is_averaged_over_all_device_batches_of_a_step() -> None:
    """Mismatch log-ratios 1, 2 | 3, -2 in two device batches: KL = 4/4 = 1 in both; -1 in all: clamped to 0."""
    records = [TokenLabelled(str(i), str(i), (5,), (i + 3, 1), i % 2 == 0) for i in range(4)]
    mismatches = [Tree((5,), ((10 + i,),)) for i in range(4)]
    reference = torch.tensor([0.0, 0.0, 0.0, 0.0, -10.0, -20.0, -30.0, -40.0])
    for ratios, expected in (((1.0, 2.0, 3.0, -2.0), 1.0), ((-1.0,) * 4, 0.0)):
        policy = iter([reference[4:6] + torch.tensor(ratios[:2]), reference[6:8] + torch.tensor(ratios[2:])])
        objective = KtoObjective(
            records, mismatches, reference, beta=0.1, weights=(1.0, 1.0), layout=lambda trees: _NoRows()
        )
        batches = [objective.collate([0, 1]), objective.collate([2, 3])]
        objective.prepare(batches, lambda function, policy=policy: next(policy), lambda values: values)
        assert [batch.tensors["kl"].item() for batch in batches] == [expected, expected]


class _NoRows:
    def to(self, device: object) -> _NoRows:
        return self
