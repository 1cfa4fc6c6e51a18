"""Every verb of `sacpo.api` by itself, on files made here and models that the golden run left."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from golden_digest import Masks, folder_digest, text_digest

from sacpo import api

PAIRS = Path(__file__).with_name("golden_pairs.jsonl")
TRAINING = {
    "num_train_epochs": 1,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 1,
    "save_steps": 4,
    "learning_rate": 1e-2,
}
TRAINED: dict[str, Any] = {"training": TRAINING, "max_length": 80, "base": {"device": "cpu"}}
SAMPLED = {"max_new_tokens": 12, "do_sample": True, "temperature": 1.2, "top_p": 0.9, "batch_size": 4}


def write_data(folder: Path) -> None:
    """Write a small file of every kind of data from the pairs."""
    folder.mkdir(parents=True)
    pairs = [json.loads(line) for line in PAIRS.read_text(encoding="utf-8").splitlines()][:16]
    rows: dict[str, list[dict[str, Any]]] = {
        "pairs": pairs,
        "demonstrations": [{"prompt": one["prompt"], "completion": one["chosen"]} for one in pairs],
        "unpaired": [
            {"prompt": one["prompt"], "completion": one["rejected" if i % 3 else "chosen"], "label": i % 3 == 0}
            for i, one in enumerate(pairs)
        ],
        "prompts": [{"prompt": one["prompt"]} for one in pairs[:8]],
    }
    for name, lines in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def verbs(folder: Path, stages: Path, url: str, masks: Masks) -> dict[str, Any]:
    """Do every verb in a new folder and return the digests of what they left and what they returned."""
    write_data(folder)
    _train(folder, stages)
    _combine(folder)
    _answer(folder, stages)
    said = {**_judge(folder, stages, url), **_select(folder)}
    page = api.report(stages / "report" / "results.json", folder / "report")
    said["report"] = str(page)
    said["stats"] = _stats(folder, "judge-llm", "--ratings", "--draws", "50")
    said["stats of two"] = _stats(folder, "judge-model", "judge-refusal")
    whole = _stats(folder, str(stages.parent), "--against", "H", "--ratings", "--draws", "20")
    said["stats of a run"] = {name: text_digest(json.dumps(one)) for name, one in whole.items()}
    return {"returned": masks.data(said), "files": folder_digest(folder, masks)}


def _train(folder: Path, stages: Path) -> None:
    base = stages / "sft" / "model"
    api.sft(stages / "base" / "model", folder / "demonstrations.jsonl", folder / "sft", **TRAINED)
    api.sft(base, folder / "demonstrations.jsonl", folder / "sft-lora", lora={"r": 2}, seed=3, **TRAINED)
    api.align(base, folder / "pairs.jsonl", folder / "dpo", beta=0.3, **TRAINED)
    unpaired: dict[str, Any] = {"format": "unpaired", "algorithm": "kto", "undesirable_weight": "balanced"}
    api.align(base, folder / "unpaired.jsonl", folder / "kto", seed=1, layout="padded", **unpaired, **TRAINED)
    first = api.align(base, folder / "pairs.jsonl", folder / "lora", lora={"r": 4, "lora_alpha": 8}, **TRAINED)
    api.align(first, folder / "unpaired.jsonl", folder / "lora-2", lora={"r": 2}, seed=1, **unpaired, **TRAINED)


def _combine(folder: Path) -> None:
    models = {name: folder / name / "model" for name in ("sft", "dpo", "kto", "lora", "lora-2")}
    api.merge(models["dpo"], models["kto"], folder / "merge-linear", q=[0.25, 1])
    api.merge(
        models["dpo"],
        models["kto"],
        folder / "merge-vectors",
        q=0.5,
        method="task-vectors",
        base=models["sft"],
        scale=2,
    )
    (merged,) = api.merge(models["lora"], models["lora-2"], folder / "merge-adapters", q=0.25)
    api.export(merged, folder / "export-merged")
    api.export(merged, folder / "export-adapter", adapter=True)


def _answer(folder: Path, stages: Path) -> None:
    prompts = folder / "prompts.jsonl"
    base = {"device": "cpu"}
    greedy = {"max_new_tokens": 12, "batch_size": 4}
    api.generate(stages / "sft" / "model", prompts, folder / "greedy", name="old", generation=greedy, base=base)
    model = folder / "dpo" / "model"
    api.generate(model, prompts, folder / "sampled", name="new", samples=2, generation=SAMPLED, seed=5, base=base)
    api.generate(model, prompts, folder / "one", name="new", generation=SAMPLED, seed=6, base=base)


def _judge(folder: Path, stages: Path, url: str) -> dict[str, Any]:
    learned = str(stages / "judge-model" / "learned" / "model")
    scored: dict[str, Any] = {"model": learned, "max_length": 80, "base": {"device": "cpu"}}
    panel = [
        {"model": model, "base_url": url, "api_key_env": "", "structured": False, "retries": 1} for model in ("m", "n")
    ]
    asked: dict[str, Any] = {"panel": panel, "rubrics": ["helpfulness", "safety"], "repeats": 2}
    old, new = folder / "greedy", folder / "one"
    return {
        "judge-model": api.judge(new, folder / "judge-model", criterion="helpfulness", baseline=old, **scored),
        "judge-cost": api.judge(
            folder / "sampled", folder / "judge-cost", criterion="harmlessness", sign=-1, unsafe_below=0.0, **scored
        ),
        "judge-refusal": api.judge(new, folder / "judge-refusal", criterion="refusal", kind="refusal"),
        "judge-llm": api.judge(new, folder / "judge-llm", kind="llm", baseline=old, **asked),
    }


def _select(folder: Path) -> dict[str, Any]:
    chosen = api.select(
        [folder / "judge-llm", folder / "judge-refusal"],
        constraints=[{"metric": "unsafe_rate", "at_most": 0.9}],
        objective={"metric": "win_rate", "criterion": "helpfulness"},
    )
    return {"select": chosen}


def _stats(folder: Path, *arguments: str) -> dict[str, Any]:
    line = [sys.executable, "-m", "sacpo", "stats", *arguments, "--json"]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found
