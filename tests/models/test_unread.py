"""Tensors of a checkpoint that its model has no place for are named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from answer_toys import tiny_model, tiny_tokenizer
from safetensors.torch import load_file, save_file

from sacpo.models.checks import UnreadWeightsWarning
from sacpo.models.loading import load_model


def test_tensors_that_are_not_read_are_named(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    tiny_model(tiny_tokenizer()).save_pretrained(tmp_path)
    load_model(tmp_path)
    assert not [warning for warning in recwarn if warning.category is UnreadWeightsWarning]
    weights = load_file(tmp_path / "model.safetensors")
    weights["h.0.attn.masked_bias"] = torch.ones(1)  # a constant of GPT-2's old files
    extra = {f"vision.{i}.weight": torch.ones(2) for i in range(4)}
    save_file({**weights, **extra}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.warns(UnreadWeightsWarning, match=r"not read.*: 4 of the tensors, vision\.0\.weight, .*, \.\.\.$"):
        load_model(tmp_path)
