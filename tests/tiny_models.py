"""Tiny random language models of many architectures, and token trees to feed them with."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from sacpo.data.rows import Tree

VOCABULARY = 61
PAD = 0

_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": PAD,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_EXTRA: dict[str, dict[str, Any]] = {
    "bamba": {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "attn_layer_indices": [1]},
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
    "cohere": {"logit_scale": 0.25},
    "cohere2": {"logit_scale": 0.25, "sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"]},
    "falcon": {"new_decoder_architecture": True, "alibi": False},
    "falcon_h1": {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_ssm": 64, "mamba_d_state": 8},
    "gemma": {"head_dim": 8},
    "gemma2": {"head_dim": 8, "sliding_window": 5, "query_pre_attn_scalar": 8, "final_logit_softcapping": 2.0},
    "gemma3_text": {
        "head_dim": 8,
        "sliding_window": 5,
        "query_pre_attn_scalar": 8,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128},
    "gpt_bigcode": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128},
    "gpt_neo": {
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 4,
        "attention_types": [[["global", "local"], 1]],
        "window_size": 5,
    },
    "gptj": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "rotary_dim": 4},
    "granite": {"logits_scaling": 4.0, "residual_multiplier": 0.5, "embedding_multiplier": 3.0},
    "jamba": {
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "num_experts": 2,
        "num_experts_per_tok": 1,
        "mamba_d_state": 8,
    },
    "llama4_text": {
        "head_dim": 8,
        "intermediate_size_mlp": 48,
        "num_local_experts": 2,
        "attention_chunk_size": 8,
        "layer_types": ["chunked_attention", "full_attention"],
    },
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "mamba2": {"num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 1},
    "mistral": {"sliding_window": 5},
    "mpt": {"d_model": 32, "n_layers": 2, "n_heads": 4, "expansion_ratio": 2, "max_seq_len": 128},
    "gpt_oss": {
        "head_dim": 8,
        "sliding_window": 5,
        "num_local_experts": 2,
        "num_experts_per_tok": 1,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "olmo3": {"sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"]},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "phi": {"partial_rotary_factor": 0.5},
    "qwen3": {"head_dim": 8},
    "qwen3_moe": {"head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    "recurrent_gemma": {"head_dim": 8, "attention_window_size": 16, "block_types": ["recurrent", "attention"]},
    "rwkv": {"hidden_size": 32, "num_hidden_layers": 2, "attention_hidden_size": 32},
    "xglm": {"d_model": 32, "ffn_dim": 48, "num_layers": 2, "attention_heads": 4, "max_position_embeddings": 128},
}
_OWN_SIZES = ("bloom", "gpt2", "gpt_bigcode", "gpt_neo", "gptj", "mpt", "rwkv", "xglm")
"""Architectures whose configuration names its sizes otherwise."""


def tiny(
    kind: str, *, attention: str = "sdpa", dtype: torch.dtype = torch.float32, seed: int = 0, **changes: Any
) -> PreTrainedModel:
    """A random model of a transformers `model_type`, in evaluation mode, whose log-probs depend on all it should see.

    Args:
        kind: The model type.
        attention: Attention implementation.
        dtype: Type of the weights.
        seed: Of the weights.
        changes: More of the configuration.
    """
    sizes = {} if kind in _OWN_SIZES else _SIZES
    names = ("vocab_size", "pad_token_id", "bos_token_id", "eos_token_id")
    options = {name: _SIZES[name] for name in names} | sizes | _EXTRA.get(kind, {}) | changes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            config = CONFIG_MAPPING[kind](**options)
            model = AutoModelForCausalLM.from_config(config, attn_implementation=attention, dtype=dtype)
        except ValueError:  # it has no such attention
            config = CONFIG_MAPPING[kind](**options)
            model = AutoModelForCausalLM.from_config(config, dtype=dtype)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:  # far from uniform attention and predictions
                    parameter.mul_(5)
    return model.eval()


def trees(seed: int = 0, *, sizes: tuple[tuple[int, tuple[int, ...]], ...] = ()) -> list[Tree]:
    """Random trees of these prompt and completion lengths; by default long, short, shared and empty ones."""
    sizes = sizes or ((9, (7, 4)), (1, (12, 1)), (6, (3, 0)), (3, (5,)), (14, (2, 9)))
    random = np.random.default_rng(seed)

    def tokens(n: int) -> tuple[int, ...]:
        return tuple(random.integers(3, VOCABULARY, n).tolist())

    made = [Tree(tokens(prompt), tuple(tokens(n) for n in lengths)) for prompt, lengths in sizes]
    return [*made, Tree(made[0].prompt, (tokens(6),))]  # the first prompt comes once more
