"""`push_to_hub` of `PreferenceTrainer`, against a stand-in of the hub."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hub.hub_toys import hub, requests

from sacpo import PreferenceConfig
from sacpo.errors import RecipeError
from sacpo.trl.config import read_config

TRAINING = """
import json, sys
from peft import LoraConfig
from sacpo import PreferenceConfig, PreferenceTrainer
rows = [{"prompt": f"say {i}", "chosen": " yes", "rejected": " no"} for i in range(4)]
args = PreferenceConfig(
    sys.argv[2], push_to_hub=True, hub_model_id="ada/aligned", max_steps=2, save_steps=1, report_to="none",
    per_device_train_batch_size=2, use_cpu=True, disable_tqdm=True, logging_steps=1, hub_strategy=sys.argv[3],
)
adapter = LoraConfig(r=2, target_modules=["q_proj"]) if sys.argv[3] == "end" else None
trainer = PreferenceTrainer(sys.argv[1], args=args, train_dataset=rows, peft_config=adapter)
if adapter is not None:
    trainer.model.peft_config["default"].base_model_name_or_path = "org/base-1b"
trainer.train()
print(trainer.push_to_hub(license="mit", dataset_name="org/pairs"))
"""


@pytest.mark.parametrize(("strategy", "commits"), [("end", 1), ("every_save", 3)])
def test_a_trained_model_is_pushed(strategy: str, commits: int, base: Path, tmp_path: Path) -> None:
    """With `every_save` each of two checkpoints is pushed too, and never a state of the optimiser or a pickle."""
    with hub(tmp_path / "hub") as env:
        line = [sys.executable, "-c", TRAINING, str(base), str(tmp_path / "out"), strategy]
        done = subprocess.run(line, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("/ada/aligned")
    there = tmp_path / "hub" / "repositories" / "models" / "ada" / "aligned"
    assert json.loads((there / ".repository").read_text()) == {"private": True}
    names = {file.name for file in there.rglob("*") if file.is_file()}
    weights = "adapter_model.safetensors" if strategy == "end" else "model.safetensors"
    assert weights in names and "tokenizer.json" in names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pth")) or "trainer_state" in name]
    assert (tmp_path / "out" / "training_args.bin").is_file()  # it stays
    assert sum("/commit/" in request[1] for request in requests(tmp_path / "hub")) == commits
    text = (there / "README.md").read_text()
    matter = yaml.safe_load(text.split("---\n")[1])
    assert (matter["license"], matter["datasets"]) == ("mit", ["org/pairs"])
    assert "DPO, beta 0.1" in text and "Do not take it for safe" in text
    if strategy == "end":
        assert (matter["base_model"], matter["base_model_relation"]) == ("org/base-1b", "adapter")


def test_arguments_that_the_push_does_not_take(tmp_path: Path) -> None:
    out = str(tmp_path)
    for options, words in (
        ({"hub_model_id": "aligned"}, "args.hub_model_id"),
        ({}, "args.hub_model_id"),
        ({"hub_model_id": "ada/x", "hub_strategy": "checkpoint"}, "args.hub_strategy"),
        ({"hub_model_id": "ada/x", "hub_token": "hf_x"}, "args.hub_token"),
    ):
        with pytest.raises(RecipeError) as refused:
            read_config(PreferenceConfig(out, push_to_hub=True, use_cpu=True, **options))
        assert words in str(refused.value)
