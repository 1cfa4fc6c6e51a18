"""Adapters that other programs wrote: what peft loads is loaded, to peft's own logits, or refused with a way out."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from answer_toys import tiny_tokenizer
from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tiny_models import VOCABULARY, tiny
from transformers import AutoModelForCausalLM

from sacpo.errors import ModelError
from sacpo.merge import merge_checkpoints, write_merged
from sacpo.models.adapters.folder import beyond
from sacpo.models.adapters.stack import read_stack, stack_of
from sacpo.models.loading import load_model, load_tokenizer, weights_key

IDS = torch.tensor([[5, 6, 7, 8, 9, 10, 11]])


def logits(model: Any, ids: torch.Tensor = IDS) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(ids).logits
    return found


def write_base(folder: Path, kind: str = "llama", **changes: Any) -> Path:
    tiny(kind, **changes).save_pretrained(folder)
    return folder


def adapted(base: Path, rows: int | None = None, **options: Any) -> PeftModel:
    """peft's model of a base, its vocabulary resized, with a new adapter of random change."""
    model = AutoModelForCausalLM.from_pretrained(base)
    torch.manual_seed(3)
    if rows is not None:
        model.resize_token_embeddings(rows, mean_resizing=False)
    made = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=2, **options))
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.2)
            assert parameter.requires_grad is ("lora_" in name or "modules_to_save" in name)
    return made


def settings(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def check_everywhere(folder: Path, wanted: torch.Tensor, tmp_path: Path, ids: torch.Tensor = IDS) -> None:
    """Loaded, merged in memory, and exported, the model has peft's logits."""
    close = {"rtol": 1e-4, "atol": 1e-4 * float(wanted.abs().max())}
    torch.testing.assert_close(logits(load_model(folder), ids), wanted, **close)
    torch.testing.assert_close(logits(load_model(folder, adapters="merged"), ids), wanted, **close)
    tokens = tmp_path / "tokens"
    tiny_tokenizer().save_pretrained(tokens)
    write_merged(stack_of(folder), tmp_path / "exported", tokens)
    torch.testing.assert_close(
        logits(AutoModelForCausalLM.from_pretrained(tmp_path / "exported"), ids), wanted, **close
    )


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_a_head_that_peft_saved_beside_its_factors_is_the_bases(tied: bool, tmp_path: Path) -> None:
    """It is plain LoRA, and stays a stack; of tied embeddings it cannot be merged, as before."""
    base = write_base(tmp_path / "base", tie_word_embeddings=tied)
    theirs = adapted(base, target_modules=["q_proj", "lm_head"])
    theirs.save_pretrained(tmp_path / "a")
    assert "base_model.model.lm_head.base_layer.weight" in load_file(tmp_path / "a/adapter_model.safetensors")
    assert beyond(tmp_path / "a") is None and read_stack(tmp_path / "a") is not None
    torch.testing.assert_close(logits(load_model(tmp_path / "a")), logits(theirs))
    if not tied:
        check_everywhere(tmp_path / "a", logits(theirs), tmp_path)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("rows", [VOCABULARY + 3, VOCABULARY - 5, VOCABULARY])
def test_embeddings_that_an_adapter_brings_are_used(tied: bool, rows: int, tmp_path: Path) -> None:
    """More rows, fewer, and as many with other values; the last tokens are asked for too."""
    base = write_base(tmp_path / "base", tie_word_embeddings=tied)
    theirs = adapted(base, rows, target_modules=["q_proj"])
    with torch.no_grad():
        theirs.get_input_embeddings().weight[4:] += 0.5
    theirs.save_pretrained(tmp_path / "a", save_embedding_layers=True)
    assert read_stack(tmp_path / "a") is None
    assert str(beyond(tmp_path / "a")).startswith("a tensor of its own: base_model.model.")
    ids = torch.tensor([[4, 5, rows - 1, 7, rows - 2]])
    check_everywhere(tmp_path / "a", logits(theirs, ids), tmp_path, ids)


@pytest.mark.parametrize("options", [{"modules_to_save": ["embed_tokens", "lm_head"]}, {"use_dora": True}])
def test_resized_models_with_more_than_plain_lora_load(options: dict[str, Any], tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", tie_word_embeddings=False)
    theirs = adapted(base, VOCABULARY + 4, target_modules=["q_proj"], **options)
    theirs.save_pretrained(tmp_path / "a", save_embedding_layers="modules_to_save" not in options)
    check_everywhere(tmp_path / "a", logits(theirs), tmp_path)


def test_a_resized_vocabulary_without_its_embeddings_is_refused(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", tie_word_embeddings=False)
    for number, module in enumerate(("lm_head", "embed_tokens")):
        theirs = adapted(base, VOCABULARY + 3, target_modules=["q_proj", module])
        theirs.save_pretrained(tmp_path / f"{number}", save_embedding_layers=False)
        with pytest.raises(ModelError, match=rf"vocabulary was resized(.|\n)*{VOCABULARY + 3} rows(.|\n)*save_emb"):
            load_model(tmp_path / f"{number}")


@pytest.mark.parametrize("start", ["pissa", "olora"])
def test_an_adapter_that_changed_its_base_is_loaded_and_exported_as_peft_does(start: str, tmp_path: Path) -> None:
    """`W + s B A` would be another model: the base without its first factors is what it stands on."""
    base = write_base(tmp_path / "base", tie_word_embeddings=False)
    theirs = adapted(base, target_modules=["q_proj", "down_proj"], init_lora_weights=start)
    theirs.save_pretrained(tmp_path / "a")
    assert read_stack(tmp_path / "a") is None
    assert not torch.allclose(logits(theirs), logits(load_model(base)), atol=1e-2)
    check_everywhere(tmp_path / "a", logits(theirs), tmp_path)
    with pytest.raises(ModelError, match=r"more than plain LoRA(.|\n)*sacpo export"):
        merge_checkpoints([base, tmp_path / "a"], [[0.5, 0.5]], [tmp_path / "out"])


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"trainable_token_indices": [5, 6]}, "shares its weights"),
        ({"layer_replication": [(0, 2), (0, 2)]}, "shares its weights"),
        ({"lora_bias": True}, "add a bias to a module that has none"),
    ],
)
def test_what_peft_loads_and_cannot_merge_is_used_and_its_export_refused(
    options: dict[str, Any], why: str, tmp_path: Path
) -> None:
    base = write_base(tmp_path / "base", tie_word_embeddings=True)
    made = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base),
        LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"], init_lora_weights=False, **options),
    )
    made.save_pretrained(tmp_path / "a")
    torch.testing.assert_close(logits(load_model(tmp_path / "a")), logits(made))
    assert not torch.allclose(logits(made), logits(load_model(base)), atol=1e-2)
    with pytest.raises(ModelError, match=why):
        load_model(tmp_path / "a", adapters="merged")
    with pytest.raises(ModelError, match=why):
        write_merged(stack_of(tmp_path / "a"), tmp_path / "out")


def test_a_converted_adapter_is_plain(tmp_path: Path) -> None:
    """peft's `path_initial_model_for_weight_conversion` makes plain LoRA of twice the rank."""
    base = write_base(tmp_path / "base", tie_word_embeddings=False)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base),
        LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"], init_lora_weights="pissa_niter_2"),
    )
    model.peft_config["default"].init_lora_weights = True  # as peft's documentation says, before the first save
    model.save_pretrained(tmp_path / "first")
    model.peft_config["default"].init_lora_weights = "pissa_niter_2"
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.add_(0.1)
    model.save_pretrained(tmp_path / "a", path_initial_model_for_weight_conversion=str(tmp_path / "first"))
    stack = read_stack(tmp_path / "a")
    assert stack is not None and len(stack.members) == 1
    assert not torch.allclose(logits(model), logits(load_model(base)), atol=1e-2)
    check_everywhere(tmp_path / "a", logits(model), tmp_path)


@pytest.mark.parametrize("start", ["pissa_niter_4", "corda", "lora_ga"])
def test_an_adapter_whose_base_cannot_be_made_again_says_how_to_save_it(start: str, tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", tie_word_embeddings=False)
    adapted(base, target_modules=["q_proj"]).save_pretrained(tmp_path / "a")
    settings(tmp_path / "a", init_lora_weights=start)
    for call in (load_model, lambda folder: write_merged(stack_of(folder), tmp_path / "out")):
        with pytest.raises(
            ModelError, match=rf"init_lora_weights: {start}(.|\n)*path_initial_model_for_weight"
        ) as caught:
            call(tmp_path / "a")
        assert "sacpo export" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", [None, "", 3])
def test_a_base_that_is_not_named_is_asked_for_by_key_and_file(value: Any, tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    adapted(base, target_modules=["q_proj"]).save_pretrained(tmp_path / "a")
    settings(tmp_path / "a", base_model_name_or_path=value)
    for call in (load_model, load_tokenizer, weights_key, read_stack):
        with pytest.raises(ModelError, match=r"does not name the model(.|\n)*adapter_config.json(.|\n)*hub id"):
            call(tmp_path / "a")
    settings(tmp_path / "a", base_model_name_or_path=str(tmp_path / "gone"))
    with pytest.raises(ModelError, match=r"is not there(.|\n)*adapter_config.json(.|\n)*gone"):
        load_model(tmp_path / "a")
    settings(tmp_path / "a", base_model_name_or_path=str(base))
    assert load_model(tmp_path / "a") is not None


def test_adapters_that_stand_on_each_other_are_refused(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    for name in "ab":
        adapted(base, target_modules=["q_proj"]).save_pretrained(tmp_path / name)
    settings(tmp_path / "a", base_model_name_or_path=str(tmp_path / "b"))
    settings(tmp_path / "b", base_model_name_or_path=str(tmp_path / "a"), use_dora=True)
    for call in (load_model, load_tokenizer, weights_key):
        with pytest.raises(ModelError, match="stand on each other"):
            call(tmp_path / "a")


@pytest.mark.parametrize("options", [{}, {"use_dora": True}])
def test_an_adapters_pickle_is_never_opened(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = write_base(tmp_path / "base")
    adapted(base, target_modules=["q_proj"], **options).save_pretrained(tmp_path / "a", safe_serialization=False)
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: pytest.fail("a pickle was opened"))
    with pytest.raises(ModelError, match=r"are pickles(.|\n)*adapter_model.bin"):
        load_model(tmp_path / "a")
    shutil.copy(base / "config.json", tmp_path / "a")
    with pytest.raises(ModelError, match=r"are pickles(.|\n)*adapter_model.bin"):
        load_model(tmp_path / "a")


def test_an_adapter_beside_a_config_is_an_adapter_and_beside_weights_is_refused(tmp_path: Path) -> None:
    """Some trainers write the base's config.json beside an adapter."""
    base = write_base(tmp_path / "base")
    theirs = adapted(base, target_modules=["q_proj"])
    theirs.save_pretrained(tmp_path / "a")
    shutil.copy(base / "config.json", tmp_path / "a")
    torch.testing.assert_close(logits(load_model(tmp_path / "a")), logits(theirs))
    shutil.copy(base / "model.safetensors", tmp_path / "a")
    with pytest.raises(ModelError, match="a whole model and an adapter"):
        load_model(tmp_path / "a")


def test_a_prompt_that_was_tuned_is_no_change_of_weights(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(tmp_path / "a")
    with pytest.raises(ModelError, match=r"no change of weights(.|\n)*PROMPT_TUNING"):
        load_model(tmp_path / "a")


def test_defaults_and_patterns_of_peft_are_understood(tmp_path: Path) -> None:
    """A configuration without lora_alpha means peft's 8."""
    base = write_base(tmp_path / "base", tie_word_embeddings=False)
    options = {"rank_pattern": {"v_proj": 3}, "alpha_pattern": {"layers.1.self_attn.v_proj": 5}, "use_rslora": True}
    theirs = adapted(base, target_modules=["q_proj", "v_proj"], lora_alpha=8, **options)
    theirs.save_pretrained(tmp_path / "a")
    path = tmp_path / "a/adapter_config.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "lora_alpha"}))
    check_everywhere(tmp_path / "a", logits(theirs), tmp_path)
    settings(tmp_path / "a", lora_alpha="much")
    with pytest.raises(ModelError):
        load_model(tmp_path / "a")
    with pytest.raises(ModelError, match="lora_alpha is no number"):
        write_merged(stack_of(tmp_path / "a"), tmp_path / "out")


def test_files_without_the_models_prefix_take_an_adapter(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", "gpt2")
    theirs = adapted(base, target_modules=["c_attn"])
    theirs.save_pretrained(tmp_path / "a")
    tensors = {
        name.removeprefix("transformer."): t.clone() for name, t in load_file(base / "model.safetensors").items()
    }
    save_file(tensors, base / "model.safetensors", {"format": "pt"})
    check_everywhere(tmp_path / "a", logits(theirs), tmp_path)
    assert math.isfinite(float(logits(load_model(base)).sum()))


def test_a_dtype_that_is_none_is_refused(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    with pytest.raises(ModelError, match=r"no dtype(.|\n)*'float99'(.|\n)*bfloat16"):
        load_model(base, dtype="float99")
