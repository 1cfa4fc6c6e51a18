"""The check before the first update: policy and reference are the same model, which fixes the first loss."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from sacpo.align.objectives.objective import Batch, Forward, Objective
from sacpo.errors import ModelError

# |gap| <= absolute + relative * |log-prob|: sums over long completions carry more rounding
TOLERANCE = {torch.float32: (1e-4, 1e-6), torch.float64: (1e-6, 1e-9)}
TOLERANCE_LOW = (0.25, 1e-2)
"""Of bfloat16 and float16. Of 28 log-probs of 20 to 100 nats Gemma 3 270M in bfloat16 has some .7 nats off, and
batches of another shape differ by up to .5; the weights of another training are several nats away."""


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


def check_start(objective: Objective, batch: Batch, forward: Forward[torch.Tensor], precision: torch.dtype) -> None:
    """Compare the policy with its reference on the first batch, before the first update and without dropout.

    Raises:
        ModelError: They differ by more than rounding, so the reference is not this policy's.
    """
    found = objective.start_gaps(batch, forward)
    if found is None:
        return
    assert objective.first_loss is not None
    gaps, logps = found
    absolute, relative = TOLERANCE.get(precision, TOLERANCE_LOW)
    limit = absolute + relative * float(logps.abs().max())
    worst = float(gaps.abs().max())
    if math.isfinite(worst) and worst <= limit:
        return
    record = objective.ids[batch.indices[int(gaps.abs().nan_to_num(math.inf).argmax())]]
    raise ModelError(
        "the policy differs from its reference before the first update, so the first loss would not be "
        f"{objective.first_loss.text}",
        where=f"record {record}",
        value=f"{worst:.6g} nats",
        allowed=f"at most {limit:.3g} nats in {str(precision).removeprefix('torch.')}",
        do="delete the reference cache; if it comes back, try row layout 'padded' or attn_implementation 'eager'",
    )
