"""A model's key changes with every file that can change a number, and with no other."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from align_toys import job, write_base
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from sacpo.align.adapters import initial_policy, write_policy
from sacpo.errors import ModelError
from sacpo.merge import copy_companions
from sacpo.models.adapters import hub
from sacpo.models.adapters.stack import read_stack
from sacpo.models.checks import check_place
from sacpo.models.keys import base_key
from sacpo.models.loading import load_model, load_tokenizer, save_tokenizer, weights_key
from sacpo.recipe.schema import LoraSpec

COUNTING = (
    *("chat_template.jinja", "other.jinja", "additional_chat_templates/tool_use.jinja", "merges.txt", "vocab.txt"),
    *(
        "vocab.json",
        "spiece.model",
        "qwen.tiktoken",
        "modeling_own.py",
        "layers/attention.py",
        "generation_config.json",
    ),
    *("special_tokens_map.json", "added_tokens.json", "config.json", "preprocessor_config.json", "target.spm"),
)
IDLE = (
    *("README.md", "LICENSE", "LICENSE.txt", "NOTICE.txt", "requirements.txt", ".gitattributes", "training_args.bin"),
    *("optimizer.pt", "trainer_state.json", "all_results.json", "eval_results.json", "manifest.json", "curve.png"),
)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_base(tmp_path / "base")


def put(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("name", COUNTING)
def test_a_file_that_can_change_a_number_counts_and_is_copied(name: str, base: Path, tmp_path: Path) -> None:
    found = {weights_key(base)}
    for text in ('{"model_type": "llama", "a": 1}', '{"model_type": "llama", "a": 2}'):
        put(base / name, text)
        found.add(weights_key(base))
    assert len(found) == 3
    copy_companions(base, tmp_path / "copy")
    assert (tmp_path / "copy" / name).read_bytes() == (base / name).read_bytes()


@pytest.mark.parametrize("name", IDLE)
def test_a_file_that_changes_no_number_does_not_count(name: str, base: Path, tmp_path: Path) -> None:
    before = weights_key(base)
    put(base / name, "{}")
    assert weights_key(base) == before
    copy_companions(base, tmp_path / "copy")
    assert not (tmp_path / "copy" / name).exists()


def test_where_a_tokenizer_was_loaded_from_is_neither_written_nor_counted(base: Path, tmp_path: Path) -> None:
    """One process may ask the hub, another may not; the tokenizer is the same, to the byte."""
    script = (
        "import sys; from pathlib import Path; from sacpo.models.loading import load_tokenizer, save_tokenizer\n"
        "save_tokenizer(load_tokenizer(sys.argv[1]), Path(sys.argv[2]))"
    )
    for offline in "01":
        environment = {**os.environ, "HF_HUB_OFFLINE": offline}
        subprocess.run([sys.executable, "-c", script, base, tmp_path / offline], check=True, env=environment)
    texts = {(tmp_path / offline / "tokenizer_config.json").read_text() for offline in "01"}
    assert len(texts) == 1
    assert "local_files_only" not in texts.pop()
    AutoTokenizer.from_pretrained(base).save_pretrained(base)
    noted = json.loads((base / "tokenizer_config.json").read_text())
    assert noted["local_files_only"] is True
    before = weights_key(base)
    (base / "tokenizer_config.json").write_text(json.dumps({**noted, "local_files_only": False}))
    assert weights_key(base) == before
    (base / "tokenizer_config.json").write_text(json.dumps({**noted, "padding_side": "left"}))
    assert weights_key(base) != before


@pytest.mark.parametrize("options", [{}, {"use_dora": True}])
def test_an_adapters_own_tokenizer_and_template_count(options: dict[str, bool], base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a"
    config = LoraConfig(task_type="CAUSAL_LM", r=2, **options)  # type: ignore[arg-type]
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(folder)
    found = {weights_key(folder)}
    save_tokenizer(load_tokenizer(base), folder)
    found.add(weights_key(folder))
    put(folder / "chat_template.jinja", "{{ messages }}")
    found.add(weights_key(folder))
    put(base / "generation_config.json", '{"eos_token_id": [1, 2]}')  # of the base, whose end tokens are used
    found.add(weights_key(folder))
    assert len(found) == 4
    put(folder / "README.md", "words")
    assert weights_key(folder) in found


@pytest.mark.parametrize("options", [{}, {"use_dora": True}])
def test_adapters_and_their_base_may_move_together(options: dict[str, bool], base: Path, tmp_path: Path) -> None:
    """Where the base lies is written into their configuration; what it holds counts."""
    config = LoraConfig(task_type="CAUSAL_LM", r=2, **options)  # type: ignore[arg-type]
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(tmp_path / "a")
    before = weights_key(tmp_path / "a")
    shutil.copytree(base, tmp_path / "moved")
    written = tmp_path / "a" / "adapter_config.json"
    put(written, json.dumps({**json.loads(written.read_text()), "base_model_name_or_path": str(tmp_path / "moved")}))
    assert weights_key(tmp_path / "a") == before
    write_base(tmp_path / "moved", seed=5)
    assert (changed := weights_key(tmp_path / "a")) != before
    put(written, json.dumps({**json.loads(written.read_text()), "lora_alpha": 99}))
    assert weights_key(tmp_path / "a") not in (before, changed)


def test_adapters_know_their_base_by_its_weights_and_not_by_what_stands_beside(base: Path, tmp_path: Path) -> None:
    start = job(base, lora=LoraSpec(r=2))
    write_policy(initial_policy(start), load_tokenizer(base), start, tmp_path / "H")
    before, noted = weights_key(tmp_path / "H/model"), base_key(base)
    put(base / "chat_template.jinja", "{{ messages }}")
    assert base_key(base) == noted
    assert weights_key(tmp_path / "H/model") != before
    stack = read_stack(tmp_path / "H/model")
    assert stack is not None and stack.base_key == noted
    write_base(base, seed=5)
    with pytest.raises(ModelError, match="not the model that these adapters were trained on"):
        weights_key(tmp_path / "H/model")


def test_a_hub_adapter_is_read_as_its_folder_is(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pickles are not downloaded, so none is opened."""
    snapshot = tmp_path / "snapshot"
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(task_type="CAUSAL_LM", r=2))
    model.save_pretrained(snapshot, safe_serialization=False)
    asked = {}

    def downloaded(name: str, **options: object) -> str:
        asked[name] = options
        return str(snapshot)

    monkeypatch.setattr(hub, "find_adapter_config_file", lambda name, revision: str(snapshot / "adapter_config.json"))
    monkeypatch.setattr(hub, "snapshot_download", downloaded)
    with pytest.raises(ModelError, match="are pickles"):
        load_model("an-owner/an-adapter", revision="v1")
    assert asked["an-owner/an-adapter"]["revision"] == "v1"
    assert not [name for name in asked["an-owner/an-adapter"]["allow_patterns"] if "bin" in name]
    shutil.rmtree(snapshot)
    model.save_pretrained(snapshot)
    assert load_model("an-owner/an-adapter").config.vocab_size == model.config.vocab_size
    assert load_tokenizer("an-owner/an-adapter").get_vocab() == load_tokenizer(base).get_vocab()


def test_the_folder_of_a_training_is_told_from_that_of_its_model(tmp_path: Path) -> None:
    (tmp_path / "H" / "model").mkdir(parents=True)
    (tmp_path / "H" / "model" / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="the folder of a training, not of its model") as refused:
        check_place(tmp_path / "H")
    assert refused.value.do == f"give {tmp_path / 'H' / 'model'}"
    check_place(tmp_path / "H" / "model")
