"""How rows of traits are laid out by a stage that one process does alone."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from sacpo.answer.batches import shared_layout
from sacpo.data.packing import Tree
from sacpo.system import processes


class Words:
    """A tokenizer, as far as rows need one."""

    pad_token_id = 0
    eos_token_id = 2


def test_no_other_process_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others of a launch wait at a barrier meanwhile: a sum over all of them would never come."""

    def never(tensor: torch.Tensor) -> torch.Tensor:
        raise AssertionError("asked other processes")

    monkeypatch.setattr(processes, "added", never)
    sizes = {"vocab_size": 16, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    model = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=2)).eval()
    trees = [Tree((5, 6), (completion,)) for completion in ((7, 2), (8, 9, 2))]
    rows = shared_layout(model, Words(), trees)  # type: ignore[arg-type]
    assert rows is not None
    assert int((rows(trees).input_ids == 5).sum()) == 1
