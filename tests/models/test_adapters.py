"""Stacks of adapters: scaling and merging them exactly, one adapter of concatenated rank, merged weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from tiny_models import tiny
from transformers import AutoModelForCausalLM

from sacpo.errors import ModelError
from sacpo.merge import merge_checkpoints, merged_model, write_merged
from sacpo.models.adapters.factors import factors_of, write_adapter, write_stack
from sacpo.models.adapters.stack import Member, Stack, adapter_key, blend, read_stack, stack_of
from sacpo.models.loading import load_model

IDS = torch.tensor([[5, 6, 7, 8, 9, 10, 11]])
ADAPTERS: dict[str, tuple[dict[str, Any], ...]] = {
    "llama": (
        {"r": 4, "lora_alpha": 12, "target_modules": ["q_proj", "down_proj", "embed_tokens"]},
        {"r": 2, "lora_alpha": 3, "use_rslora": True, "target_modules": ["q_proj", "v_proj", "lm_head"]},
        {
            "r": 3,
            "lora_alpha": 5,
            "target_modules": "all-linear",
            "alpha_pattern": {"v_proj": 7},
            "rank_pattern": {"k_proj": 1},
        },
    ),
    "gpt_neox": (
        {"r": 4, "lora_alpha": 12, "target_modules": ["query_key_value", "dense"]},
        {"r": 2, "lora_alpha": 3, "target_modules": ["query_key_value", "dense_4h_to_h"]},
        {"r": 1, "lora_alpha": 1, "target_modules": "all-linear"},
    ),
    "gpt2": (
        {"r": 4, "lora_alpha": 12, "target_modules": ["c_attn", "c_proj"]},
        {"r": 2, "lora_alpha": 3, "target_modules": ["c_attn", "c_fc"]},
        {"r": 1, "lora_alpha": 1, "target_modules": ["c_fc"]},
    ),
}  # gpt2's layers store (in, out)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(IDS).logits
    return found


def write_member(base: Path, folder: Path, seed: int, **options: Any) -> Member:
    """Write an adapter whose factors are drawn at random."""
    torch.manual_seed(seed)
    config = LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, **options)
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(
        folder, save_embedding_layers=False
    )
    return Member(folder, adapter_key(folder))


@pytest.fixture(scope="module", params=[*ADAPTERS])
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """A base with three adapters of different rank, scale and modules, each on the base."""
    folder = tmp_path_factory.mktemp(request.param)
    changes = {"tie_word_embeddings": False} if request.param != "gpt2" else {}
    tiny(request.param, **changes).save_pretrained(folder / "base")
    members = [
        write_member(folder / "base", folder / f"a{i}", i, **options)
        for i, options in enumerate(ADAPTERS[request.param])
    ]
    return Stack(str(folder / "base"), members=tuple(members))


def weighted(stack: Stack, *weights: float) -> Stack:
    members = zip(stack.members, weights, strict=False)
    return Stack(stack.base, members=tuple(Member(m.folder, m.key, weight) for m, weight in members))


def dense(stack: Stack) -> dict[str, torch.Tensor]:
    """The weights with each adapter's change by peft's own merging, weighted, in float64."""
    plain = {name: tensor.double() for name, tensor in load_file(Path(stack.base) / "model.safetensors").items()}
    total = dict(plain)
    for member in stack.members:
        model = AutoModelForCausalLM.from_pretrained(stack.base).double()
        own = PeftModel.from_pretrained(model, member.folder, autocast_adapter_dtype=False).double()
        for name, tensor in own.merge_and_unload().state_dict().items():
            if name in total:
                total[name] = total[name] + member.weight * (tensor - plain[name])
    return total


def test_one_adapter_of_concatenated_rank_has_the_stacks_logits_in_peft(stack: Stack, tmp_path: Path) -> None:
    """Three adapters with weights 1, 0.5 and -0.25: peft's loader on the original base, against float64 weights."""
    given = weighted(stack, 1.0, 0.5, -0.25)
    write_adapter(factors_of(given), tmp_path / "one", given.base)
    config = json.loads((tmp_path / "one" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["rank_pattern"]) == (config["r"], config["r"], {})
    assert config["target_modules"] == sorted(config["target_modules"])
    one = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(stack.base), tmp_path / "one")
    exact = AutoModelForCausalLM.from_pretrained(stack.base).double()
    exact.load_state_dict(dense(given), strict=False)
    wanted = logits(exact).float()
    close = {"rtol": 1e-4, "atol": 1e-4 * float(wanted.abs().max())}
    torch.testing.assert_close(logits(one), wanted, **close)
    write_stack(given, tmp_path / "stack")
    torch.testing.assert_close(logits(load_model(tmp_path / "stack")), wanted, **close)
    assert (logits(AutoModelForCausalLM.from_pretrained(stack.base)) - wanted).abs().max() > 0.1 * wanted.abs().max()


def test_merged_weights_are_those_of_float64_rounded_once(stack: Stack, tmp_path: Path) -> None:
    given = weighted(stack, 1.0, 0.5, -0.25)
    write_merged(given, tmp_path / "merged")
    written, exact = load_file(tmp_path / "merged" / "model.safetensors"), dense(given)
    assert written.keys() == load_file(Path(stack.base) / "model.safetensors").keys()
    for name, tensor in written.items():
        torch.testing.assert_close(tensor.double(), exact[name], rtol=2e-6, atol=2e-6 * float(exact[name].abs().max()))
    standard = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    wanted = logits(merged_model([_written(given, tmp_path / "stack")], [1.0]))
    assert torch.equal(logits(standard), wanted)


@pytest.mark.parametrize("q", [0.0, 0.3, 1.0])
def test_scaling_the_last_adapter_is_the_dense_merge(stack: Stack, q: float, tmp_path: Path) -> None:
    """`(1 - q) (W + D1) + q (W + D1 + D2)` of written checkpoints, and `W + D1 + q D2`: equal to rounding."""
    first, later = weighted(stack, 1.0), weighted(stack, 1.0, 1.0)
    blended = blend([first, later], (1 - q, q))
    assert blended is not None
    assert [member.weight for member in blended.members] == ([1.0, q] if q else [1.0])
    for name, model in (("first", first), ("later", later), ("blended", blended)):
        write_merged(model, tmp_path / name)
    merge_checkpoints([tmp_path / "first", tmp_path / "later"], [[1 - q, q]], [tmp_path / "dense"])
    scaled, linear = (load_file(tmp_path / name / "model.safetensors") for name in ("blended", "dense"))
    for name, tensor in linear.items():
        torch.testing.assert_close(scaled[name], tensor, rtol=0, atol=3e-7 * float(tensor.abs().max()))
    wanted = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "dense"))
    found = logits(load_model(_written(blended, tmp_path / "stack")))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))
    if q in (0.0, 1.0):
        end = "first" if q == 0 else "later"
        assert (tmp_path / "blended/model.safetensors").read_bytes() == (
            tmp_path / end / "model.safetensors"
        ).read_bytes()


def test_adapters_and_weights_of_their_own_merge_densely(stack: Stack, tmp_path: Path) -> None:
    """A model of the same architecture with other weights, and a folder of adapters: as if it had been exported."""
    write_merged(weighted(stack, 0.5, -1.0), tmp_path / "other")
    given = weighted(stack, 1.0, 1.0)
    write_merged(given, tmp_path / "exported")
    for name, end in (("mixed", _written(given, tmp_path / "stack")), ("dense", tmp_path / "exported")):
        merge_checkpoints([tmp_path / "other", end], [[0.25, 0.75]], [tmp_path / name])
    mixed, dense_files = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("mixed", "dense"))
    assert mixed == dense_files


def _written(stack: Stack, folder: Path) -> Path:
    write_stack(stack, folder)
    return folder


@given(q=st.floats(0, 1), scale=st.floats(0.1, 3))
def test_blends_weigh_every_adapter_as_the_formula_says(q: float, scale: float) -> None:
    """A = {a: 1, b: 1}, B = {a: 1, c: 1} and their origin {a: 1}: a keeps weight 1 exactly, whatever q."""
    a, b, c = (Member(Path(name), name) for name in "abc")
    A, B, origin = Stack("x/y", members=(a, b)), Stack("x/y", members=(a, c)), Stack("x/y", members=(a,))

    def weights(found: Stack | None) -> dict[str, float]:
        assert found is not None
        return {member.key: member.weight for member in found.members}

    naive = weights(blend([A, B], (1 - q, q)))
    assert naive["a"] == 1.0
    assert naive.get("b", 0.0) == pytest.approx(1 - q)
    assert naive.get("c", 0.0) == pytest.approx(q)
    added = weights(blend([A, B], (1 - q, q), origin, scale))
    assert (added["a"], added["b"]) == (1.0, 1.0)
    assert added.get("c", 0.0) == pytest.approx(q * scale)
    assert blend([A, Stack("x/z", members=(a,))], (1 - q, q)) is None


def test_three_stacks_blend_with_weights_of_the_simplex() -> None:
    """{a: 1}, {a: 1, b: 2} and {a: 1, c: 1} with .5, .3, .2: a 1, b .6, c .2; as changes of {} with scale 2: a 2."""
    a, b, c = Member(Path("a"), "a"), Member(Path("b"), "b", 2.0), Member(Path("c"), "c")
    models = [Stack("x/y", members=members) for members in ((a,), (a, b), (a, c))]
    mean, added = blend(models, (0.5, 0.3, 0.2)), blend(models, (0.5, 0.3, 0.2), Stack("x/y"), 2.0)
    assert mean is not None and added is not None
    assert {m.key: m.weight for m in mean.members} == pytest.approx({"a": 1.0, "b": 0.6, "c": 0.2})
    assert {m.key: m.weight for m in added.members} == pytest.approx({"a": 2.0, "b": 1.2, "c": 0.4})


def test_a_blend_of_a_base_and_its_adapter_at_zero_is_the_base(stack: Stack, tmp_path: Path) -> None:
    zero = blend([Stack(stack.base), weighted(stack, 1.0)], (1.0, 0.0))
    assert zero is not None
    found = logits(load_model(_written(zero, tmp_path / "zero")))
    assert torch.equal(found, logits(AutoModelForCausalLM.from_pretrained(stack.base)))


def test_a_folder_of_pefts_is_a_stack_of_one(stack: Stack) -> None:
    """What TRL or peft wrote is a model to start from."""
    folder = stack.members[0].folder
    found = read_stack(folder)
    assert found is not None
    assert (found.base, found.members) == (stack.base, (stack.members[0],))
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(stack.base), folder)
    assert torch.equal(logits(load_model(folder)), logits(theirs))
    assert stack_of(stack.base) == Stack(stack.base)


@pytest.mark.parametrize("options", [{"use_dora": True}, {"bias": "all"}, {"modules_to_save": ["embed_out"]}])
def test_what_is_more_than_plain_lora_is_not_scaled_but_merged(options: dict[str, Any], tmp_path: Path) -> None:
    tiny("gpt_neox").save_pretrained(tmp_path / "base")
    member = write_member(tmp_path / "base", tmp_path / "a", 0, r=2, target_modules=["dense"], **options)
    assert read_stack(member.folder) is None
    with pytest.raises(ModelError, match="more than plain LoRA") as caught:
        factors_of(Stack(str(tmp_path / "base"), members=(member,)))
    assert next(iter(options)) in str(caught.value.value)
    with pytest.raises(ModelError, match="more than plain LoRA"):
        merge_checkpoints([tmp_path / "base", member.folder], [[0.5, 0.5]], [tmp_path / "out"])
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), member.folder)
    ours = logits(load_model(member.folder))
    torch.testing.assert_close(ours, logits(theirs.merge_and_unload()), rtol=0, atol=1e-5)


def test_a_corrupted_or_foreign_adapter_is_refused(stack: Stack, tmp_path: Path) -> None:
    folder = _written(weighted(stack, 1.0, 1.0), tmp_path / "stack")
    weights = folder / "adapters/2/adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    with pytest.raises(ModelError, match="corrupted"):
        load_model(folder)
    tiny("opt").save_pretrained(tmp_path / "other")
    with pytest.raises(ModelError, match="does not fit"):
        load_model(_written(Stack(str(tmp_path / "other"), members=stack.members[:1]), tmp_path / "wrong"))


def test_adapters_of_tied_embeddings_are_not_merged(tmp_path: Path) -> None:
    """Merged, they would change the head too: used as they are they do not."""
    tiny("gpt2").save_pretrained(tmp_path / "base")
    member = write_member(tmp_path / "base", tmp_path / "a", 0, r=2, target_modules=["wte"])
    stack = Stack(str(tmp_path / "base"), members=(member,))
    with pytest.raises(ModelError, match="shares its weights") as caught:
        write_merged(stack, tmp_path / "out")
    assert "wte" in str(caught.value.value)
    with pytest.raises(ModelError, match="shares its weights"):
        load_model(member.folder, adapters="merged")
    assert not torch.equal(logits(load_model(member.folder)), logits(load_model(tmp_path / "base")))
