"""Completion log-probs against all logits in float64, the head in chunks, and what memory it takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from tiny_models import PAD, VOCABULARY, tiny, trees
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedModel

from sacpo.data.packing import packed_rows, padded_rows
from sacpo.data.rows import Tree
from sacpo.errors import ModelError
from sacpo.losses import head as head_module
from sacpo.losses.head import Split, bent, head_logps, split_model
from sacpo.losses.logps import completion_logps, completion_token_logps, unwrapped

EVERY_HEAD = {
    "llama": (1.0, None),
    "gemma2": (1.0, 2.0),  # cap tanh(logits / cap)
    "granite": (0.25, None),  # logits / logits_scaling
    "cohere": (0.25, None),  # logits x logit_scale
    "falcon_h1": (0.5, None),  # logits x lm_head_multiplier
    "recurrent_gemma": (1.0, 30.0),
    "gpt2": (1.0, None),  # tied to the embedding
    "gptj": (1.0, None),  # with bias
    "opt": (1.0, None),
    "phi": (1.0, None),  # with bias
}


def own(kind: str) -> PreTrainedModel:
    changes = {"falcon_h1": {"lm_head_multiplier": 0.5}}
    return tiny(kind, **changes.get(kind, {}))


def by_all_logits(model: PreTrainedModel, batch: list[Tree]) -> torch.Tensor:
    """Log-probs of the completions, one sequence at a time, from the model's own logits in float64."""
    found = []
    for tree in batch:
        for branch in tree.completions:
            logits = model(input_ids=torch.tensor([tree.prompt + branch]), use_cache=False).logits[0].double()
            steps = [logits[len(tree.prompt) - 1 + k].log_softmax(0)[token] for k, token in enumerate(branch)]
            found.append(torch.stack(steps).sum() if steps else logits.new_zeros(()))
    return torch.stack(found)


def gradients(model: torch.nn.Module, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", EVERY_HEAD)
def test_the_head_is_found_with_its_scale_and_cap(kind: str) -> None:
    split = split_model(own(kind))
    assert split is not None
    assert (split.scale, split.cap) == EVERY_HEAD[kind]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", EVERY_HEAD)
def test_the_head_is_found_in_16_bits(kind: str, dtype: torch.dtype) -> None:
    """Models scale and cap in their own type, the split in float32: rounding is no disagreement, another cap is."""
    split = split_model(own(kind).to(dtype))
    assert split is not None
    assert (split.scale, split.cap) == EVERY_HEAD[kind]


@pytest.mark.parametrize("kind", EVERY_HEAD)
def test_log_probs_and_gradients_are_those_of_all_logits(kind: str) -> None:
    model, batch = own(kind), trees()
    weights = torch.linspace(-1, 2, sum(len(tree.completions) for tree in batch))
    expected = by_all_logits(model, batch)
    found = completion_logps(model, padded_rows(batch, pad_id=PAD), chunk=7)
    assert torch.allclose(found.double(), expected, rtol=1e-5, atol=1e-4)
    slow = gradients(model, (weights * expected).sum())
    fast = gradients(model, (weights * found).sum())
    assert fast.keys() == slow.keys()
    for name, gradient in slow.items():
        assert torch.allclose(fast[name], gradient, rtol=1e-3, atol=1e-4 * max(gradient.abs().max().item(), 1)), name


@pytest.mark.parametrize("kind", ["llama", "gpt2", "opt", "bloom", "mpt", "gemma3_text", "mamba2", "jamba"])
def test_padding_on_either_side_changes_nothing(kind: str) -> None:
    model, batch = tiny(kind), trees()
    with torch.no_grad():
        expected = by_all_logits(model, batch)
        for side in ("right", "left"):
            rows = padded_rows(batch, pad_id=PAD, side=side)
            assert torch.allclose(completion_logps(model, rows).double(), expected, rtol=1e-5, atol=1e-4), side


def test_the_padding_token_does_not_matter() -> None:
    model, batch = tiny("llama"), trees()
    with torch.no_grad():
        found = [completion_logps(model, packed_rows(batch, pad_id=pad, width=40)) for pad in (PAD, 17)]
    assert torch.equal(found[0], found[1])


def test_empty_completions_are_certain_and_take_no_gradient() -> None:
    """An empty sum: log pi = 0 = ln 1, wherever it stands, and the others are as without it."""
    model = tiny("llama")
    some = [Tree((5, 6), ((), (7, 8), ())), Tree((9,), ((),))]
    for lay in (padded_rows, packed_rows):
        found = completion_logps(model, lay(some, pad_id=PAD))
        alone = completion_logps(model, lay([Tree((5, 6), ((7, 8),))], pad_id=PAD))
        assert found[[0, 2, 3]].tolist() == [0, 0, 0]
        assert found[1].item() == pytest.approx(alone.item(), rel=1e-5)
        first, second = gradients(model, found.sum()), gradients(model, alone.sum())
        assert all(torch.allclose(first[name], second[name], rtol=1e-4, atol=1e-4) for name in second)
        nothing = completion_logps(model, lay(some[1:], pad_id=PAD))
        assert nothing.tolist() == [0]
        assert all((g == 0).all() for g in gradients(model, nothing.sum()).values())


@pytest.mark.parametrize(("scale", "cap"), [(1.0, None), (0.5, None), (1.0, 3.0), (0.5, 3.0)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("chunk", [1, 3, 64])
def test_chunks_change_neither_values_nor_gradients(scale: float, cap: float | None, bias: bool, chunk: int) -> None:
    """Against log_softmax of all logits at once, in float64."""
    generator = torch.Generator().manual_seed(0)
    linear = torch.nn.Linear(6, 11, bias=bias, dtype=torch.float64)
    with torch.no_grad():
        for parameter in linear.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    hidden = torch.randn(10, 6, generator=generator, dtype=torch.float64).requires_grad_()
    targets = torch.randint(11, (10,), generator=generator)
    weights = torch.linspace(-1, 1, 10, dtype=torch.float64)
    inputs = [hidden, *linear.parameters()]
    logits = scale * linear(hidden)
    logits = logits if cap is None else cap * torch.tanh(logits / cap)
    expected = logits.log_softmax(1)[torch.arange(10), targets]
    wanted = torch.autograd.grad((weights * expected).sum(), inputs)
    plain = Split(torch.nn.Identity(), linear, scale, cap)
    wrapped = Split(torch.nn.Identity(), torch.nn.Sequential(linear), scale, cap)  # the way of heads that are no Linear
    for split in (plain, wrapped):
        found = head_logps(split, hidden, targets, chunk=chunk)
        assert torch.allclose(found, expected, rtol=0, atol=1e-12)
        for got, want in zip(torch.autograd.grad((weights * found).sum(), inputs), wanted, strict=True):
            assert torch.allclose(got, want, rtol=0, atol=1e-12)


def test_a_capped_and_scaled_logit_by_hand() -> None:
    """scale 1/2, cap 2: 4 becomes 2 tanh(1) = 1.5231884."""
    assert bent(torch.tensor(4.0), 0.5, 2.0).item() == pytest.approx(1.5231884)


class Largest(TorchDispatchMode):
    """Notes the most numbers of any tensor with the vocabulary as its last dimension that an operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        found = func(*args, **(kwargs or {}))
        if func.is_view:  # such as the head's transposed weight
            return found
        for tensor in found if isinstance(found, tuple | list) else [found]:
            if isinstance(tensor, torch.Tensor) and tensor.dim() and tensor.shape[-1] == VOCABULARY:
                self.logits = max(self.logits, tensor.numel() // VOCABULARY)
        return found


@contextmanager
def head_rows() -> Iterator[Largest]:
    with Largest() as largest:
        yield largest


@pytest.mark.parametrize("kind", ["llama", "gemma2", "gpt2"])
def test_no_more_logits_exist_than_a_chunk_has(kind: str) -> None:
    """Forward and backward, of 40 targets in 5 rows; all logits would be rows of the whole batch.

    Gradients of the head's weight are (vocabulary, hidden), so that its last dimension is another one.
    """
    model, batch = tiny(kind), trees(sizes=((20, (10, 10)), (20, (10, 4))))
    rows = padded_rows(batch, pad_id=PAD)
    assert len(rows.targets) == 40
    split_model(model)
    with head_rows() as largest:
        completion_logps(model, rows, chunk=6).sum().backward()
    assert largest.logits == 6
    with head_rows() as largest:
        model(rows.input_ids)
    assert largest.logits == rows.input_ids.numel()


def test_a_head_with_an_adapter_is_met_in_chunks_too() -> None:
    torch.manual_seed(0)
    model = get_peft_model(tiny("llama"), LoraConfig(target_modules=["lm_head"], init_lora_weights=False))
    rows = padded_rows(trees(), pad_id=PAD)
    split_model(unwrapped(model))
    with head_rows() as largest:
        completion_logps(model, rows, chunk=6).sum().backward()
    assert largest.logits == 6


def test_the_default_chunk_bounds_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 10 x 61 logits at once, 10 targets a chunk."""
    monkeypatch.setattr(head_module, "LOGITS_AT_ONCE", 10 * VOCABULARY + 5)
    model = tiny("llama")
    split_model(model)
    with head_rows() as largest, torch.no_grad():
        completion_logps(model, padded_rows(trees(), pad_id=PAD))
    assert largest.logits == 10


def test_a_model_that_does_more_behind_its_transformer_is_not_split() -> None:
    """Logits + 3 for one token: the split would be wrong, so the model's own logits are used."""
    model = tiny("llama")
    real = model.forward

    def strange(**inputs: object) -> object:
        output = real(**inputs)
        output.logits = output.logits + 3 * (torch.arange(VOCABULARY) == 7)
        return output

    model.forward = strange
    assert split_model(model) is None
    batch = trees()
    with torch.no_grad():
        found = completion_logps(model, padded_rows(batch, pad_id=PAD))
        assert torch.allclose(found.double(), by_all_logits(model, batch), rtol=1e-5, atol=1e-4)
        assert (found - completion_logps(tiny("llama"), padded_rows(batch, pad_id=PAD))).abs().max() > 0.1


def test_a_cap_that_no_configuration_names_is_noticed() -> None:
    """30 tanh(logits / 30) changes the small logits of this model by less than a thousandth, large ones by far more."""
    model = tiny("llama")
    real = model.forward

    def capped(**inputs: object) -> object:
        output = real(**inputs)
        output.logits = 30 * torch.tanh(output.logits / 30)
        return output

    model.forward = capped
    assert split_model(model) is None


def test_adapters_act_in_layers_and_head() -> None:
    """LoRA at attention and head, all weights drawn at random: log-probs of the wrapped model's own logits."""
    torch.manual_seed(0)
    plain = tiny("llama")
    before = completion_logps(plain, padded_rows(trees(), pad_id=PAD)).detach()
    model = get_peft_model(plain, LoraConfig(target_modules=["q_proj", "lm_head"], init_lora_weights=False)).eval()
    batch = trees()
    expected = by_all_logits(model, batch)
    for lay in (padded_rows, packed_rows):
        found = completion_logps(model, lay(batch, pad_id=PAD), chunk=7)
        assert torch.allclose(found.double(), expected, rtol=1e-5, atol=1e-4)
        assert (found - before).abs().max() > 0.1
    slow, fast = gradients(model, expected.sum()), gradients(model, found.sum())
    assert any("lm_head" in name for name in fast)
    assert fast.keys() == slow.keys()
    for name, gradient in slow.items():
        assert torch.allclose(fast[name], gradient, rtol=1e-3, atol=1e-4 * max(gradient.abs().max().item(), 1)), name


def test_virtual_prompt_tokens_are_refused() -> None:
    model = get_peft_model(tiny("llama"), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    with pytest.raises(ModelError, match="virtual tokens"):
        unwrapped(model)


def test_token_log_probs_add_up_to_completions() -> None:
    model, rows = tiny("qwen2"), packed_rows(trees(), pad_id=PAD)
    with torch.no_grad():
        tokens, sums = completion_token_logps(model, rows), completion_logps(model, rows)
    wanted = torch.zeros(rows.n_completions, dtype=torch.float64).index_add_(0, rows.owner, tokens.double())
    assert torch.allclose(sums.double(), wanted, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_types_of_16_bits_are_summed_in_float32(dtype: torch.dtype) -> None:
    """The weights' rounding aside, which moves a token by some hundredths of a nat here."""
    batch = trees()
    with torch.no_grad():
        found = completion_token_logps(tiny("llama", dtype=dtype), packed_rows(batch, pad_id=PAD))
        exact = completion_token_logps(tiny("llama"), packed_rows(batch, pad_id=PAD))
    assert found.dtype == torch.float32
    assert (found - exact).abs().max() < 0.5


def test_autocast_computes_the_head_in_its_type() -> None:
    model, rows = tiny("llama"), packed_rows(trees(), pad_id=PAD)
    plain = completion_logps(model, rows)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = completion_logps(model, rows, chunk=5)
    assert half.dtype == torch.float32
    assert 0 < (half - plain).abs().max() < 1
    g_plain, g_half = gradients(model, plain.sum()), gradients(model, half.sum())
    for name, gradient in g_plain.items():
        assert torch.nn.functional.cosine_similarity(gradient.flatten(), g_half[name].flatten(), dim=0) > 0.95, name
