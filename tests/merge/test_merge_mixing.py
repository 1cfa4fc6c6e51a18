from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from merge_tools import TableModel
from transformers import AutoModelForCausalLM, CohereConfig, Gemma2Config, GPT2Config, GPT2LMHeadModel, GraniteConfig

from sacpo.errors import ModelError
from sacpo.merge import MixedModel, mixed_model
from sacpo.models.loading import load_model

SIZES: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
Make = Callable[..., Path]

# Tokens of a world with two steps: after the prompt a model refuses or goes on; who goes on is brief or detailed.
PROMPT, REFUSE, GO_ON, BRIEF, DETAILED = range(5)


def two_steps(refuse: float, detailed: float) -> TableModel:
    return TableModel(
        5, {PROMPT: {REFUSE: refuse, GO_ON: 1 - refuse}, GO_ON: {BRIEF: 1 - detailed, DETAILED: detailed}}
    )


def next_token(model: torch.nn.Module, *tokens: int) -> torch.Tensor:
    return torch.softmax(model(input_ids=torch.tensor([tokens])).logits[0, -1], dim=-1)


def test_mixing_token_by_token_does_not_look_ahead() -> None:
    """A refuses .02 and is else detailed with .92; B refuses 2/3 and is else detailed with .13; q = .5.

    Token by token the odds of refusing are sqrt(.02/.98 * 2) = .2020, a share of .168. The exact mixture weighs the
    three answers: sqrt(.02 * 2/3) = .1155, sqrt(.98 * .92 * .13 / 3) = .1977, sqrt(.98 * .08 * .87 / 3) = .1508;
    the first one's share is .249, because going on leads to where the models disagree.
    """
    first, later = two_steps(0.02, 0.92), two_steps(2 / 3, 0.13)
    mixed = MixedModel([first, later], [0.5, 0.5])
    token_wise = next_token(mixed, PROMPT)[REFUSE].item()

    def answers(model: TableModel) -> list[float]:
        start, then = next_token(model, PROMPT), next_token(model, PROMPT, GO_ON)
        return [start[REFUSE].item(), *(start[GO_ON].item() * then[token].item() for token in (BRIEF, DETAILED))]

    weights = [math.sqrt(a * b) for a, b in zip(answers(first), answers(later), strict=True)]
    assert token_wise == pytest.approx(0.168, abs=5e-4)
    assert weights[0] / sum(weights) == pytest.approx(0.249, abs=5e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_last_logits_are_those_of_all(checkpoint: Make, dtype: torch.dtype) -> None:
    mixed = mixed_model([checkpoint("a", 1), checkpoint("b", 2)], [0.7, 0.3]).to(dtype)
    ids = torch.tensor([[3, 4, 5, 6], [7, 8, 9, 10]])
    with torch.no_grad():
        everything = mixed(input_ids=ids).logits
        last = mixed(input_ids=ids, logits_to_keep=1, use_cache=True)
        further = mixed(input_ids=ids[:, :1], past_key_values=last.past_key_values, logits_to_keep=1, use_cache=True)
        whole = mixed(input_ids=torch.cat([ids, ids[:, :1]], 1)).logits
    near = {"rtol": 0, "atol": 1e-5 if dtype == torch.float32 else 0.05}
    torch.testing.assert_close(last.logits, everything[:, -1:], **near)
    torch.testing.assert_close(further.logits, whole[:, -1:], **near)
    assert last.logits.std() > 0.1


@pytest.mark.parametrize(
    "config",
    [
        GraniteConfig(**SIZES, logits_scaling=8.0),
        CohereConfig(**SIZES, logit_scale=0.3),
        Gemma2Config(**SIZES, head_dim=8),
    ],
)
def test_scales_and_caps_are_not_forgotten(config: Any) -> None:
    models = [AutoModelForCausalLM.from_config(config).eval() for _ in range(2)]
    for model in models:
        model.get_output_embeddings().weight.data.mul_(100)
    mixed = MixedModel(models, [0.5, 0.5])
    ids = torch.tensor([[3, 4, 5]])
    with torch.no_grad():
        expected = mixed(input_ids=ids).logits[:, -1:]
        torch.testing.assert_close(mixed(input_ids=ids, logits_to_keep=1).logits, expected, rtol=1e-4, atol=1e-4)
        hook = models[1].register_forward_hook(lambda model, args, output: output.logits.add_(1.0) is None or None)
        found = mixed(input_ids=ids, logits_to_keep=1).logits
        hook.remove()
    torch.testing.assert_close(found, expected + 0.5, rtol=1e-4, atol=1e-4)


def test_the_logits_are_weighted_by_q_of_the_later_model(checkpoint: Make) -> None:
    a, b = checkpoint("a", 1), checkpoint("b", 2)
    ids = torch.tensor([[3, 4, 5, 6]])
    with torch.no_grad():
        ours = mixed_model([a, b], [0.7, 0.3])(input_ids=ids).logits
        first, later = (load_model(folder)(input_ids=ids).logits for folder in (a, b))
    assert torch.allclose(ours, 0.7 * first + 0.3 * later, atol=1e-6)
    assert not torch.allclose(ours, 0.3 * first + 0.7 * later, atol=1e-2)


@pytest.mark.parametrize("q", [0.0, 1.0])
def test_the_ends_are_one_model_alone(checkpoint: Make, q: float) -> None:
    a, b = checkpoint("a", 1), checkpoint("b", 2)
    ids = torch.tensor([[3, 4, 5, 6]])
    mixed = mixed_model([a, b], [1 - q, q])
    with torch.no_grad():
        assert torch.equal(mixed(input_ids=ids).logits, load_model(b if q else a)(input_ids=ids).logits)
    assert len(mixed.models) == 1


def test_three_models_are_mixed_with_weights_of_the_simplex(checkpoint: Make) -> None:
    folders = [checkpoint(name, seed) for name, seed in (("a", 1), ("b", 2), ("c", 3))]
    ids = torch.tensor([[3, 4, 5, 6]])
    with torch.no_grad():
        mixed = mixed_model(folders, (0.5, 0.2, 0.3))(input_ids=ids).logits.double()
        parts = [load_model(folder)(input_ids=ids).logits.double() for folder in folders]
    torch.testing.assert_close(mixed, 0.5 * parts[0] + 0.2 * parts[1] + 0.3 * parts[2], rtol=0, atol=1e-5)


def test_the_caches_continue_both_models(checkpoint: Make) -> None:
    mixed = mixed_model([checkpoint("a", 1), checkpoint("b", 2)], [0.5, 0.5])
    ids = torch.tensor([[3, 4, 5, 6], [4, 4, 3, 5]])
    with torch.no_grad():
        whole = mixed(input_ids=ids).logits[:, -1]
        cache = mixed(input_ids=ids[:, :3], use_cache=True).past_key_values
        cache.batch_select_indices(torch.tensor([1]))
        last = mixed(input_ids=ids[1:, 3:], past_key_values=cache, use_cache=True).logits[:, -1]
    assert torch.allclose(last, whole[1:], atol=1e-5)


def test_models_with_different_tokens_are_refused(checkpoint: Make) -> None:
    words = ("<pad>", "</s>", "<unk>", "stir", "the", "salad", "no")
    with pytest.raises(ModelError, match="'salad'"):
        mixed_model([checkpoint("a", 1), checkpoint("b", 2, words=words)], [0.5, 0.5])


def test_architectures_may_differ_but_not_the_number_of_logits(checkpoint: Make) -> None:
    a, b = checkpoint("a", 1), checkpoint("b", 2)
    for size in (24, 32):
        GPT2LMHeadModel(GPT2Config(vocab_size=size, n_embd=16, n_layer=1, n_head=2)).save_pretrained(b)
        if size == 24:
            assert mixed_model([a, b], [0.5, 0.5])(input_ids=torch.tensor([[3]])).logits.shape == (1, 1, 24)
        else:
            with pytest.raises(ModelError, match="24 and 32"):
                mixed_model([a, b], [0.5, 0.5])
