"""The pages for newcomers, engineers and whoever signs off, and the notebook: what they say to type, at tiny sizes.

The names that the pages use are those of tiny files and models here; nothing of a command is changed. The page for
raters is tested in tests/judging.
"""

from __future__ import annotations

import io
import json
import math
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from align_toys import toy_pairs
from pages import DOCS, tutorial
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import sacpo.recipe.load
from sacpo.cli import main
from sacpo.models.byte_level_bpe import byte_level_bpe
from sacpo.models.loading import build_model, save_model

Type = Callable[..., str]
LLAMA = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 1024,
}
ASKED = "tell me how to polish the fence at home, please?"


@pytest.fixture
def type_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Type:
    """Do a command line in a folder of its own and return what it printed."""
    monkeypatch.chdir(tmp_path)

    def done(line: str, typed: str = "", code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", shlex.split(line))
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert (ended.value.code or 0) == code, f"{line}\n{said.out}\n{said.err}"
        return said.out + said.err

    return done


def write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_model(folder: Path) -> Path:
    """A model with a chat template whose answer is always "a": after letters it ends, after all else comes an "a"."""
    tokenizer = byte_level_bpe([pair.chosen for pair in toy_pairs(24)], 300)
    model = build_model(LLAMA, tokenizer, 0)
    letters = [id for word, id in tokenizer.get_vocab().items() if word.isalpha()]
    with torch.no_grad():
        table, head = model.model.embed_tokens.weight, model.lm_head.weight
        table[:, :2] = torch.tensor([0.0, 10.0])
        table[letters, :2] = torch.tensor([10.0, 0.0])
        head[tokenizer.eos_token_id, 0] = head[tokenizer.convert_tokens_to_ids("a"), 1] = 1.0
    save_model(model, tokenizer, folder)
    return folder


def write_scorer(folder: Path, base: Path, bias: float) -> None:
    """A reward model that finds every answer `bias` good."""
    scorer = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
    tokenizer = AutoTokenizer.from_pretrained(base)
    scorer.config.pad_token_id = tokenizer.pad_token_id
    with torch.no_grad():
        scorer.score.weight.fill_(bias)
    save_model(scorer, tokenizer, folder)


@pytest.fixture
def demo(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which the package's demo is the tiny recipe under the demo's name, most of whose stages are done."""
    recipe = yaml.safe_load((finished / "tiny.yaml").read_text()) | {"name": "demo"}
    (tmp_path / "demo.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    monkeypatch.setattr(sacpo.recipe.load, "DEMO", tmp_path / "demo.yaml")
    shutil.copy(finished / "pairs.jsonl", tmp_path)
    shutil.copytree(finished / "runs" / "tiny", tmp_path / "runs" / "demo", symlinks=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_newcomers(demo: Path, type_in: Type, tmp_path: Path) -> None:
    write_rows(tmp_path / "questions.jsonl", [{"prompt": ASKED}])
    plan, run, page, terminal, answers, refusals, stricter = tutorial("newcomer.md")
    type_in(plan)
    assert "runs/demo/report.html" in type_in(run)
    assert f"{page} --terminal" == terminal
    said = type_in(terminal, f"{ASKED}\n/q 1\n/again\n/quit\n")
    assert said.count("harmlessness: ") == 2
    type_in(answers)
    type_in(refusals)
    assert (tmp_path / "out" / "refusal" / "verdicts.jsonl").is_file()
    assert "demo-5: 82 stages, 9 models" in type_in(f"{stricter} --dry-run")  # to do it all again would show no more


def test_the_engineers(type_in: Type, tmp_path: Path) -> None:
    base = write_model(tmp_path / "MODEL")
    for name, seed in (("helpful", 0), ("safe", 1)):
        pairs = toy_pairs(24, seed=seed)
        rows = [{"prompt": pair.prompt.text, "chosen": pair.chosen, "rejected": pair.rejected} for pair in pairs]
        write_rows(tmp_path / f"{name}.jsonl", rows)
    write_rows(tmp_path / "prompts.jsonl", [{"prompt": pair.prompt.text} for pair in toy_pairs(4, seed=2)])
    write_scorer(tmp_path / "REWARD_MODEL", base, 0.5)
    write_scorer(tmp_path / "COST_MODEL", base, 0.0)
    lines = tutorial("engineer.md")
    said = {line: type_in(line) for line in lines}
    assert "24 rows" in said[lines[1]]
    assert (tmp_path / "runs" / "experiment" / "report.html").is_file()
    assert (tmp_path / "out" / "P" / "q0.5" / "model.safetensors").is_file()
    assert "P@q0.5" in said[lines[-1]]


def test_the_signers(finished: Path, type_in: Type, tmp_path: Path) -> None:
    """With 60 unseen prompts and no unsafe answer 95 % confidence is reached: .95^59 < .05."""
    shutil.copytree(finished / "runs" / "tiny" / "stages" / "chosen" / "model", tmp_path / "runs" / "demo" / "model")
    write_scorer(tmp_path / "COST_MODEL", write_model(tmp_path / "base"), 0.0)
    for name in ("tuning", "unseen"):
        asked = [{"prompt": f"{name} question {i}", "kind": "restricted"} for i in range(60)]
        write_rows(tmp_path / f"{name}.jsonl", asked)
    power, *answer, certify, verify = tutorial("sign-off.md")
    assert "prompts" in type_in(power)
    for line in answer:
        type_in(line)
    said = type_in(certify)
    assert "With 95 % confidence, chosen has at most 5 % unsafe answers" in " ".join(said.split())
    assert "void" not in type_in(verify)
    (tmp_path / "runs" / "demo" / "model" / "config.json").write_text("{}")
    assert "void" in type_in(verify, code=2)


def test_the_notebook(demo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cells, one after the other: the demo's figures, a step that starts at ln 2, a point of the path, a number."""
    monkeypatch.setenv("MPLBACKEND", "agg")
    notebook = json.loads((DOCS / "notebook.ipynb").read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    names: dict[str, Any] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert not cell["outputs"]
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
    said = capsys.readouterr().out
    assert f"chosen: {names['run'].chosen}\n" in said
    assert names["summary"]["first_loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert [line.split(":")[0] for line in said.splitlines() if line.startswith("q = ")] == [
        "q = 0",
        "q = 0.5",
        "q = 1",
    ]
    assert {*names["run"].results["measures"]} <= {line.split(" ")[0] for line in said.splitlines()}
    assert names["needed"]["clean"] == 59  # .95^59 < .05
