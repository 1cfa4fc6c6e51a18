"""Models of GGUF files, read by transformers: the same numbers, and a run that starts from one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sacpo import parse_recipe, run
from sacpo.errors import MachineError, ModelError, RecipeError
from sacpo.models.checks import check_place
from sacpo.models.gguf import check_gguf, load_gguf


def recipe(folder: Path, model: str, **base: object) -> dict[str, object]:
    rows = [{"prompt": f"why {i}?", "chosen": "because.", "rejected": "no."} for i in range(8)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "name": "from-gguf",
        "base": {"model": model, "template": "plain", "device": "cpu", **base},
        "data": {"pairs": {"format": "preference", "path": str(folder / "pairs.jsonl")}},
        "training": {"max_steps": 2, "per_device_train_batch_size": 4},
        "steps": [{"name": "H", "criterion": "helpfulness", "dataset": "pairs", "beta": 0.1, "from": "sft"}],
    }


def test_a_run_starts_from_a_gguf_file(tmp_path: Path) -> None:
    """The base of the run has the file's numbers, and the step learns from it."""
    pytest.importorskip("gguf")
    from gguf_toys import write_gguf

    made = write_gguf(tmp_path / "tiny.gguf")
    loaded, tokenizer = load_gguf(tmp_path / "tiny.gguf")
    tokens = tokenizer("why is the sky blue?", return_tensors="pt")["input_ids"]
    assert tokens.shape[1] < 15  # merges are there, not single bytes
    with torch.no_grad():
        torch.testing.assert_close(loaded(tokens).logits, made(tokens).logits)
    done = run(parse_recipe(recipe(tmp_path, str(tmp_path / "tiny.gguf"))), runs=tmp_path / "runs")
    base, step = (done.folder / "stages" / name / "model" for name in ("base", "align/H"))
    assert (base / "model.safetensors").is_file() and (step / "model.safetensors").is_file()
    assert "quantization_config" not in json.loads((base / "config.json").read_text())


def test_files_that_are_no_gguf_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.gguf").write_text("hello")
    (tmp_path / "head.gguf").write_bytes(b"GGUF\x03\x00")
    with pytest.raises(ModelError, match="no such GGUF file"):
        check_gguf(tmp_path / "none.gguf")
    with pytest.raises(ModelError, match="not of the format GGUF"):
        check_gguf(tmp_path / "text.gguf")
    with pytest.raises((ModelError, MachineError), match=r"damaged|package"):
        load_gguf(tmp_path / "head.gguf")
    with pytest.raises(ModelError, match=r"base\.model: FILE\.gguf"):
        check_place(tmp_path / "head.gguf")
    with pytest.raises(RecipeError, match="comes from no hub"):
        parse_recipe(recipe(tmp_path, "x.gguf", revision="main"))
