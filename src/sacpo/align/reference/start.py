"""The check before the first update: policy and reference are the same model, which fixes the first loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from sacpo.align.objectives.objective import Batch, Forward, Objective
from sacpo.errors import ModelError
from sacpo.losses.agreement import ROUNDINGS, moved_embeddings

# |gap| <= absolute + relative * |log-prob|: sums over long completions carry more rounding
TOLERANCE = {torch.float32: (1e-4, 1e-6), torch.float64: (1e-6, 1e-9)}
TOLERANCE_LOW = (5e-2, 2e-3)
"""Of bfloat16 and float16; a model whose own rounding makes more is measured, see `check_start`."""


class Starting(Protocol):
    """What begins a training: a trainer."""

    objective: Objective
    policy: PreTrainedModel

    @property
    def precision(self) -> torch.dtype:
        """The type that the forward pass computes in."""
        ...

    def forward_frozen(self, function: object) -> torch.Tensor:
        """Call a function of the bare model without gradient and without dropout."""
        ...

    def gather(self, values: torch.Tensor) -> torch.Tensor:
        """Concatenate a one-dimensional tensor over all processes."""
        ...


class Recorder:
    """Calls a forward pass, and gives the first result once more without computing it.

    Args:
        forward: See `sacpo.align.objectives.objective.Forward`.
    """

    def __init__(self, forward: Forward[torch.Tensor]) -> None:
        self.forward = forward
        self.first: torch.Tensor | None = None

    def __call__(self, function: Callable[[PreTrainedModel], torch.Tensor]) -> torch.Tensor:
        """Call the forward pass."""
        found = self.forward(function)
        if self.first is None:
            self.first = found.detach()
        return found

    def replay(self, function: Callable[[PreTrainedModel], torch.Tensor]) -> torch.Tensor:
        """Return the first result, or compute it if there is none."""
        return self(function) if self.first is None else self.first


def has_dropout(model: nn.Module) -> bool:
    """Return whether a model, or an adapter in it, drops anything while training."""
    if any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules()):
        return True
    config = getattr(model, "config", None)
    fields = config.get_text_config().to_dict() if isinstance(config, PretrainedConfig) else {}
    return any("drop" in name and isinstance(value, float) and value > 0 for name, value in fields.items())


def check_start(trainer: Starting, batch: Batch, forward: Forward[torch.Tensor]) -> None:
    """Compare the policy with its reference on the first batch, before the first update and without dropout.

    In 16 bits some models differ from themselves by tenths of a nat between batches of two shapes. Where the usual
    tolerance does not do, what one rounding of the embeddings changes is measured, and `ROUNDINGS` times that is
    allowed. All processes measure if one has to.

    Raises:
        ModelError: They differ by more than rounding, so the reference is not this policy's.
    """
    objective, precision = trainer.objective, trainer.precision
    found = objective.start_gaps(batch, forward)
    if found is None:
        return
    gaps, logps = found
    absolute, relative = TOLERANCE.get(precision, TOLERANCE_LOW)
    limit = absolute + relative * float(logps.abs().max())
    worst = float(gaps.abs().max())
    excess = gaps.new_tensor([worst - limit])
    if precision not in TOLERANCE and bool((trainer.gather(excess) > 0).any()):
        with moved_embeddings(trainer.policy, precision):
            again = objective.start_gaps(batch, trainer.forward_frozen)
        assert again is not None
        limit = max(limit, ROUNDINGS * float((again[0] - gaps).abs().max()))
    if math.isfinite(worst) and worst <= limit:
        return
    record = objective.ids[batch.indices[int(gaps.abs().nan_to_num(math.inf).argmax())]]
    raise ModelError(
        "the policy differs from its reference before the first update"
        + ("" if objective.first_loss is None else f", so the first loss would not be {objective.first_loss.text}"),
        where=f"record {record}",
        value=f"{worst:.6g} nats",
        allowed=f"at most {limit:.3g} nats in {str(precision).removeprefix('torch.')}",
        do="delete the reference cache; if it comes back, try row layout 'padded' or attn_implementation 'eager'",
    )
