"""Attention block by block over one row: the same log-probs and gradients as plain rows, or an error."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from test_layout_agreement import AGREE
from tiny_models import PAD, tiny, trees
from torch.nn import functional

from sacpo.align.engine.layout import choose_layout
from sacpo.data.packing import Tree, flat_rows, padded_rows
from sacpo.losses.agreement import check_layout
from sacpo.losses.attention import Reach, attention_mask, visible, visible_on_diagonal
from sacpo.losses.diagonal import DiagonalMask
from sacpo.losses.logps import completion_logps
from sacpo.system.progress import QUIET

FLAT = partial(flat_rows, pad_id=PAD)


@pytest.mark.parametrize("kind", AGREE)
def test_every_architecture_that_shares_prompts_agrees_in_one_flat_row(kind: str) -> None:
    """Windows and blocks of positions included: some end inside of the trees."""
    found = check_layout(tiny(kind), trees(), pad_id=PAD, tolerance=1e-5, shared=FLAT, examples=6)
    assert found.ok, found.reason


LONG = [
    Tree((1, 2, 3), ((4,) * 90, (5,) * 80, (6,))),
    Tree((7,) * 200, ((8,) * 9, (9,) * 8)),
    Tree((1,), ((2,),)),
    Tree((8,), ((1,) * 50 + (2,) * 9, (1,) * 50 + (3,) * 7, (2,) * 60 + (3,), (2,) * 60 + (4,))),
]
"""One tree that attention takes branch by branch, one that it takes as a square, one plain sequence, and one whose
branches have branches."""


SHORT = [Tree((*tree.prompt, token), tree.completions) for token in (3, 4, 5) for tree in trees()]
"""Trees of which several stand in a block."""


def dense(mask: DiagonalMask) -> torch.Tensor:
    """Return a mask in parts as a whole one. Shape: (width, width) bool."""
    seen = torch.zeros(mask.shape[-2:], dtype=torch.bool)
    for part in mask.parts:
        keys = torch.cat([torch.arange(*stretch) for stretch in part.keys])
        queries = torch.arange(*part.queries)
        seen[queries[:, None], keys] = keys <= queries[:, None] if part.seen is None else part.seen[0, 0]
    return seen


@pytest.mark.parametrize("reach", [Reach(), Reach(window=5), Reach(block=4)])
@pytest.mark.parametrize("batch", [SHORT, LONG])
def test_the_parts_are_all_that_is_seen(batch: list[Tree], reach: Reach) -> None:
    rows = FLAT(batch)
    mask = visible_on_diagonal(rows, reach)
    assert len(mask.parts) > 1
    assert torch.equal(dense(mask), visible(rows, reach)[0, 0])
    assert mask.shape == visible(rows, reach).shape


def test_attention_over_long_branches_goes_branch_by_branch() -> None:
    assert [part.size for part in visible_on_diagonal(FLAT(LONG)).parts] == [93, 80, 1, 217, 2, 67, 62]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_are_those_of_plain_rows(checkpointing: bool) -> None:
    found = []
    for layout in (partial(padded_rows, pad_id=PAD), FLAT):
        model = tiny("llama", dtype=torch.float64).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        completion_logps(model, layout(trees() + LONG)).sum().backward()
        found.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)  # norms and rotations are in float32


def test_attention_in_16_bits_is_computed_in_32() -> None:
    rows = FLAT(trees())
    mask = visible_on_diagonal(rows)
    query, key, value = torch.randn(3, 1, 2, rows.input_ids.shape[1], 8, generator=torch.Generator().manual_seed(0))
    half = [tensor.bfloat16() for tensor in (query, key, value)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = functional.scaled_dot_product_attention(*half, attn_mask=mask)
    exact = functional.scaled_dot_product_attention(*(h.float() for h in half), attn_mask=visible(rows))
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, exact.bfloat16())


def test_anything_but_attention_over_the_whole_row_is_refused() -> None:
    rows = FLAT(trees())
    mask = visible_on_diagonal(rows)
    width = rows.input_ids.shape[1]
    part = torch.randn(3, 1, 2, width - 1, 8)
    with pytest.raises(TypeError, match="all queries and keys"):
        functional.scaled_dot_product_attention(*part, attn_mask=mask)
    for use in (lambda: mask[..., : width - 1], lambda: ~mask, lambda: mask.float(), lambda: torch.where(mask, 0, 1)):
        with pytest.raises(TypeError, match="only"):
            use()
    assert "DiagonalMask" in repr(mask)


@pytest.mark.parametrize("error", [AssertionError, IndexError])
def test_a_model_that_refuses_its_mask_with_any_error_gets_plain_rows(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny("llama")
    forward = model.model.forward

    def strict(*args: Any, attention_mask: torch.Tensor | None = None, **options: Any) -> Any:
        if attention_mask is not None and attention_mask.dim() != 2:
            raise error("2-D masks only")
        return forward(*args, attention_mask=attention_mask, **options)

    monkeypatch.setattr(model.model, "forward", strict)
    assert choose_layout("auto", model, trees(), PAD, QUIET).name == "padded"
    assert "2-D masks only" in capsys.readouterr().err


def test_flat_rows_are_for_sdpa_on_a_cpu_and_not_for_compilers() -> None:
    model = tiny("llama")
    assert isinstance(attention_mask(model.config, FLAT(trees()), torch.float32), DiagonalMask)
    assert choose_layout("auto", model, trees(), PAD, QUIET, compiled=True).name == "packed"
    eager = tiny("llama", attention="eager")
    assert not isinstance(attention_mask(eager.config, FLAT(trees()), torch.float32), DiagonalMask)
    assert choose_layout("auto", eager, trees(), PAD, QUIET).name == "packed"
