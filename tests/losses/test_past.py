"""A row that continues another: the log-probs of plain rows, without the prompts being computed again."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_layout_agreement import AGREE
from tiny_models import PAD, tiny

from sacpo.data.packing import Tree, continuing_row, flat_rows
from sacpo.losses.agreement import check_continuation
from sacpo.losses.logps import completion_logps
from sacpo.losses.past import ContinuedRow, KeptRow

TREES = [
    Tree((5, 6, 7, 8, 9, 10, 11), ((12, 13, 2),)),
    Tree((5, 6, 7, 8, 9, 10, 11), ((12, 14, 2),)),
    Tree((20,), ((21, 22, 23, 24, 2),)),
    Tree((30, 31, 32, 33), ((34, 2),)),
]
OTHERS = [
    Tree(tree.prompt, (completion,))
    for tree, completion in zip(TREES, [(40, 41, 2), (42, 2), (43,), (44, 45, 46, 47, 2)], strict=True)
]


def differences(model: Any) -> torch.Tensor:
    row = KeptRow()
    completion_logps(model, flat_rows(TREES, pad_id=PAD), past=row)
    found = completion_logps(model, continuing_row(TREES, OTHERS, pad_id=PAD), past=ContinuedRow(row))
    return (found - completion_logps(model, flat_rows(OTHERS, pad_id=PAD))).abs()


@pytest.mark.parametrize("kind", AGREE)
@torch.no_grad()
def test_other_completions_behind_kept_prompts_have_the_log_probs_of_plain_rows(kind: str) -> None:
    """Windows and blocks included, some of which end inside of the prompts."""
    model = tiny(kind)
    if model.config._attn_implementation != "sdpa":
        assert not check_continuation(model, TREES, OTHERS, pad_id=PAD)
        return
    assert check_continuation(model, TREES, OTHERS, pad_id=PAD)
    assert differences(model).max() < 1e-5


def test_a_prompt_is_laid_out_once_for_all_its_completions() -> None:
    row = continuing_row(TREES, OTHERS, pad_id=PAD)
    assert row.input_ids.tolist() == [[11, 40, 41, 2, 42, 2, 20, 43, 33, 44, 45, 46, 47, 2]]
    assert row.position_ids.tolist() == [[6, 7, 8, 9, 7, 8, 0, 1, 3, 4, 5, 6, 7, 8]]
    assert row.past == ((0, 6), (12, 12), (18, 21))
    assert row.past_width == flat_rows(TREES, pad_id=PAD).input_ids.shape[1]


@torch.no_grad()
def test_wrong_keys_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(self: ContinuedRow, key: torch.Tensor, value: torch.Tensor, layer: int, *args: Any) -> Any:
        keys, values = self.kept[layer]
        return torch.cat([keys.roll(1, 2), key], 2), torch.cat([values, value], 2)

    monkeypatch.setattr(ContinuedRow, "update", wrong)
    assert not check_continuation(tiny("llama"), TREES, OTHERS, pad_id=PAD)


def test_the_row_that_is_kept_has_its_gradient_and_what_continues_it_has_none() -> None:
    model = tiny("llama").train()
    rows = flat_rows(TREES, pad_id=PAD)
    grads = []
    for kept in (None, KeptRow()):
        model.zero_grad()
        logps = completion_logps(model, rows, past=kept)
        if kept is not None:
            with torch.no_grad():
                behind = completion_logps(model, continuing_row(TREES, OTHERS, pad_id=PAD), past=ContinuedRow(kept))
            assert not behind.requires_grad
        logps.sum().backward()
        grads.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))
