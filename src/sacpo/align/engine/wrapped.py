"""Calling a model through what wraps it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel


def call_wrapped(wrapper: nn.Module, policy: PreTrainedModel, function: Any) -> torch.Tensor:
    """Call `function(policy)` so that the hooks of a wrapper (DDP, FSDP) see it as one forward pass."""
    inner = wrapper
    while isinstance(getattr(inner, "module", None), nn.Module):
        inner = inner.module  # type: ignore[assignment]
    if inner is wrapper and not hasattr(wrapper, "unshard"):
        return function(policy)
    original = inner.__dict__.get("forward")
    policy_forward = inner.forward

    def redirected(*args: Any, **kwargs: Any) -> torch.Tensor:
        inner.forward = policy_forward
        return function(policy)

    inner.forward = redirected
    try:
        return wrapper()
    finally:
        if original is None:
            del inner.forward
        else:
            inner.forward = original
