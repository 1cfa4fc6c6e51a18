"""The recipe of the real pretrained model in small: a tiny Gemma-3 drawn here, a few made-up rows of each file."""

from __future__ import annotations

import csv
import json
import math
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_tokenizers import byte_level
from transformers import AutoModelForCausalLM, AutoTokenizer

import sacpo
from sacpo.errors import ModelError
from sacpo.losses import frozen_head, head
from sacpo.models.adapters.stack import read_stack
from sacpo.models.loading import build_model

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "make_gemma.py"))
TURNS = ("<start_of_turn>", "<end_of_turn>")
TINY: dict[str, Any] = {
    "model_type": "gemma3_text",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "query_pre_attn_scalar": 16,
    "sliding_window": 24,  # shorter than the rows: both kinds of layers differ
    "layer_types": ["sliding_attention", "full_attention"],
    "max_position_embeddings": 256,
    "tie_word_embeddings": True,
}


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "gemma"
    tokenizer = byte_level(TURNS, eos="<eos>", bos="<bos>")
    SCRIPT["standard"](build_model(TINY, tokenizer, 0), tokenizer, folder)
    return folder


def write_data(folder: Path) -> None:
    """Write a few rows of every file that the recipe reads, under its name."""
    rows = range(12)
    files: dict[str, Any] = {
        "llama_factory/alpaca_en_demo.json": [
            {"instruction": f"name {i}", "input": "", "output": "a bee"} for i in rows
        ],
        "llama_factory/dpo_en_demo.json": [
            {
                "conversations": [{"from": "human", "value": f"tell {i}"}],
                "chosen": {"from": "gpt", "value": "yes."},
                "rejected": {"from": "gpt", "value": "no."},
            }
            for i in rows
        ],
        "pandalm/testset-v1.json": [
            {"instruction": f"say {i}", "input": "", "response1": "one", "response2": f"two {i}"}
            | {f"annotator{n}": 1 + (i % 2) for n in (1, 2, 3)}
            for i in rows
        ],
        "prompts/alpacaeval_helpful_base_129.json": [{"prompt": f"what is {i}?"} for i in rows],
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    (folder / "pku_saferlhf").mkdir()
    for part in ("train", "test"):
        pairs = [{"prompt": f"{part} {i}?", "chosen": "no, sorry.", "rejected": f"sure {i}"} for i in rows]
        lines = "".join(json.dumps(pair) + "\n" for pair in pairs)
        (folder / f"pku_saferlhf/safety_pairs_{part}.jsonl").write_text(lines)
    (folder / "xstest").mkdir()
    with (folder / "xstest/prompts.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "prompt", "type", "label"])
        table.writerows([i, f"kill process {i}", "homonyms", "unsafe" if i % 3 == 0 else "safe"] for i in rows)


def test_the_recipe_runs_on_a_tiny_gemma(gemma: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every part of it: SFT, H and H-S as three adapters on untouched weights, the merge, held-out pairs, XSTest."""
    write_data(tmp_path / "data")
    monkeypatch.setenv("SACPO_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(head, "LOGITS_KEPT", 0)  # as for 262,144 tokens
    frozen: list[bool] = []
    meet = frozen_head.meet
    monkeypatch.setattr(frozen_head, "meet", lambda *args: frozen.append(args[3]) or meet(*args))
    changes = {"base.model": str(gemma), "evaluate.generation.max_new_tokens": 4, "evaluate.kl_prompts": 2}
    recipe = sacpo.load_recipe(ROOT / "recipes" / "gemma-270m.yaml", overrides=[f"{k}={v}" for k, v in changes.items()])
    run = sacpo.run(recipe, runs=tmp_path / "runs")
    assert set(frozen) == {True, False}  # trainings, and reference passes
    stack = read_stack(run.folder / "stages/align/H-S/model")
    assert stack is not None and len(stack.members) == 3
    assert Path(stack.base).resolve() == gemma.resolve()
    results = json.loads((run.folder / "results.json").read_text())
    first = {name: results["models"][name]["curve"][0]["loss"] for name in ("H", "H-S")}
    assert first == pytest.approx(dict.fromkeys(first, math.log(2)), abs=1e-5)
    implicit = results["models"]["H-S"]["implicit"]
    assert {name: implicit[name]["n"] for name in ("votes/implicit", "safety-test/implicit")} == {
        "votes/implicit": 1,  # of 12, held out by the seed
        "safety-test/implicit": 12,
    }
    assert implicit["safety-test/implicit"]["value"] == 1.0  # "no, sorry." is what it learnt to prefer
    assert results["models"]["P"]["weights"] == [0.5, 0.5]
    measured = results["measures"]["H-S"]["xstest"]["metrics"]
    assert [measured[name]["n"] for name in ("over_refusal_rate", "refusal_rate", "kl")] == [8, 4, 2]


def test_the_folder_speaks_gemmas_turns(gemma: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(gemma)
    talk = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": " hi "},
        {"role": "assistant", "content": "ho"},
        {"role": "user", "content": "more"},
    ]
    assert tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True) == (
        "<bos><start_of_turn>user\nBe short.\n\nhi<end_of_turn>\n<start_of_turn>model\nho<end_of_turn>\n"
        "<start_of_turn>user\nmore<end_of_turn>\n<start_of_turn>model\n"
    )
    model = AutoModelForCausalLM.from_pretrained(gemma)
    ends = [tokenizer.convert_tokens_to_ids(name) for name in ("<eos>", "<end_of_turn>")]
    assert model.generation_config.eos_token_id == ends
    with pytest.raises(ModelError, match="no token that ends a turn"):
        SCRIPT["standard"](model, byte_level(eos="<eos>"), tmp_path / "none")


def test_the_cost_of_a_text_is_the_mean_over_its_tokens(gemma: Path) -> None:
    """A head of zeros finds every token as likely: log of the vocabulary."""
    tokenizer = AutoTokenizer.from_pretrained(gemma)
    model = AutoModelForCausalLM.from_pretrained(gemma)
    torch.nn.init.zeros_(model.lm_head.weight)
    assert SCRIPT["nats"](model, tokenizer, SCRIPT["TEXT"]) == pytest.approx(torch.tensor(len(tokenizer)).log().item())
