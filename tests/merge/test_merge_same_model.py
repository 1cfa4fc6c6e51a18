"""A base and what was trained from it are one model, however their files are written; other models are not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import WORDS, word_tokenizer
from merge_tools import stored
from safetensors.torch import save_file
from tiny_models import tiny
from transformers import AutoModelForCausalLM

from sacpo.errors import ModelError, RecipeError
from sacpo.merge import check_ahead, linear, merge_checkpoints, merged_model, tabulate

Make = Callable[..., Path]
IDS = torch.tensor([[3, 4, 5, 6, 3, 5]])


def merge(first: Path, later: Path, q: float = 0.25, **options: Any) -> Path:
    terms, rows = tabulate([linear([first, later], (1 - q, q))])
    out = first.parent / f"merged-{q}"
    merge_checkpoints(terms, rows, [out], **options)
    return out


def settings(folder: Path, *gone: str, **changes: Any) -> dict[str, Any]:
    """Rewrite keys of a folder's config.json; return what it was."""
    path = folder / "config.json"
    before: dict[str, Any] = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in before.items() if key not in gone} | changes))
    return before


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    save_file(change(stored(folder)), folder / "model.safetensors", {"format": "pt"})


def of_release_4(folder: Path) -> None:
    """Write a config.json as transformers 4 wrote it: rope's base by itself, no layer types, torch_dtype."""
    before = settings(folder)
    rope = before["rope_parameters"]
    own = {"rope_theta": rope["rope_theta"], "rope_scaling": None}
    if before["model_type"] == "gpt_neox":
        own = {"rotary_emb_base": rope["rope_theta"], "rotary_pct": rope["partial_rotary_factor"]}
    if before["model_type"] == "phi":
        own |= {"partial_rotary_factor": rope["partial_rotary_factor"]}
    new = {"torch_dtype": before["dtype"], "transformers_version": "4.41.2", "_name_or_path": "somewhere", **own}
    settings(folder, "rope_parameters", "layer_types", "dtype", **new)


@pytest.mark.parametrize("kind", ["llama", "gpt_neox", "mistral", "phi", "qwen3", "stablelm", "gemma2"])
def test_a_configuration_of_an_older_release_is_the_same_model(kind: str, tmp_path: Path) -> None:
    """The merged model's logits are those of the averaged weights: 3/4 of the base, 1/4 of its descendant."""
    base, later = tiny(kind, seed=1), tiny(kind, seed=2)
    base.save_pretrained(tmp_path / "base")
    later.save_pretrained(tmp_path / "later")
    of_release_4(tmp_path / "base")
    found = AutoModelForCausalLM.from_pretrained(merge(tmp_path / "base", tmp_path / "later")).eval()
    with torch.no_grad():
        for name, weight in later.named_parameters():
            weight.copy_(0.75 * base.get_parameter(name) + 0.25 * weight)
        torch.testing.assert_close(found(IDS).logits, later(IDS).logits)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rope_theta": 500000.0}, "rope_parameters"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 4.0}}, "rope_parameters"),
        ({"rms_norm_eps": 1e-3}, "rms_norm_eps"),
        ({"attention_bias": True}, "attention_bias"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantization_config"),
    ],
)
def test_settings_that_change_the_computation_are_refused_by_name(
    checkpoint: Make, changes: dict[str, Any], said: str
) -> None:
    a, b = checkpoint("a", 1), checkpoint("b", 2)
    of_release_4(a)
    settings(a, **changes)
    with pytest.raises(ModelError, match=rf"different configurations(.|\n)*value: .*{said}: "):
        merge(a, b)


def test_settings_that_nothing_is_computed_from_may_differ(checkpoint: Make) -> None:
    a, b = checkpoint("a", 1), checkpoint("b", 2)
    settings(a, "architectures", unsloth_version="2025.1", max_position_embeddings=99, attention_dropout=0.1)
    settings(b, id2label={"0": "x", "1": "y"}, label2id={"x": 0, "y": 1})
    assert merge(a, b).is_dir()
    for folder in (a, b):
        settings(folder, rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0})
    with pytest.raises(ModelError, match="max_position_embeddings: 99 and "):  # of which that rope makes something
        merge(a, b)


BUFFERS = {
    "model.layers.0.self_attn.rotary_emb.inv_freq": torch.tensor([1.0, 0.01]),
    "model.layers.1.self_attn.masked_bias": torch.tensor(-1e9),
}


def test_tensors_that_the_model_computes_are_no_difference(checkpoint: Make) -> None:
    """In the first model they are left out; in the later one they are copied, and not averaged."""
    a, b = checkpoint("a", 1), checkpoint("b", 2)
    plain = stored(merge(a, b, 0.5))
    for old in (a, b):
        rewrite(old, lambda tensors: tensors | BUFFERS)
        found = stored(merge(a, b, 0.5))
        assert {*found} - {*plain} == ({*BUFFERS} if old is b else set())
        assert all(torch.equal(found[name], plain[name]) for name in plain)
        assert all(torch.equal(found[name], BUFFERS[name]) for name in found.keys() - plain.keys())
        rewrite(old, lambda tensors: {name: t for name, t in tensors.items() if name not in BUFFERS})
    rewrite(a, lambda tensors: tensors | {"model.layers.0.extra.weight": torch.ones(3)})
    with pytest.raises(ModelError, match=r"only one of the models(.|\n)*extra.weight, only in .*a"):
        merge(a, b)


def test_gpt_neox_masks_are_no_difference(tmp_path: Path) -> None:
    for seed, name in enumerate(("base", "later")):
        tiny("gpt_neox", seed=seed).save_pretrained(tmp_path / name)
    masks = {"gpt_neox.layers.0.attention.bias": torch.ones(1, 1, 4, 4, dtype=torch.uint8)}
    rewrite(tmp_path / "base", lambda tensors: tensors | masks)
    found = stored(merge(tmp_path / "base", tmp_path / "later"))
    assert not found.keys() & masks.keys()


@pytest.mark.parametrize("holder", ["a", "b"])
def test_a_stored_head_of_tied_embeddings_is_the_embedding(checkpoint: Make, holder: str) -> None:
    a, b = (checkpoint(name, seed, tie_word_embeddings=True) for name, seed in (("a", 1), ("b", 2)))
    plain = stored(merge(a, b, 0.5))
    own = a if holder == "a" else b
    rewrite(own, lambda tensors: tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()})
    out = merge(a, b, 0.5)
    found = stored(out)
    assert ("lm_head.weight" in found) is (holder == "b")
    assert all(torch.equal(found[name], plain[name]) for name in plain)
    assert torch.equal(
        found.get("lm_head.weight", plain["model.embed_tokens.weight"]), plain["model.embed_tokens.weight"]
    )
    model = AutoModelForCausalLM.from_pretrained(out)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    rewrite(own, lambda tensors: tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"] + 1})
    with pytest.raises(ModelError, match=r"only one of the models(.|\n)*lm_head.weight, only in "):
        merge(a, b)  # transformers ties no head that has values of its own


def test_names_without_the_models_prefix_are_the_same_tensors(checkpoint: Make) -> None:
    """As the files of gpt2 on the hub are written."""
    a, b = (checkpoint(name, seed, tie_word_embeddings=True) for name, seed in (("a", 1), ("b", 2)))
    plain = stored(merge(a, b))
    rewrite(a, lambda tensors: {name.removeprefix("model."): tensor for name, tensor in tensors.items()})
    found = stored(merge(a, b))
    assert found.keys() == plain.keys()
    assert all(torch.equal(found[name], plain[name]) for name in plain)


@pytest.mark.parametrize("first", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("dtype", [None, "float32", "bfloat16", "float16"])
def test_dtypes_may_differ_and_sums_run_in_float32(checkpoint: Make, first: torch.dtype, dtype: str | None) -> None:
    """Half a unit in the last place of what is written, beside the float32 sum's own error."""
    a, b = checkpoint("a", 1, dtype=first), checkpoint("b", 2, dtype=torch.float32)
    out = merge(a, b, 0.3, dtype=dtype)
    written = getattr(torch, dtype or "float32")
    ours, theirs = stored(a), stored(b)
    for name, tensor in stored(out).items():
        exact = 0.7 * ours[name].double() + 0.3 * theirs[name].double()
        assert tensor.dtype == written
        bound = torch.finfo(written).eps / 2 * exact.abs() + 2e-7 * (ours[name].abs() + theirs[name].abs())
        assert bool(((tensor.double() - exact).abs() <= bound).all()), name
    assert json.loads((out / "config.json").read_text())["dtype"] == str(written).removeprefix("torch.")
    assert AutoModelForCausalLM.from_pretrained(out, dtype="auto").dtype == written


def test_a_later_model_in_16_bits_is_merged_in_16_bits_in_memory_too(checkpoint: Make) -> None:
    a, b = checkpoint("a", 1), checkpoint("b", 2, dtype=torch.bfloat16, shard="4KB")
    written, made = stored(merge(a, b, 0.3)), merged_model([a, b], [0.7, 0.3])
    assert made.dtype == torch.bfloat16
    assert all(torch.equal(made.state_dict()[name], tensor) for name, tensor in written.items())
    wide = merge(a, b, 0.6, dtype="float32")
    index = json.loads((wide / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(t.numel() * 4 for t in stored(wide).values())
    with pytest.raises(RecipeError, match=r"no such dtype(.|\n)*int8(.|\n)*bfloat16"):
        merge(a, b, dtype="int8")


def test_a_token_that_was_added_at_a_free_number_is_no_difference(checkpoint: Make) -> None:
    a, b = checkpoint("a", 1), checkpoint("b", 2)
    word_tokenizer((*WORDS, "<added>")).save_pretrained(b)
    assert merge(a, b).is_dir()
    word_tokenizer((*WORDS, "<added>")).save_pretrained(a)
    word_tokenizer((*WORDS, "<other>")).save_pretrained(b)
    with pytest.raises(ModelError, match=r"differ in 2 tokens(.|\n)*'<added>' \(7 and None\)"):
        merge(a, b)


def test_what_could_not_be_merged_is_found_from_headers_ahead(checkpoint: Make) -> None:
    a, b = checkpoint("a", 1, dtype=torch.float16), checkpoint("b", 2, intermediate_size=24)
    of_release_4(a)
    rewrite(a, lambda tensors: tensors | BUFFERS)
    check_ahead([a])
    check_ahead(["an-owner/not-in-the-cache", a])
    with pytest.raises(ModelError, match="intermediate_size: 20 and 24"):
        check_ahead([a, b])
    for name, tensor, said in (
        ("lm_head.weight", torch.ones(24, 16, dtype=torch.int32), r"lm_head.weight: I32"),
        ("model.norm.weight", torch.ones(17), r"model.norm.weight: F32 \[17\]"),
        ("v_head.weight", torch.ones(1, 16), "v_head.weight"),
    ):
        before = stored(a)
        save_file({**before, name: tensor}, a / "model.safetensors", {"format": "pt"})
        with pytest.raises(ModelError, match=rf"could not be merged(.|\n)*{said}"):
            check_ahead([a])
        save_file(before, a / "model.safetensors", {"format": "pt"})
