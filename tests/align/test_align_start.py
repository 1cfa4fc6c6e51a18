"""How far policy and reference may be apart before the first update: rounding passes, other weights do not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from answer_toys import tiny_model, tiny_tokenizer

from sacpo.align.reference.start import check_start
from sacpo.errors import ModelError
from sacpo.losses.agreement import ROUNDINGS, moved_embeddings


class Trainer:
    """A trainer whose one record's gap is given, and another one where its embeddings are moved."""

    def __init__(self, precision: torch.dtype, gap: float, moved: float) -> None:
        self.precision, self.gap, self.moved = precision, gap, moved
        self.policy = tiny_model(tiny_tokenizer())
        self.objective: Any = SimpleNamespace(
            start_gaps=lambda batch, forward: (torch.tensor([forward(None)]), torch.tensor([-47.0])),
            first_loss=SimpleNamespace(text="ln 2"),
            ids=["r"],
        )
        self.measured = 0

    def forward_frozen(self, function: object) -> Any:
        assert self.policy.get_input_embeddings()._forward_hooks  # it is asked for with moved embeddings alone
        self.measured += 1
        return self.moved

    def gather(self, values: torch.Tensor) -> torch.Tensor:
        return values


@pytest.mark.parametrize(
    ("precision", "gap", "moved", "passes", "measured"),
    [
        (torch.bfloat16, 0.14, 9.0, True, 0),  # .05 + .002 x 47 = .144
        (torch.bfloat16, 0.5, 0.7, True, 1),  # one rounding makes .2, three times that are allowed
        (torch.bfloat16, 0.5, 0.6, False, 1),  # .1: .3 are
        (torch.bfloat16, float("nan"), 9.0, False, 0),
        (torch.float32, 1e-4, 9.0, True, 0),
        (torch.float32, 2e-4, 9.0, False, 0),  # 1e-4 + 1e-6 x 47
    ],
)
def test_only_rounding_may_lie_between_policy_and_reference(
    precision: torch.dtype, gap: float, moved: float, passes: bool, measured: int
) -> None:
    assert ROUNDINGS == 3
    trainer, batch = Trainer(precision, gap, moved), SimpleNamespace(indices=[0])
    forward: Any = lambda function: trainer.gap  # noqa: E731
    if passes:
        check_start(trainer, batch, forward)  # type: ignore[arg-type]
    else:
        with pytest.raises(ModelError, match="the policy differs from its reference"):
            check_start(trainer, batch, forward)  # type: ignore[arg-type]
    assert trainer.measured == measured
    assert not trainer.policy.get_input_embeddings()._forward_hooks


def test_embeddings_move_by_one_rounding_of_the_type_that_is_computed_in() -> None:
    """Of float32 weights under bfloat16 autocast by up to 2^-7 of each, and not by nothing."""
    policy, ids = tiny_model(tiny_tokenizer()), torch.arange(1, 9)[None]  # 0 is padding, which is 0
    layer = policy.get_input_embeddings()
    plain = layer(ids).detach()
    with moved_embeddings(policy, torch.bfloat16):
        apart = ((layer(ids).detach() - plain) / plain).abs()
    assert 0.9 * 2**-7 < float(apart.max()) < 1.001 * 2**-7
    assert torch.equal(layer(ids), plain)
