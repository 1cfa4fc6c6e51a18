"""Traits of completions: sums of states, what was unexpected, and how a prompt would be answered first."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from answer_toys import tiny_model, tiny_tokenizer

from sacpo.answer import traits
from sacpo.answer.batches import batched, rows_at_once
from sacpo.answer.traits import completion_traits, likeliest_first_tokens
from sacpo.data.packing import Rows, Tree, flat_rows, packed_rows, padded_rows
from sacpo.losses.head import LOGITS_AT_ONCE


def test_traits_are_what_the_model_says_token_by_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recomputed without padding: log-probs of the completion's tokens, and states summed over them."""
    tokenizer = tiny_tokenizer()
    model = tiny_model(tokenizer)
    trees = [Tree((5, 6, 7), ((8, 9, 10, 2),)), Tree((5, 11), ((12, 2),))]
    unexpected = -3.6  # a near-uniform model's log-probs lie on both sides of it
    monkeypatch.setattr(traits, "UNEXPECTED", unexpected)
    first = likeliest_first_tokens(model, tokenizer, trees)
    found = completion_traits(model, tokenizer, trees, first, tokens=13)
    counts = []
    for row, tree in enumerate(trees):
        ids = torch.tensor([[*tree.prompt, *tree.completions[0]]])
        with torch.no_grad():
            out = model(ids, output_hidden_states=True)
        n, start = len(tree.completions[0]), len(tree.prompt)
        logps = out.logits[0, start - 1 : -1].log_softmax(-1)[torch.arange(n), ids[0, start:]]
        states, odd = out.hidden_states[-1][0, start:], logps < unexpected
        width = states.shape[1]
        own = found.answers[row]
        assert own[:width] == pytest.approx(states.sum(0).numpy(), abs=1e-4)
        assert own[2 * width : 3 * width] == pytest.approx(states[-1].numpy(), abs=1e-4)
        assert own[3 * width : 4 * width] == pytest.approx(states[odd].sum(0).numpy(), abs=1e-4)
        assert own[4 * width :] == pytest.approx(
            [float(logps.sum()), n, int(odd.sum()), float(logps.clamp(max=unexpected).sum())], abs=1e-3
        )
        assert own[traits.LOGP] == pytest.approx(float(logps.sum()), abs=1e-3)
        counts.append((int(odd.sum()), n))
        probs = out.logits[0, start - 1].softmax(-1)
        assert found.prompts[row] == pytest.approx(probs[first].sqrt().numpy(), abs=1e-5)
    assert 0 < sum(odd for odd, _ in counts) < sum(n for _, n in counts), counts
    assert np.isfinite(found.answers).all()


def test_surprises_are_told_by_several_bounds_in_front_of_the_last_numbers() -> None:
    """Recomputed from each completion's log-probs alone; one without tokens surprises nobody."""
    tokenizer = tiny_tokenizer()
    model = tiny_model(tokenizer)
    trees = [Tree((5, 6, 7), ((8, 9, 10, 2),)), Tree((5, 11), ((12, 2),)), Tree((5, 6, 7), ((),))]
    bounds = (-3.3, -3.6, -3.9)  # a near-uniform model's log-probs lie on all sides of them
    plain, finer = (
        completion_traits(model, tokenizer, trees, [3, 4], bounds=given, tokens=11).answers for given in ((), bounds)
    )
    width = 4 * model.config.hidden_size
    assert finer[:, :width].tolist() == plain[:, :width].tolist() and finer[:, -4:].tolist() == plain[:, -4:].tolist()
    counts = set()
    for row, tree in zip(finer[:, width:-4], trees, strict=True):
        ids = torch.tensor([[*tree.prompt, *tree.completions[0]]])
        with torch.no_grad():
            logits = model(ids).logits[0, len(tree.prompt) - 1 : -1]
        logps = logits.log_softmax(-1).gather(1, ids[0, len(tree.prompt) :, None])[:, 0].double().numpy()
        below = [[(logps < bound).sum(), np.minimum(logps - bound, 0).sum()] for bound in bounds]
        assert row == pytest.approx([*np.ravel(below), min([0.0, *logps])], abs=1e-3)
        counts |= {int(n) for n, _ in below}
    assert len(counts) > 2


def test_there_are_as_many_surprises_as_a_score_gives_a_share_to() -> None:
    tokenizer = tiny_tokenizer()
    model = tiny_model(tokenizer)
    found = completion_traits(model, tokenizer, [Tree((5, 6), ((8, 2),))], [3], bounds=traits.BOUNDS)
    assert found.answers.shape[1] == 4 * model.config.hidden_size + traits.NUMBERS


def _filled(lengths: list[int]) -> int:
    """What padded rows take."""
    return len(lengths) * max(lengths)


def test_a_forward_pass_has_so_many_tokens_and_rows_at_most() -> None:
    """Prompts count; one completion that has more is a pass of its own; a pass is filled; all are computed once."""
    lengths = [30, 9, 3, 30, 2, 5, 5, 7, 3, 2, 2, 2]
    prompts = [(5,), (5, 6), (5, 6)]
    trees = [
        Tree(prompts[i % 3][:length], ((8,) * (length - len(prompts[i % 3])),)) for i, length in enumerate(lengths)
    ]
    for together in (False, True):
        batches = batched(trees, 10, 3, together=together)
        assert sorted(place for places in batches for place in places) == [*range(len(trees))]
        held = [(sum if together else _filled)([lengths[place] for place in places]) for places in batches]
        assert all(n <= 10 or len(places) == 1 for n, places in zip(held, batches, strict=True)), held
        assert (10 in held or together) and max(map(len, batches)) == 3
        for n, places, behind in zip(held, batches, batches[1:], strict=False):
            more = (
                n + lengths[behind[0]]
                if together
                else _filled([*(lengths[place] for place in places), lengths[behind[0]]])
            )
            assert more > 10 or len(places) == 3
        order = [place for places in batches for place in places]
        if together:
            changes = sum(trees[a].prompt != trees[b].prompt for a, b in pairwise(order))
            assert changes == len({tree.prompt for tree in trees}) - 1
        else:
            assert [lengths[place] for place in order] == sorted(lengths)


def test_a_large_vocabulary_bounds_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(tiny_tokenizer())
    assert rows_at_once(model) == LOGITS_AT_ONCE // model.config.vocab_size > 1000
    monkeypatch.setattr(model.config, "vocab_size", 2**18)
    assert rows_at_once(model) == 64


@pytest.mark.parametrize("layout", [flat_rows, packed_rows, padded_rows])
@pytest.mark.parametrize("tokens", [20, 8192])
def test_prompts_computed_once_give_the_same_traits(layout: Callable[..., Rows], tokens: int) -> None:
    """In any order of the completions; one without tokens ends with its prompt's last state."""
    tokenizer = tiny_tokenizer()
    model = tiny_model(tokenizer)
    prompts = [(5, 6, 7), (5, 11), (5, 6, 7, 9)]
    trees = [Tree(prompts[i % 3], (tuple(range(8, 8 + (i * 5) % 4)),)) for i in range(9)]
    assert min(len(tree.completions[0]) for tree in trees) == 0
    first = likeliest_first_tokens(model, tokenizer, trees)
    alone = completion_traits(model, tokenizer, trees, first, tokens=1)
    rows = partial(layout, pad_id=0)
    together = completion_traits(model, tokenizer, trees, first, layout=rows, tokens=tokens)
    assert together.answers == pytest.approx(alone.answers, abs=1e-4)
    assert together.prompts == pytest.approx(alone.prompts, abs=1e-5)
    width = model.config.hidden_size
    with torch.no_grad():
        state = model(torch.tensor([prompts[0]]), output_hidden_states=True).hidden_states[-1][0, -1]
    assert not alone.answers[0, : 2 * width].any()
    assert alone.answers[0, 2 * width : 3 * width] == pytest.approx(state.numpy(), abs=1e-4)


def test_the_likeliest_first_tokens_are_those_of_the_mean_probabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tiny_tokenizer()
    model = tiny_model(tokenizer)
    monkeypatch.setattr(traits, "FIRST_TOKENS", 3)
    prompts = [(5, 6, 7), (5, 11), (9, 10, 11, 12)]
    with torch.no_grad():
        probs = sum(model(torch.tensor([prompt])).logits[0, -1].softmax(-1) for prompt in prompts)
    assert isinstance(probs, torch.Tensor)
    found = likeliest_first_tokens(model, tokenizer, [Tree(prompt, ((8,),)) for prompt in prompts], tokens=13)
    assert found == sorted(probs.topk(3).indices.tolist())
