"""LoRA steps: a new adapter on frozen ones, whose reference is the same weights with the new adapter off."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from align_toys import job, step, toy_pairs, write_base
from peft import AutoPeftModelForCausalLM
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM

import sacpo.align.adapters as adapters_module
import sacpo.align.step as step_module
from sacpo.align.adapters import adapter_off, initial_policy
from sacpo.align.reward_model import train_reward_model
from sacpo.align.step import run_align
from sacpo.errors import MachineError, ModelError, RecipeError
from sacpo.models.adapters.loading import NEW
from sacpo.models.adapters.stack import read_stack
from sacpo.models.loading import load_model, weights_key
from sacpo.recipe.schema import BaseSpec, LoraSpec, QuantizationSpec

FIRST = LoraSpec(r=4, lora_alpha=8)
IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])


def second(config: dict[str, Any]) -> LoraSpec:
    """Another rank, scale and choice of modules than the first step's."""
    modules = ["query_key_value", "dense_4h_to_h"] if config else ["q_proj", "down_proj"]
    return LoraSpec(r=2, lora_alpha=3, use_rslora=True, target_modules=modules)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(IDS).logits
    return found


@pytest.fixture(scope="module", params=["llama", "gpt_neox"])
def steps(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with base/, and H/ and HS/ of two LoRA steps, of which the second starts from the first's model."""
    folder = tmp_path_factory.mktemp(request.param)
    config = {} if request.param == "llama" else {"model_type": request.param}
    base = write_base(folder / "base", **config)
    before = digest(base)
    run_align(job(base, lora=FIRST), step(), 0.5, toy_pairs(48), folder / "H", folder / "c")
    start = job(folder / "H" / "model", lora=second(config))
    run_align(start, step(), 0.5, toy_pairs(48, seed=3), folder / "HS", folder / "c")
    assert digest(base) == before
    return folder


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def models(folder: Path) -> tuple[Path, Path, Path]:
    return folder / "base", folder / "H" / "model", folder / "HS" / "model"


def test_two_steps_stack_on_a_base_that_stays_as_it_is(steps: Path) -> None:
    base, H, HS = models(steps)
    for name in ("H", "HS"):
        summary = json.loads((steps / name / "summary.json").read_text())
        assert summary["first_loss"] == pytest.approx(math.log(2), abs=1e-6)
        assert summary["last_loss"] < math.log(2) - 1e-4
    found = read_stack(HS)
    assert found is not None
    assert Path(found.base).samefile(base)
    assert [member.folder for member in found.members] == [HS / "adapters/1", HS / "adapters/2"]
    ours, theirs = ((folder / "adapter_model.safetensors").read_bytes() for folder in (H, HS / "adapters/1"))
    assert ours == theirs
    assert not list((steps / "HS").rglob("model.safetensors"))
    plain, first, both = (logits(load_model(path)) for path in (base, H, HS))
    assert min((plain - first).abs().max(), (first - both).abs().max()) > 1e-4
    assert torch.equal(logits(load_model(HS, adapters="off")), plain)
    torch.testing.assert_close(logits(load_model(HS, adapters="merged")), both, rtol=0, atol=1e-6)


def test_every_models_folder_loads_in_peft_and_transformers(steps: Path) -> None:
    """Ranks 4 and 2, another scale and other modules become one adapter of rank 6 in the folder itself."""
    _, H, HS = models(steps)
    for path, rank in ((H, 4), (HS, 6)):
        peft_model = AutoPeftModelForCausalLM.from_pretrained(path)
        assert peft_model.peft_config["default"].r == rank
        own = logits(load_model(path))
        torch.testing.assert_close(logits(peft_model), own, rtol=0, atol=1e-6)
        torch.testing.assert_close(logits(AutoModelForCausalLM.from_pretrained(path)), own, rtol=0, atol=1e-6)


def test_the_second_steps_reference_is_the_new_adapter_off(tmp_path: Path) -> None:
    """With the new adapter's factors drawn at random, off gives the first step's model bit for bit and on does not.

    Frozen adapters are not dropped while training, whatever their own training did.
    """
    base = write_base(tmp_path / "base")
    dropped = LoraSpec(r=4, lora_alpha=8, lora_dropout=0.5)
    run_align(job(base, lora=dropped), step(), 0.5, toy_pairs(32), tmp_path / "H", tmp_path / "c")
    H = tmp_path / "H" / "model"
    policy = initial_policy(job(H, lora=FIRST))
    assert torch.equal(logits(policy.train()), logits(load_model(H)))
    policy.eval()
    trained = [name for name, parameter in policy.named_parameters() if parameter.requires_grad]
    assert trained
    assert all(f".{NEW}." in name for name in trained)
    assert torch.equal(logits(policy), logits(load_model(H)))
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if name in trained:
                parameter.normal_()
    with adapter_off(policy):
        assert torch.equal(logits(policy), logits(load_model(H)))
        assert not [name for name, parameter in policy.named_parameters() if parameter.requires_grad]
    assert (logits(policy) - logits(load_model(H))).abs().max() > 1e-2
    assert [name for name, parameter in policy.named_parameters() if parameter.requires_grad] == trained


def test_training_moves_the_new_adapter_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Base and first adapter in memory equal the files bit for bit after the second step's updates."""
    base = write_base(tmp_path / "base")
    run_align(job(base, lora=FIRST), step(), 0.5, toy_pairs(32), tmp_path / "H", tmp_path / "c")
    H = tmp_path / "H" / "model"
    seen: dict[str, torch.Tensor] = {}
    write = adapters_module.write_policy

    def looked_at(model: nn.Module, *args: Any) -> None:
        seen.update({name: parameter.detach().clone() for name, parameter in model.named_parameters()})
        write(model, *args)

    monkeypatch.setattr("sacpo.align.outcome.write_policy", looked_at)
    run_align(job(H, lora=FIRST), step(), 0.5, toy_pairs(32), tmp_path / "HS", tmp_path / "c")
    stored = load_file(base / "model.safetensors")
    names = {name.removeprefix("base_model.model.").replace(".base_layer.", "."): name for name in seen}
    assert stored.keys() <= names.keys()
    assert all(torch.equal(tensor, seen[names[name]]) for name, tensor in stored.items())
    first = load_file(H / "adapter_model.safetensors")
    old = {name: value for name, value in seen.items() if ".lora_" in name and f".{NEW}." not in name}
    assert len(old) == len(first)
    for name, tensor in old.items():
        module, side = name.split(".adapter-")[0], name.rsplit(".", 1)[-1]
        assert torch.equal(tensor, first[f"{module}.{side}"])


@pytest.mark.parametrize(
    "options",
    [{"use_dora": True}, {"bias": "lora_only"}, {"modules_to_save": ["lm_head"]}],
    ids=["dora", "bias", "modules_to_save"],
)
def test_more_than_plain_lora_is_written_merged(options: dict[str, Any], tmp_path: Path) -> None:
    """Also on a step's adapter; the next plain step stands on the merged weights."""
    base = write_base(tmp_path / "base", model_type="gpt_neox") if "bias" in options else write_base(tmp_path / "base")
    run_align(job(base, lora=FIRST), step(), 0.5, toy_pairs(16), tmp_path / "H", tmp_path / "c")
    start = job(tmp_path / "H" / "model", lora=LoraSpec(r=4, **options))
    summary = run_align(start, step(), 0.5, toy_pairs(32), tmp_path / "D", tmp_path / "c")
    assert summary["first_loss"] == pytest.approx(math.log(2), abs=1e-6)
    dense = tmp_path / "D" / "model"
    assert read_stack(dense) is None
    assert (dense / "model.safetensors").is_file()
    changed = logits(AutoModelForCausalLM.from_pretrained(dense)) - logits(load_model(tmp_path / "H" / "model"))
    assert changed.abs().max() > 1e-4
    run_align(job(dense, lora=FIRST), step(), 0.5, toy_pairs(16), tmp_path / "DS", tmp_path / "c")
    found = read_stack(tmp_path / "DS" / "model")
    assert found is not None
    assert Path(found.base).samefile(dense)


def test_all_weights_can_be_trained_from_adapters(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    run_align(job(base, lora=FIRST), step(), 0.5, toy_pairs(16), tmp_path / "H", tmp_path / "c")
    summary = run_align(job(tmp_path / "H" / "model"), step(), 0.5, toy_pairs(16), tmp_path / "S", tmp_path / "c")
    assert summary["first_loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert (tmp_path / "S" / "model" / "model.safetensors").is_file()


def test_models_on_one_base_have_keys_and_references_of_their_own(steps: Path) -> None:
    assert len({weights_key(path) for path in models(steps)}) == 3
    assert len(list((steps / "c").iterdir())) == 2


def test_another_base_in_the_old_ones_place_is_refused(steps: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(steps, moved)  # base and adapters together: they find each other
    base, _, HS = models(moved)
    assert weights_key(HS) == weights_key(steps / "HS" / "model")
    write_base(base, seed=5)
    with pytest.raises(ModelError, match="not the model that these adapters were trained on"):
        weights_key(HS)
    base.rename(tmp_path / "gone")
    with pytest.raises(ModelError, match="not where it was"):
        load_model(HS)


def test_lora_with_an_unknown_module_is_refused(base: Path, tmp_path: Path) -> None:
    start = job(base, lora=LoraSpec(target_modules=["nope"]))
    with pytest.raises(RecipeError, match="LoRA"):
        run_align(start, step(), 0.5, toy_pairs(8), tmp_path / "a", tmp_path / "c")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"modules_to_save": ["classifier"]}, r"matches no module(.|\n)*lora.modules_to_save(.|\n)*classifier"),
        ({"target_modules": ["q_proj", "qproj"]}, r"matches no module(.|\n)*lora.target_modules(.|\n)*'qproj'"),
        ({"target_modules": "q_proj["}, "peft refuses the LoRA options"),
    ],
)
def test_lora_options_of_which_nothing_would_come_are_refused(
    options: dict[str, Any], said: str, base: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=said):
        initial_policy(job(base, lora=LoraSpec(**options)))


def test_a_second_adapter_finds_its_modules_on_a_stack(steps: Path) -> None:
    """Names of modules that carry an adapter already are still names."""
    names = ["q_proj", "v_proj"] if "llama" in str(steps) else ["query_key_value", "dense"]
    assert initial_policy(job(steps / "H" / "model", lora=LoraSpec(target_modules=names))) is not None


def test_what_is_written_merged_is_refused_on_shared_weights_before_the_training(tmp_path: Path) -> None:
    tied = write_base(tmp_path / "tied", tie_word_embeddings=True)
    with pytest.raises(ModelError, match="shares its weights"):
        initial_policy(job(tied, lora=LoraSpec(use_dora=True, target_modules=["q_proj", "lm_head"])))


def test_a_quantised_base_needs_cuda_and_plain_lora(base: Path, tmp_path: Path) -> None:
    quantised = BaseSpec(model=str(base), template="plain", device="cpu", quantization=QuantizationSpec())
    for lora, error, said in (
        (FIRST, MachineError, "CUDA"),
        (None, RecipeError, "only plain LoRA"),
        (LoraSpec(use_dora=True), RecipeError, "only plain LoRA"),
    ):
        start = step_module.TrainingJob("toy", base, quantised, {}, lora=lora)
        with pytest.raises(error, match=said):
            run_align(start, step(), 0.5, toy_pairs(8), tmp_path / "a", tmp_path / "c")


def test_a_reward_model_starts_from_adapters_merged(steps: Path, tmp_path: Path) -> None:
    """After an update of size zero its body has the weights of base and both adapters."""
    _, _, HS = models(steps)
    train_reward_model(job(HS, learning_rate=1e-30), toy_pairs(8), tmp_path / "judge")
    found = load_file(tmp_path / "judge" / "model" / "model.safetensors")
    wanted = load_model(HS, adapters="merged").state_dict()
    shared = found.keys() & wanted.keys()
    assert len(shared) > 10
    assert all(torch.equal(found[name], wanted[name]) for name in shared)
