"""How far policy and reference may be apart before the first update: rounding passes, other weights do not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sacpo.align.reference.start import check_start
from sacpo.errors import ModelError


@pytest.mark.parametrize(
    ("precision", "gap", "passes"),
    [
        (torch.bfloat16, 0.5, True),  # what Gemma 3 270M shows between batches of two shapes
        (torch.bfloat16, 0.8, False),  # .25 + .01 x 47 = .72
        (torch.float32, 1e-4, True),
        (torch.float32, 2e-4, False),  # 1e-4 + 1e-6 x 47
    ],
)
def test_only_rounding_may_lie_between_policy_and_reference(precision: torch.dtype, gap: float, passes: bool) -> None:
    found = torch.tensor([gap]), torch.tensor([-47.0])
    objective: Any = SimpleNamespace(
        start_gaps=lambda batch, forward: found, first_loss=SimpleNamespace(text="ln 2"), ids=["r"]
    )
    batch: Any = SimpleNamespace(indices=[0])
    if passes:
        check_start(objective, batch, None, precision)  # type: ignore[arg-type]
    else:
        with pytest.raises(ModelError, match="the policy differs from its reference"):
            check_start(objective, batch, None, precision)  # type: ignore[arg-type]
