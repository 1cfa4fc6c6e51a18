"""bf16 on a CPU without instructions for it is slower than float32, and is said to be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import TrainingArguments

from sacpo.align.engine.arguments import without_bf16


@pytest.mark.parametrize(
    ("bf16", "able", "said"),
    [
        (True, {"architecture": "x86_64", "avx2": True, "avx512_bf16": False, "amx_bf16": False}, True),
        (False, {"architecture": "x86_64", "avx2": True}, False),
        (True, {"architecture": "x86_64", "avx512_bf16": True}, False),
        (True, {"architecture": "x86_64", "amx_bf16": True}, False),
        (True, {"architecture": "aarch64"}, False),  # nothing is known of it here
    ],
)
def test_bf16_without_instructions_has_a_notice(
    bf16: bool, able: dict[str, object], said: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    notice = without_bf16(TrainingArguments(output_dir=str(tmp_path), use_cpu=True, bf16=bf16))
    assert ("leave bf16 out" in notice) == said == bool(notice)
