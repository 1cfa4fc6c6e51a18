from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from transformers import (
    AutoModelForCausalLM,
    BambaConfig,
    BloomConfig,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    OpenAIGPTConfig,
    OPTConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from sacpo.answer import degenerate
from sacpo.answer.decoding import Row, Sampling, choose, decode, nucleus
from sacpo.answer.degenerate import degeneration, loops
from sacpo.answer.head import LastStates, last_head
from sacpo.answer.past import ModelPast
from sacpo.answer.plain import PlainPast, is_plain
from sacpo.errors import DataError
from sacpo.models.loading import context_length

END, PAD, VOCABULARY = 1, 0, 60
SHARED = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": PAD,
    "eos_token_id": END,
}
GROUPED = {**SHARED, "intermediate_size": 48, "num_key_value_heads": 2}
CONFIGS: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**GROUPED),
    "llama-own-heads": LlamaConfig(**SHARED, intermediate_size=48),
    "qwen2": Qwen2Config(**GROUPED),
    "qwen3": Qwen3Config(**GROUPED, head_dim=8),
    "mistral-window": MistralConfig(**GROUPED, sliding_window=6),
    "gemma3": Gemma3TextConfig(
        **GROUPED, head_dim=8, sliding_window=6, layer_types=["sliding_attention", "full_attention"]
    ),
    "gpt2": GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=29, eos_token_id=END),
    "opt": OPTConfig(**SHARED, ffn_dim=48, word_embed_proj_dim=32),
    "bloom": BloomConfig(
        vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4, eos_token_id=END, tie_word_embeddings=False
    ),
    "mamba": MambaConfig(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, state_size=8),
    "bamba": BambaConfig(
        **GROUPED,
        attn_layer_indices=[1],
        mamba_n_heads=8,
        mamba_d_head=8,
        mamba_d_state=8,
        mamba_n_groups=1,
        mamba_chunk_size=8,
    ),
}
PROMPTS = ([5, 6, 7], [8, 9, 10, 11, 12, 13, 14, 15, 16], [17], [20, 21, 22, 23, 24])
LIMITS = (3, 20, 9, 14)


def lively(config: PretrainedConfig) -> torch.nn.Module:
    """A model with sharp, varied predictions, which fresh weights do not give."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(3)
    return model


@torch.no_grad()
def one_by_one(model: torch.nn.Module, prompt: list[int], limit: int) -> list[int]:
    """Greedy decoding without batch, padding or cache."""
    ids = list(prompt)
    while len(ids) < len(prompt) + limit and END not in ids[len(prompt) :]:
        ids.append(int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("name", CONFIGS)
def test_batched_greedy_decoding_equals_decoding_one_by_one_without_a_cache(name: str) -> None:
    """Prompts of 1 to 9 tokens, limits of 3 to 20: rows leave the batch at different times.

    GPT-2 has 29 positions, which the longest row fills to the last one.
    """
    model = lively(CONFIGS[name])
    rows = [Row(prompt, limit) for prompt, limit in zip(PROMPTS, LIMITS, strict=True)]
    found = decode(model, rows, Sampling(), end_ids=frozenset([END]), pad_id=PAD)
    assert found == [one_by_one(model, row.prompt, row.limit) for row in rows]
    assert len({token for answer in found for token in answer}) > 4, "answers that vary enough to show a mistake"


PLAIN = {"llama", "llama-own-heads", "qwen2", "qwen3"}


def rows_alike(model: torch.nn.Module, **options: int) -> list[list[int]]:
    """Answers to prompts of one length, which have no padding before they meet."""
    rows = [Row(prompt, limit) for prompt, limit in zip(([5, 6], [7, 8], [9, 2], [3, 4]), (2, 9, 7, 8), strict=True)]
    return decode(model, rows, Sampling(), end_ids=frozenset(), pad_id=PAD, **options)


@pytest.mark.parametrize("name", CONFIGS)
def test_rows_that_take_the_places_of_ended_ones_are_decoded_as_alone(name: str) -> None:
    """Three rows at a time, short behind long ones and long behind short ones; windows of 6 tokens slide on."""
    model = lively(CONFIGS[name])
    prompts = [PROMPTS[i] for i in (1, 2, 0, 3, 1, 2, 2, 0)]
    limits = (3, 17, 9, 14, 20, 2, 12, 19)
    assert name not in PLAIN or rows_alike(model) == rows_alike(model, at_once=2)
    rows = [Row(prompt, limit) for prompt, limit in zip(prompts, limits, strict=True)]
    passes: list[int] = []
    last_head(model)  # compared with the model once
    embedding = next(module for module in model.modules() if isinstance(module, torch.nn.Embedding))
    hook = embedding.register_forward_hook(lambda *call: passes.append(len(call[1][0])))
    found = decode(model, rows, Sampling(), end_ids=frozenset([END]), pad_id=PAD, at_once=3)
    hook.remove()
    assert found == [one_by_one(model, row.prompt, row.limit) for row in rows]
    waited = sum(max(map(len, found[i : i + 3])) for i in range(0, len(rows), 3))
    recurrent = name in ("mamba", "bamba")
    assert len(passes) == waited if recurrent else len(passes) < waited


@pytest.mark.parametrize("name", ["llama", "llama-own-heads", "gpt2", "mistral-window"])
def test_greedy_decoding_equals_transformers_generate(name: str) -> None:
    model = lively(CONFIGS[name])
    width = max(map(len, PROMPTS))
    ids = torch.tensor([[PAD] * (width - len(prompt)) + prompt for prompt in PROMPTS])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in PROMPTS])
    theirs = model.generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=16, do_sample=False, eos_token_id=END, pad_token_id=PAD
    )
    ours = decode(model, [Row(p, 16) for p in PROMPTS], Sampling(), end_ids=frozenset([END]), pad_id=PAD)
    for answer, row in zip(ours, theirs[:, width:].tolist(), strict=True):
        assert row[: len(answer)] == answer
        assert set(row[len(answer) :]) <= {PAD}


def test_a_row_that_has_ended_at_the_last_position_does_not_stop_the_others() -> None:
    """Three rows of 26 tokens end at GPT-2's 29 positions, before the batch is cut; the short ones go on."""
    model = lively(CONFIGS["gpt2"])
    rows = [Row(list(range(2, 28)), 3), *(Row([token], 20) for token in range(5, 10))]
    found = decode(model, rows, Sampling(), end_ids=frozenset(), pad_id=PAD)
    assert [len(answer) for answer in found] == [3, 20, 20, 20, 20, 20]
    assert found[1] == one_by_one(model, [5], 20)


def test_an_end_token_ends_an_answer_and_is_kept() -> None:
    model = lively(CONFIGS["llama"])
    free = decode(model, [Row(PROMPTS[0], 20)], Sampling(), end_ids=frozenset(), pad_id=PAD)[0]
    stop = free[5]
    (ended,) = decode(model, [Row(PROMPTS[0], 20)], Sampling(), end_ids=frozenset([stop, 999]), pad_id=PAD)
    assert ended == free[: free.index(stop) + 1]


def test_sampled_tokens_follow_the_softmax_at_the_temperature() -> None:
    """Chi-square over 20,000 draws from 5 tokens; a wrong temperature would be rejected at 1e-50."""
    logits, n = torch.tensor([1.0, 0.0, -1.0, 2.0, 0.5]), 20_000
    numbers = torch.from_numpy(np.random.default_rng(0).random(n))
    drawn = choose(logits.expand(n, 5), Sampling(True, temperature=0.7), numbers)
    expected = torch.softmax(logits.double() / 0.7, -1).numpy() * n
    assert chisquare(torch.bincount(drawn, minlength=5).numpy(), expected).pvalue > 0.01


def test_sampled_answers_follow_the_models_distribution_over_sequences() -> None:
    """Two tokens drawn by a model with 4 tokens: 16 sequences, each against the product of its conditionals."""
    torch.manual_seed(1)
    config = LlamaConfig(**{**GROUPED, "vocab_size": 4, "pad_token_id": 0, "eos_token_id": None})
    model, n = lively(config), 4000
    uniforms = np.random.default_rng(3).random((n, 2))
    rows = [Row([2, 3], 2, line) for line in uniforms]
    drawn = decode(model, rows, Sampling(True), end_ids=frozenset(), pad_id=0)
    with torch.no_grad():
        ids = torch.tensor([[2, 3, first] for first in range(4)])
        logits = torch.log_softmax(model(input_ids=ids).logits, -1)
    probabilities = (logits[0, 1][:, None] + logits[:, 2]).exp().flatten().double()
    counts = np.bincount([4 * first + second for first, second in drawn], minlength=16)
    assert probabilities.min() * n > 5
    assert chisquare(counts, probabilities.numpy() * n / probabilities.sum().item()).pvalue > 0.01


def test_the_nucleus_is_the_fewest_tokens_that_reach_top_p() -> None:
    """Sorted: .5, .2, .2, .1; .5 reaches .5 alone, .6 needs the first of the two .2."""
    probabilities = torch.tensor([[0.1, 0.5, 0.2, 0.2]], dtype=torch.float64)
    assert nucleus(probabilities, 0.5).tolist() == [[0.0, 0.5, 0.0, 0.0]]
    assert nucleus(probabilities, 0.6).tolist() == [[0.0, 0.5, 0.2, 0.0]]
    assert nucleus(probabilities, 0.95).tolist() == [[0.1, 0.5, 0.2, 0.2]]


@given(st.lists(st.floats(-20, 20), min_size=2, max_size=30), st.floats(0, 1, exclude_max=True), st.floats(0.05, 1))
def test_a_token_outside_the_nucleus_is_never_drawn(logits: list[float], number: float, top_p: float) -> None:
    row = torch.tensor([logits])
    drawn = choose(row, Sampling(True, top_p=top_p), torch.tensor([number], dtype=torch.float64))
    kept = nucleus(torch.softmax(row.double(), -1), top_p)
    assert kept[0, int(drawn)] > 0


def test_the_random_number_is_the_quantile_of_the_distribution() -> None:
    logits = torch.tensor([[math.log(0.2), math.log(0.5), math.log(0.3)]])
    for number, token in ((0.0, 0), (0.199, 0), (0.201, 1), (0.699, 1), (0.701, 2), (0.999, 2)):
        assert choose(logits, Sampling(True), torch.tensor([number], dtype=torch.float64)).item() == token


def test_loops_are_found_by_period_repeats_and_length() -> None:
    assert loops([7] * 16) and not loops([7] * 15)
    assert loops([1, 2, 3, 4, 5] * 4) and not loops([1, 2, 3, 4, 5] * 3 + [1, 2, 3, 4])
    assert loops([9, 8, *[1, 2, 3, 4, 5, 6] * 4, 4, 4, 9]), "anywhere in the answer"
    assert loops(list(range(64)) * 4) and not loops(list(range(65)) * 4)
    assert not loops([]) and not loops([1]) and not loops(list(range(300)))


def test_lines_that_begin_alike_are_not_a_loop() -> None:
    assert not loops([token for i in range(20) for token in (5, 6, 7, 100 + i)])


def test_answers_that_repeat_too_few_tokens_are_no_loops_without_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked at less closely is never a loop: 16 tokens of a period of 4 have 12 that occurred before."""
    rng = np.random.default_rng(0)
    asked = [
        [*rng.integers(0, 40, rng.integers(0, 9)), *[*rng.integers(0, 40, period)] * times, *rng.integers(0, 40, 5)]
        for _ in range(300)
        for period, times in [(rng.integers(1, 9), rng.integers(1, 18))]
    ]
    found = [loops(tokens) for tokens in asked]
    monkeypatch.setattr(degenerate, "FEWEST_AGAIN", 0)
    assert found == [loops(tokens) for tokens in asked]
    assert 30 < sum(found) < 270 and loops([1, 2, 3, 4] * 4)


def test_degeneration_is_named() -> None:
    assert degeneration(" \n", [4, 4]) == "empty"
    assert degeneration("no no", [7] * 20) == "repeating"
    assert degeneration("stir the soup", [1, 2, 3]) == ""


@pytest.mark.parametrize("name", CONFIGS)
def test_a_prompt_that_several_rows_have_is_computed_once(name: str) -> None:
    """Five rows, three prompts: the first pass has three rows. A recurrent state cannot be copied: five follow."""
    model, asked = lively(CONFIGS[name]), [PROMPTS[i] for i in (0, 1, 0, 2, 1)]
    numbers = np.random.default_rng(0).random((5, 12))
    rows = [Row(prompt, 12, numbers[i]) for i, prompt in enumerate(asked)]
    alone = [decode(model, [row], Sampling(True), end_ids=frozenset([END]), pad_id=PAD)[0] for row in rows]
    seen: list[int] = []
    watched = model.register_forward_pre_hook(lambda *call: seen.append(len(call[2]["input_ids"])), with_kwargs=True)
    found = decode(model, rows, Sampling(True), end_ids=frozenset([END]), pad_id=PAD)
    watched.remove()
    assert found == alone
    assert found[0] != found[2]
    assert seen[:2] == [3, 5]


def test_models_of_llamas_shape_are_stepped_through_and_no_others() -> None:
    plain = {name for name in CONFIGS if is_plain(lively(CONFIGS[name]))}
    assert plain == PLAIN
    assert not is_plain(lively(LlamaConfig(**GROUPED)).to(torch.bfloat16))
    watched = lively(CONFIGS["llama"])
    hook = watched.model.layers[0].mlp.register_forward_hook(lambda *call: None)
    assert not is_plain(watched), "a hook would not be called"
    hook.remove()
    assert is_plain(watched)
    assert not is_plain(watched.train()), "dropout"


def test_figures_that_are_no_numbers_agree_with_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = lively(LlamaConfig(**GROUPED))
    nothing = LastStates(torch.full((2, 1), torch.nan))
    monkeypatch.setattr(PlainPast, "step", lambda *_: nothing)
    assert not is_plain(model)


def test_a_model_that_computes_something_else_is_called_as_it_is() -> None:
    """Its configuration and its classes say silu; its layers have another function: the comparison finds it."""
    model = lively(CONFIGS["llama"])
    for layer in model.model.layers:
        layer.mlp.act_fn = SquaredSilu()
    assert not is_plain(model)
    found = decode(model, [Row(p, 9) for p in PROMPTS], Sampling(), end_ids=frozenset(), pad_id=PAD)
    assert found == [one_by_one(model, p, 9) for p in PROMPTS]


class SquaredSilu(torch.nn.SiLU):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).square()


@pytest.mark.parametrize("name", ["llama", "llama-own-heads", "qwen3"])
def test_each_step_has_the_models_own_logits(name: str) -> None:
    """Float32 is 2e-6 apart; rows with padding, dropped and repeated ones among them."""
    model = lively(CONFIGS[name])
    prompts = [[5, 6, 7], [8, 9, 10, 11, 12], [17], [8, 9, 10, 13], [8, 9]]
    inputs = torch.tensor([[PAD] * (5 - len(prompt)) + prompt for prompt in prompts])
    mask = (inputs != PAD).long()
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    ours, theirs = PlainPast(model, 9), ModelPast(model)
    with torch.no_grad():
        for rows in ([0, 1, 2, 3, 4], [2, 0, 0, 1, 4], [1, 2], [1]):
            found, expected = (past.step(inputs, mask, positions).logits() for past in (ours, theirs))
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-6 * float(expected.abs().max()))
            kept = torch.tensor(rows)
            ours.select(kept)
            theirs.select(kept)
            inputs, positions = found[kept].argmax(-1)[:, None], positions[kept, -1:] + 1
            mask = torch.cat([mask[kept], mask.new_ones(len(kept), 1)], dim=-1)


@pytest.mark.parametrize("size", [1, 5, 1023, 1024, 1025, 2048, 3000])
@pytest.mark.parametrize("top_p", [1.0, 0.7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_token_lies_where_its_random_number_does(size: int, top_p: float, dtype: torch.dtype) -> None:
    """The smallest and the largest numbers there are among them; what cannot be is never drawn, also at the end."""
    draw = torch.Generator().manual_seed(size)
    logits = (3 * torch.randn(64, size, generator=draw)).to(dtype)
    logits[:32, size // 3 + 1 :] = -torch.inf
    numbers = torch.rand(64, generator=draw, dtype=torch.float64)
    numbers[:2], numbers[30:34] = 0.0, 1 - 2**-53
    found = choose(logits, Sampling(True, 0.7, top_p), numbers)
    probabilities = torch.softmax(logits.double() / 0.7, -1)
    if top_p < 1:
        probabilities = nucleus(probabilities, top_p)
    probabilities /= probabilities.sum(-1, keepdim=True)
    assert bool((probabilities.gather(1, found[:, None]) > 0).all())
    above = probabilities.cumsum(-1).gather(1, found[:, None]).squeeze(1)
    below = above - probabilities.gather(1, found[:, None]).squeeze(1)
    assert bool((below <= numbers + 1e-6).all()) and bool((numbers <= above + 1e-6).all())


@pytest.mark.parametrize("cold", [1e-40, 1e-300])
@pytest.mark.parametrize("size", [9, 3000])
def test_at_hardly_any_temperature_the_largest_is_drawn(size: int, cold: float) -> None:
    logits = torch.randn(8, size, generator=torch.Generator().manual_seed(0))
    found = choose(logits, Sampling(True, cold), torch.rand(8, dtype=torch.float64))
    assert found.tolist() == logits.argmax(-1).tolist()


def test_what_prompts_begin_with_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = lively(CONFIGS["llama"])
    rows = [Row(prompt, 1) for prompt in ([5, 6, 7], [5, 6, 8, 9], [5, 6], [6, 5])]
    assert is_plain(model)
    assert last_head(model) is not None
    computed: list[int] = []
    real = model.model.embed_tokens.forward
    monkeypatch.setattr(model.model.embed_tokens, "forward", lambda ids: computed.extend(ids[0].tolist()) or real(ids))
    monkeypatch.setattr("sacpo.answer.decoding.is_plain", lambda _: True)
    decode(model, rows, Sampling(), end_ids=frozenset([END]), pad_id=PAD)
    assert sorted(computed) == [5, 5, 6, 6, 7, 8, 9]


def test_a_model_without_a_cache_is_refused() -> None:
    model = lively(OpenAIGPTConfig(vocab_size=VOCABULARY, n_embd=32, n_layer=1, n_head=4, n_positions=29))
    with pytest.raises(DataError, match="remembers nothing") as caught:
        decode(model, [Row([5, 6], 3)], Sampling(), end_ids=frozenset([END]), pad_id=PAD)
    assert caught.value.value == "OpenAIGPTLMHeadModel"


def test_positions_that_are_not_counted_reach_anywhere() -> None:
    """XLNet's configuration says -1."""
    for says, reach in ((-1, None), (0, None), (29, 29), (None, None)):
        model = SimpleNamespace(config=SimpleNamespace(max_position_embeddings=says))
        assert context_length(model) == reach
