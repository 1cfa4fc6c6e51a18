"""The check before the first update: policy and reference are the same model, so DPO's loss is ln 2."""

from __future__ import annotations

import math

import torch

from sacpo.align.objective import Batch, Forward, Objective
from sacpo.errors import ModelError

# |gap| <= absolute + relative * |log-prob|: sums over long completions carry more rounding
TOLERANCE = {torch.float32: (1e-4, 1e-6), torch.float64: (1e-6, 1e-9)}
TOLERANCE_LOW = (5e-2, 2e-3)  # bfloat16 and float16


def check_start(objective: Objective, batch: Batch, forward: Forward[torch.Tensor], precision: torch.dtype) -> None:
    """Compare the policy with its reference on the first batch, before the first update and without dropout.

    Raises:
        ModelError: They differ by more than rounding, so the reference is not this policy's.
    """
    found = objective.start_gaps(batch, forward)
    if found is None:
        return
    gaps, logps = found
    absolute, relative = TOLERANCE.get(precision, TOLERANCE_LOW)
    limit = absolute + relative * float(logps.abs().max())
    worst = float(gaps.abs().max())
    if math.isfinite(worst) and worst <= limit:
        return
    record = objective.ids[batch.indices[int(gaps.abs().nan_to_num(math.inf).argmax())]]
    raise ModelError(
        "the policy differs from its reference before the first update, so the first loss would not be ln 2",
        where=f"record {record}",
        value=f"{worst:.6g} nats",
        allowed=f"at most {limit:.3g} nats in {str(precision).removeprefix('torch.')}",
        do="delete the reference cache; if it comes back, try row layout 'padded' or attn_implementation 'eager'",
    )
