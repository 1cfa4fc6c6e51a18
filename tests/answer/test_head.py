"""The head of a large vocabulary gives what all its logits give, however it is met."""

from __future__ import annotations

import functools
import gc
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_decoding import CONFIGS, END, PAD, PROMPTS, lively, one_by_one
from transformers import AutoModelForCausalLM, FalconMambaConfig, GPT2Config, LlamaConfig, Mamba2Config, MambaConfig

from sacpo.answer import head
from sacpo.answer.decoding import Row, Sampling, decode
from sacpo.answer.head import LastHead, LastStates, exact_integers, first_largest, last_head
from sacpo.losses.head import Split, split_model

TINY = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
SMALL = {"n_embd": 8, "n_layer": 1, "n_head": 2}


def wide(weight: torch.Tensor, bias: torch.Tensor | None = None, **options: float) -> LastHead:
    linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None).requires_grad_(False)
    linear.weight.copy_(weight)
    if bias is not None:
        linear.bias.copy_(bias)
    return LastHead(Split(linear, linear, **options))


@pytest.fixture(params=["screened", "in blocks"])
def any_cpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Heads of any size are large, and the CPU has arithmetic of 8-bit integers or has none."""
    monkeypatch.setattr(head, "LARGE", 0)
    monkeypatch.setattr(head, "exact_integers", lambda: request.param == "screened")
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
        patched.setattr(head, "exact_integers", lambda: True)
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


def test_few_tokens_are_left_to_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of random weights a screen leaves some dozens of 50,000 tokens, so that a bound that says nothing would show."""
    torch.manual_seed(0)
    weight, states = torch.randn(50_000, 64), torch.randn(8, 64)
    seen: list[int] = []
    monkeypatch.setattr(
        head, "_largest", lambda state, most, least, *_: (seen.append(int((most >= least).sum())), torch.tensor(0))[1]
    )
    head._Screen(weight).likeliest(states, weight, None)
    assert max(seen) < 200


@pytest.mark.usefixtures("any_cpu")
def test_of_equal_tokens_the_first_is_taken() -> None:
    """A padded vocabulary has equal rows; every two are equal here, and by the bias, too."""
    torch.manual_seed(0)
    weight = torch.randn(4000, 64).repeat_interleave(2, 0)
    for bias in (None, torch.randn(4000).repeat_interleave(2)):
        found = wide(weight, bias)
        for rows in (1, 8, 64):
            tokens = found.likeliest(torch.randn(rows, 64))
            assert bool((tokens % 2 == 0).all())


@pytest.mark.parametrize("size", [1e-38, 1e-25, 1e-12, 1e12, 1e25])
def test_states_of_any_size_have_their_largest_logit(size: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "exact_integers", lambda: True)
    torch.manual_seed(0)
    weight, states = torch.randn(3000, 32), torch.randn(16, 32)
    found = wide(weight).likeliest(states * size)
    assert found.tolist() == (states * size @ weight.T).argmax(1).tolist()


def test_bent_logits_that_are_equal_are_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cap of 1 makes many large logits alike, of which the first is taken as everywhere."""
    monkeypatch.setattr(head, "exact_integers", lambda: True)
    torch.manual_seed(0)
    found, states = wide(10 * torch.randn(3000, 32), cap=1.0), torch.randn(16, 32)
    assert found.likeliest(states).tolist() == found.split.logits(states).argmax(1).tolist()


@pytest.mark.usefixtures("any_cpu")
@pytest.mark.parametrize("name", CONFIGS)
def test_every_model_says_greedily_what_it_says_one_by_one(name: str) -> None:
    model = lively(CONFIGS[name])
    assert (last_head(model) is not None) == (name != "mamba")
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


CHANGES = {
    "copied": lambda layer, new: layer.weight.copy_(new),
    "copied past the counter": lambda layer, new: layer.weight.data.copy_(new),
    "written by numpy": lambda layer, new: np.copyto(layer.weight.detach().numpy(), new.numpy()),
    "another parameter": lambda layer, new: setattr(layer, "weight", torch.nn.Parameter(new)),
    "assigned": lambda layer, new: layer.load_state_dict({"weight": new}, assign=True),
    "a bias": lambda layer, new: setattr(layer, "bias", torch.nn.Parameter(10 * new[:, 0])),
}


@pytest.mark.usefixtures("any_cpu")
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_changed_weights_are_seen(name: str, change: str) -> None:
    """A training between two evaluations changes them, in whatever way."""
    model = lively(CONFIGS[name])
    rows = [Row(p, 9) for p in PROMPTS]
    before = decode(model, rows, Sampling(), end_ids=frozenset([END]), pad_id=PAD)
    with torch.no_grad():
        CHANGES[change](model.get_output_embeddings(), torch.randn(60, 32, generator=torch.Generator().manual_seed(1)))
    found = decode(model, rows, Sampling(), end_ids=frozenset([END]), pad_id=PAD)
    assert found == [one_by_one(model, prompt, 9) for prompt in PROMPTS] != before


@pytest.mark.usefixtures("any_cpu")
def test_another_body_is_seen() -> None:
    model, other = (lively(CONFIGS["gemma3"]) for _ in range(2))
    rows = [Row(p, 9) for p in PROMPTS]
    decode(model, rows, Sampling(), end_ids=frozenset([END]), pad_id=PAD)
    with torch.no_grad():
        for parameter in other.model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    model.model = other.model
    found = decode(model, rows, Sampling(), end_ids=frozenset([END]), pad_id=PAD)
    assert found == [one_by_one(model, prompt, 9) for prompt in PROMPTS]


def test_what_is_no_number_has_the_token_that_argmax_has(any_cpu: str) -> None:
    found = wide(torch.ones(5, 3))
    states = torch.tensor([[torch.nan, 1.0, 1.0], [0.0, 0.0, 0.0]])
    assert found.likeliest(states).tolist() == found.split.logits(states).argmax(1).tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "mamba"])  # whose states are no keys and values
def test_no_weights_are_copied_for_each_row(name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch does where a head meets the last column of longer states; in bf16 with 500 times the time and more."""
    model = lively(CONFIGS[name]).to(dtype)
    shapes = []
    layer = model.get_output_embeddings()
    real = torch.nn.functional.linear

    def linear(states: torch.Tensor, weight: torch.Tensor, *rest: Any) -> torch.Tensor:
        if weight is layer.weight:
            shapes.append(states.shape)
        return real(states, weight, *rest)

    rows = [Row([5, 6, 7], 2), Row([8, 9, 10, 11], 2)]
    for patched in (real, linear):  # the first time models are compared with themselves
        monkeypatch.setattr(torch.nn.functional, "linear", patched)
        found = decode(model, rows, Sampling(), end_ids=frozenset([END]), pad_id=PAD)
    monkeypatch.undo()
    assert {len(shape) for shape in shapes} == {2}
    assert found == [one_by_one(model, [*row.prompt], 2) for row in rows]


@pytest.mark.parametrize("size", [1, 1000, 1024, 1025, 2048, 3001])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_largest_is_the_first_of_equal_ones(size: int, dtype: torch.dtype) -> None:
    """Among few values many are equal; nothing but -inf, and what is no number, are as in argmax."""
    draw = torch.Generator().manual_seed(size)
    logits = torch.randint(-3, 3, (40, size), generator=draw).to(dtype)
    logits[0], logits[1, size // 2], logits[2, -1] = -torch.inf, torch.nan, 9.0
    assert first_largest(logits).tolist() == logits.argmax(-1).tolist()


def test_a_call_in_the_place_of_the_class_s_is_made() -> None:
    """As accelerate does: what it says counts."""
    model = lively(CONFIGS["gemma3"])
    real = model.forward

    @functools.wraps(real)
    def forward(*args: Any, **options: Any) -> Any:
        found = real(*args, **options)
        found.logits[..., 17] += 1e6
        return found

    assert last_head(model) is not None
    model.forward = forward
    assert last_head(model) is None
    assert decode(model, [Row([5, 6], 1)], Sampling(), end_ids=frozenset([END]), pad_id=PAD) == [[17]]
    assert last_head(lively(CONFIGS["gemma3"]).to("meta")) is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("config", [MambaConfig, Mamba2Config, FalconMambaConfig])
def test_states_in_place_of_keys_and_values(config: Any, dtype: torch.dtype) -> None:
    """Their layers add up in float32, which their head is not given."""
    sizes = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 1, "state_size": 8}
    more = {"num_heads": 4, "head_dim": 16, "n_groups": 1} if config is Mamba2Config else {}
    model = AutoModelForCausalLM.from_config(config(**sizes, **more), dtype=dtype).eval()
    assert split_model(model) is None
    (found,) = decode(model, [Row([5, 6], 3)], Sampling(), end_ids=frozenset([END]), pad_id=PAD)
    assert found


@pytest.mark.parametrize(
    "config", [LlamaConfig(vocab_size=3, **TINY), GPT2Config(vocab_size=60, n_positions=3, **SMALL)]
)
def test_a_model_that_cannot_be_tried_is_called(config: Any) -> None:
    """Fewer tokens, or fewer places, than the trial has."""
    model = AutoModelForCausalLM.from_config(config).eval()
    assert last_head(model) is None
    (found,) = decode(model, [Row([1], 2)], Sampling(), end_ids=frozenset([99]), pad_id=0)
    assert len(found) == 2


def test_small_heads_and_those_of_few_bits_are_not_screened(monkeypatch: pytest.MonkeyPatch) -> None:
    model = lively(CONFIGS["gemma3"])
    assert not last_head(model).wide
    monkeypatch.setattr(head, "LARGE", 0)
    assert last_head(model).wide
    assert not last_head(model.to(torch.bfloat16)).wide


def test_other_heads_are_called_as_they_are() -> None:
    model = lively(CONFIGS["gemma3"])
    assert last_head(model) is not None
    hook = model.register_forward_hook(lambda *call: None)
    assert last_head(model) is None, "a hook would not be called"
    hook.remove()
    hook = model.get_output_embeddings().register_forward_hook(lambda *call: None)
    assert last_head(model) is None
    hook.remove()
    assert last_head(torch.nn.Linear(2, 2)) is None, "not a model of transformers"


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


def _missing(*matrices: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("not implemented for 'Char'")


def _saturated(rows: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """What instructions before VNNI do: one side becomes 0 to 255, the sum of two products is cut to 16 bits."""
    pairs = ((rows.long() + 128)[:, None, :] * matrix.T.long()[None]).unflatten(2, (-1, 2)).sum(3)
    return (pairs.clamp(-(2**15), 2**15 - 1).sum(2) - 128 * matrix.long().sum(0)).int()


def _rounded(rows: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    return rows.float().mm(matrix.float()).bfloat16().int()


@pytest.mark.parametrize("product", [_missing, _saturated, _rounded])
def test_products_of_integers_that_are_not_exact_are_not_used(product: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: True)
    monkeypatch.setattr(torch, "_int_mm", product)
    exact_integers.cache_clear()
    try:
        assert not exact_integers()
    finally:
        exact_integers.cache_clear()


def test_exact_products_are_used_where_the_cpu_has_arithmetic_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "_int_mm", lambda rows, matrix: (rows.long() @ matrix.long()).int())
    for there in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda there=there: there)
        exact_integers.cache_clear()
        assert exact_integers() is there
    exact_integers.cache_clear()
