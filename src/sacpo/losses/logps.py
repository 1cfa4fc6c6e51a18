"""Log-probs of completions under a model."""

from __future__ import annotations

import contextlib
import inspect
from typing import Any, cast

import torch
from torch import nn
from transformers import Cache, PreTrainedModel

from sacpo.data.rows import Rows
from sacpo.errors import ModelError
from sacpo.losses.attention import attention_mask
from sacpo.losses.head import TokenStatistics, exact, head_logps, module_logps, split_model
from sacpo.losses.kernels import steady_kernels
from sacpo.losses.sharing import obstacle


def completion_logps(
    model: nn.Module,
    rows: Rows,
    *,
    chunk: int | None = None,
    statistics: TokenStatistics | None = None,
    past: Cache | None = None,
) -> torch.Tensor:
    """Return `log pi(completion | prompt)` of each completion, in nats: the sum over its tokens.

    Args:
        model: A causal language model, or a peft model around one.
        rows: Prompts with their completions, laid out for the model.
        chunk: Targets whose logits are held at once; None: as many as fit in a fixed memory.
        statistics: What to fill with statistics of the targets' logits, in the order of `rows.targets`.
        past: Takes the row's keys and values, or gives those of the row that it continues, see `sacpo.losses.past`.

    Shape: (completions,) float32, or float64 if the model is.

    Raises:
        ModelError: See `completion_token_logps`.
    """
    per_token = completion_token_logps(model, rows, chunk=chunk, statistics=statistics, past=past)
    if per_token.device.type == "mps":  # which has no segments
        return per_token.new_zeros(rows.n_completions).index_add(0, rows.owner, per_token)
    lengths = torch.bincount(rows.owner, minlength=rows.n_completions)
    return torch.segment_reduce(per_token, "sum", lengths=lengths, initial=0.0)


def completion_token_logps(
    model: nn.Module,
    rows: Rows,
    *,
    chunk: int | None = None,
    statistics: TokenStatistics | None = None,
    past: Cache | None = None,
) -> torch.Tensor:
    """Return `log pi(token | all before it)` of each token of the completions, in nats.

    Only hidden states that predict a completion's token meet the head, in chunks, so that neither (rows, width,
    vocabulary) nor (targets, vocabulary) logits exist. A model that cannot be split in front of its head computes
    all its logits.

    Args:
        model: As in `completion_logps`.
        rows: As in `completion_logps`.
        chunk: As in `completion_logps`.
        statistics: As in `completion_logps`.
        past: As in `completion_logps`.

    Shape: (targets,) float32, or float64 if the model is, in the order of `rows.targets`.

    Raises:
        ModelError: The rows share prompts, which the model cannot.
    """
    policy = unwrapped(model)
    reason = obstacle(policy.config, type(policy.base_model)) if rows.shared else ""
    if reason:
        raise ModelError(
            f"the model cannot share prompts in a row: {reason}",
            value=type(policy).__name__,
            do="lay out one completion a row",
        )
    # with gradient the kernels must be the same until the backward pass, so there the trainer chooses them
    with contextlib.nullcontext() if torch.is_grad_enabled() else steady_kernels():
        split = split_model(policy)
        inputs = forward_inputs(policy if split is None else split.base, policy, rows, past)
        if split is None:
            logits = policy(**inputs).logits.flatten(0, 1)[rows.source]
            return module_logps(exact, logits, rows.targets, chunk, statistics)
        hidden = split.base(**inputs)[0].flatten(0, 1)[rows.source]
        return head_logps(split, hidden, rows.targets, chunk=chunk, statistics=statistics)


def unwrapped(model: nn.Module) -> PreTrainedModel:
    """Return the transformers model inside a peft model, or the model itself; adapters act in both.

    Raises:
        ModelError: An adapter adds virtual tokens to the prompt.
    """
    if getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False):
        raise ModelError(
            "adapters that add virtual tokens to the prompt are not supported",
            value=type(model).__name__,
            allowed="adapters in the layers, such as LoRA",
        )
    unwrap = getattr(model, "get_base_model", None)
    return cast(PreTrainedModel, unwrap() if callable(unwrap) else model)


def forward_inputs(called: nn.Module, model: PreTrainedModel, rows: Rows, past: Cache | None = None) -> dict[str, Any]:
    """Return what a model, or its part in front of the head, is called with to compute rows."""
    inputs = {
        "input_ids": rows.input_ids,
        "attention_mask": attention_mask(model.config, rows, model.dtype),
        "position_ids": rows.position_ids,
        "use_cache": False,
        **({} if past is None else {"past_key_values": past}),
    }
    known = inspect.signature(called.forward).parameters
    if "input_ids" not in known:  # a wrapper that passes on what it is given
        return inputs
    return {name: value for name, value in inputs.items() if name in known}
