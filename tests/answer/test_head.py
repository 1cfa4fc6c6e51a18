"""The head of a large vocabulary gives what all its logits give, however it is met."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_decoding import CONFIGS, END, PAD, PROMPTS, lively, one_by_one

from sacpo.answer import head
from sacpo.answer.decoding import Row, Sampling, decode
from sacpo.answer.head import LastStates, WideHead, integers_speedup, wide_head
from sacpo.losses.head import Split


def wide(weight: torch.Tensor, bias: torch.Tensor | None = None, **options: float) -> WideHead:
    linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None).requires_grad_(False)
    linear.weight.copy_(weight)
    if bias is not None:
        linear.bias.copy_(bias)
    return WideHead(Split(linear, linear, **options))


@pytest.fixture(params=["screened", "in blocks"])
def any_cpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Heads of any size are large, and the CPU has arithmetic of 8-bit integers or has none."""
    monkeypatch.setattr(head, "LARGE", 0)
    monkeypatch.setattr(head, "integers_speedup", lambda: 9.0 if request.param == "screened" else 0.0)
    return str(request.param)


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 8, 65]), st.sampled_from([1.0, 1e-3, 0.0]), st.booleans())
def test_the_likeliest_token_is_that_of_all_logits(seed: int, rows: int, apart: float, biased: bool) -> None:
    """Weights that hardly differ, or not at all; states of which some numbers are hundreds of times the others."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw)

    weight = normal(1, 24) + apart * normal(3000, 24)
    states = normal(rows, 24) * torch.exp(3 * normal(1, 24))
    found = wide(weight, apart * normal(3000) if biased else None, scale=2.0)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(head, "integers_speedup", lambda: 9.0)
        patched.setattr(head, "SCREENED", 700)
        tokens = found.likeliest(states)
    exact = states.double() @ weight.double().T + (0 if found.bias is None else found.bias.double())
    lost = exact.amax(1) - exact.gather(1, tokens[:, None]).squeeze(1)
    size = states.double().norm(dim=1) * weight.double().norm(dim=1).max() + exact.abs().amax(1)
    assert bool((lost <= 1e-6 * size).all()), "no token is larger by more than float32 rounds"


@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 7, 64, 65]), st.booleans())
def test_logits_of_blocks_are_those_of_the_head(seed: int, rows: int, capped: bool) -> None:
    torch.manual_seed(seed)
    found = wide(torch.randn(2500, 16), torch.randn(2500), scale=0.5, **({"cap": 3.0} if capped else {}))
    states = torch.randn(rows, 16)
    torch.testing.assert_close(found.logits(states), found.split.logits(states), rtol=1e-5, atol=1e-5)


def test_few_tokens_are_left_to_compute() -> None:
    """Of random weights a screen leaves some dozens of 50,000 tokens, so that a bound that says nothing would show."""
    torch.manual_seed(0)
    weight, states = torch.randn(50_000, 64), torch.randn(8, 64)
    screen = head._Screen(weight, None)
    seen: list[int] = []
    screen._exact = lambda state, most, least: (seen.append(int((most >= least).sum())), torch.tensor(0))[1]  # type: ignore
    screen.likeliest(states)
    assert max(seen) < 200


@pytest.mark.usefixtures("any_cpu")
@pytest.mark.parametrize("name", CONFIGS)
def test_every_model_says_greedily_what_it_says_one_by_one(name: str) -> None:
    model = lively(CONFIGS[name])
    assert wide_head(model) is not None
    found = decode(model, [Row(p, 9) for p in PROMPTS], Sampling(), end_ids=frozenset([END]), pad_id=PAD)
    assert found == [one_by_one(model, prompt, 9) for prompt in PROMPTS]


@pytest.mark.parametrize("name", CONFIGS)
def test_samples_are_the_same_with_a_head_met_in_blocks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = np.random.default_rng(0).random((len(PROMPTS), 9))
    rows = [Row(prompt, 9, line) for prompt, line in zip(PROMPTS, numbers, strict=True)]
    model = lively(CONFIGS[name])
    expected = decode(model, rows, Sampling(True), end_ids=frozenset([END]), pad_id=PAD)
    monkeypatch.setattr(head, "LARGE", 0)
    assert decode(model, rows, Sampling(True), end_ids=frozenset([END]), pad_id=PAD) == expected


def test_changed_weights_are_seen(any_cpu: str) -> None:
    """A training between two evaluations changes them in place."""
    model = lively(CONFIGS["gemma3"])
    rows = [Row(p, 9) for p in PROMPTS]
    decode(model, rows, Sampling(), end_ids=frozenset([END]), pad_id=PAD)
    with torch.no_grad():
        model.get_output_embeddings().weight.copy_(torch.randn(60, 32, generator=torch.Generator().manual_seed(1)))
    found = decode(model, rows, Sampling(), end_ids=frozenset([END]), pad_id=PAD)
    assert found == [one_by_one(model, prompt, 9) for prompt in PROMPTS]


def test_what_is_no_number_has_the_token_that_argmax_has(any_cpu: str) -> None:
    found = wide(torch.ones(5, 3))
    states = torch.tensor([[torch.nan, 1.0, 1.0], [0.0, 0.0, 0.0]])
    assert found.likeliest(states).tolist() == found.split.logits(states).argmax(1).tolist()


def test_other_heads_are_called_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    model = lively(CONFIGS["gemma3"])
    assert wide_head(model) is None, "small"
    monkeypatch.setattr(head, "LARGE", 0)
    assert wide_head(model) is not None
    hook = model.register_forward_hook(lambda *call: None)
    assert wide_head(model) is None, "a hook would not be called"
    hook.remove()
    hook = model.get_output_embeddings().register_forward_hook(lambda *call: None)
    assert wide_head(model) is None
    hook.remove()
    assert wide_head(model.to(torch.bfloat16)) is None
    assert wide_head(torch.nn.Linear(2, 2)) is None, "not a model of transformers"


def test_a_model_is_not_kept_by_its_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "LARGE", 0)
    model = lively(CONFIGS["qwen3"])
    decode(model, [Row(p, 2) for p in PROMPTS], Sampling(), end_ids=frozenset([END]), pad_id=PAD)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_states_are_taken_by_rows_with_their_head() -> None:
    found = wide(torch.eye(4))
    states = LastStates(torch.eye(4), found)[torch.tensor([2, 0])]
    assert states.likeliest().tolist() == [2, 0]


def test_a_cpu_without_products_of_integers_has_no_use_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*matrices: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("not implemented for 'Char'")

    monkeypatch.setattr(torch, "_int_mm", missing)
    integers_speedup.cache_clear()
    try:
        assert integers_speedup() == 0.0
    finally:
        integers_speedup.cache_clear()
