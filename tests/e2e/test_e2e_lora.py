"""LoRA from end to end: steps on one base, a sweep of q that never touches it, the chosen model's merged weights."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import AutoPeftModelForCausalLM
from safetensors.torch import load_file
from tiny_run import RECIPE, Process, refused
from transformers import AutoModelForCausalLM

import sacpo
import sacpo.models.loading
from sacpo import api
from sacpo.models.adapters.factors import write_stack
from sacpo.models.adapters.stack import Stack, read_stack

pytestmark = pytest.mark.slow
IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])
LORA = {"r": 4, "lora_alpha": 8}


def recipe() -> dict[str, Any]:
    """The tiny recipe without its reward model and theory: two LoRA steps and P-SACPO; SFT cannot be chosen."""
    found: dict[str, Any] = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    del found["data"]["heldout"], found["evaluate"]["judges"]["learned"], found["theory"]
    found["sft"]["training"]["num_train_epochs"] = 1
    H, _, HS = found["steps"]
    HS["beta"] = 0.1
    training = {"learning_rate": 5.0e-2}
    found["steps"] = [H | {"lora": LORA, "training": training}, HS | {"lora": LORA | {"r": 2}, "training": training}]
    found["merge"] = [{"name": "P", "models": ["H", "H-S"], "q": [0.5, 0.75, 1.0]}]
    found["evaluate"]["models"] = ["sft", "P@q0.5", "P@q1", "H-S", "P@q0.75"]
    found["constraints"] = [{"metric": "kl", "prompts": "tuning", "at_least": 1e-9}]
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[sacpo.Run, list[str]]:
    """The finished run, and the models that were loaded in it, in order."""
    folder = tmp_path_factory.mktemp("lora")
    (folder / "lora.yaml").write_text(yaml.safe_dump(recipe()), encoding="utf-8")
    loaded: list[str] = []
    load = sacpo.models.loading.load_weights

    def counted(path: Any, **options: Any) -> Any:
        loaded.append(str(path))
        return load(path, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sacpo.models.loading, "load_weights", counted)
        patch.setattr("sacpo.pipeline.tools.KEPT_PARAMETERS", 0)  # as if the models were large
        return sacpo.run(sacpo.load_recipe(folder / "lora.yaml"), runs=folder / "runs"), loaded


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(IDS).logits
    return found


def stage(run: sacpo.Run, name: str) -> Path:
    return run.folder / "stages" / name


def stack_of(run: sacpo.Run, name: str) -> Stack:
    found = read_stack(stage(run, f"align/{name}") / "model")
    assert found is not None
    return found


def test_steps_leave_adapters_on_one_base(run: tuple[sacpo.Run, list[str]]) -> None:
    done, _ = run
    for name, count in (("H", 1), ("H-S", 2)):
        found = stack_of(done, name)
        assert Path(found.base).samefile(stage(done, "sft") / "model")
        assert len(found.members) == count
        assert not list(stage(done, f"align/{name}").rglob("model.safetensors"))
        summary = json.loads((stage(done, f"align/{name}") / "summary.json").read_text())
        assert summary["first_loss"] == pytest.approx(math.log(2), abs=1e-5)


def test_the_base_is_loaded_once_for_all_models_that_are_evaluated(run: tuple[sacpo.Run, list[str]]) -> None:
    """The base, for SFT; SFT's model to sample and to train H, to sample and to train H-S, and once for the rest."""
    done, loaded = run
    names = [str(Path(path).relative_to(done.folder / "stages")) for path in loaded]
    assert names == ["base/model", *["sft/model"] * 5]


def test_the_end_of_the_sweep_is_the_last_model(run: tuple[sacpo.Run, list[str]]) -> None:
    done, _ = run
    files = [stage(done, f"generate/{model}/report") / "answers.jsonl" for model in ("P@q1", "H-S", "P@q0.5")]
    end, last, other = ([json.loads(line)["text"] for line in file.read_text().splitlines()] for file in files)
    assert end == last
    assert end != other


def test_the_chosen_model_is_a_standard_folder_of_its_own(run: tuple[sacpo.Run, list[str]], tmp_path: Path) -> None:
    done, _ = run
    folder = stage(done, "chosen") / "model"
    assert done.chosen is not None
    assert not list(folder.glob("adapter*"))
    assert (folder / "README.md").is_file()
    base = load_file(stage(done, "sft") / "model" / "model.safetensors")
    assert load_file(folder / "model.safetensors").keys() == base.keys()
    found = stack_of(done, "H-S")
    q = {"P@q0.5": 0.5, "P@q0.75": 0.75, "P@q1": 1.0, "H-S": 1.0}[str(done.chosen)]
    last = replace(found.members[-1], weight=q)
    write_stack(replace(found, members=(found.members[0], last)), tmp_path / "stack")
    adapted = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "stack")
    wanted = logits(adapted)
    torch.testing.assert_close(logits(AutoModelForCausalLM.from_pretrained(folder)), wanted, rtol=0, atol=1e-5)


def served_by_vllm(adapter: Path) -> None:
    """Check what vLLM asks of an adapter: plain LoRA of one rank and scale, tensors under peft's names, in pairs.

    Source: vllm/lora/peft_helper.py and vllm/lora/lora_model.py.
    """
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert config["bias"] == "none" and not config["use_dora"] and config["modules_to_save"] is None
    assert not config["rank_pattern"] and not config["alpha_pattern"] and config["lora_alpha"] == config["r"] <= 8
    weights = load_file(adapter / "adapter_model.safetensors")
    found = {tuple(re.fullmatch(r"base_model\.model\.(.*)\.lora_([AB])\.weight", name).groups()) for name in weights}  # type: ignore[union-attr]
    assert found == {(module, side) for module in config["target_modules"] for side in "AB"}
    assert {tensor.shape[0] for name, tensor in weights.items() if ".lora_A." in name} == {config["r"]}


def test_merge_and_export_as_single_verbs(run: tuple[sacpo.Run, list[str]], tmp_path: Path) -> None:
    """`merge` scales the last adapter; `export` writes it as merged weights and as one adapter: the same logits."""
    done, _ = run
    H, HS = (str(stage(done, f"align/{name}") / "model") for name in ("H", "H-S"))
    api.merge(H, HS, tmp_path / "P", q=0.25)
    found = read_stack(tmp_path / "P" / "q0.25")
    assert found is not None
    assert [member.weight for member in found.members] == [1.0, 0.25]
    Process(tmp_path, "export", "P/q0.25", "--out", "merged").wait()
    said = Process(tmp_path, "export", "P/q0.25", "--adapter", "--out", "one").wait()
    assert said.splitlines()[-1] == (
        f"serve it with vLLM: vllm serve {found.base} --enable-lora --max-lora-rank 8 "
        f"--lora-modules one={tmp_path / 'one'}"
    )
    served_by_vllm(tmp_path / "one")
    merged = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged"))
    one = logits(AutoPeftModelForCausalLM.from_pretrained(tmp_path / "one"))
    torch.testing.assert_close(merged, one, rtol=0, atol=1e-5)
    assert (one - logits(AutoModelForCausalLM.from_pretrained(found.base))).abs().max() > 1e-4
    assert (tmp_path / "merged" / "tokenizer.json").is_file()
    assert "no adapters" in refused(tmp_path, "export", found.base, "--adapter", "--out", "none")
