"""Peak memory of trainings against what a plan says of them: `python -m benchmarks.memory`.

Each case is a process of its own. What is measured is the peak of its resident memory above what it had before the
model was made, on a CPU in float32: once with every large block given back as it is freed, which is what the training
needs, and once as it runs, where freed blocks stay in the process. The plan is
`sacpo.align.footprint.training_bytes`.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.measure import run_side
from sacpo.system import memory

WIDE = {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8, "num_attention_heads": 8}
NO_DROPOUT = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
CASES: dict[str, dict[str, Any]] = {
    "full": {"config": {"model_type": "llama", **WIDE}, "batch": 4, "length": 256},
    "full, checkpointing": {"config": {"model_type": "llama", **WIDE}, "batch": 8, "length": 256, "again": True},
    "LoRA": {"config": {"model_type": "llama", **WIDE}, "batch": 4, "length": 256, "rank": 16},
    "full, Qwen2, large vocabulary": {
        "config": {
            "model_type": "qwen2",
            **WIDE,
            "num_hidden_layers": 4,
            "num_key_value_heads": 2,
            "vocab_size": 60_000,
        },
        "batch": 2,
        "length": 256,
    },
    "full, GPT-2": {
        "config": {"model_type": "gpt2", "n_embd": 384, "n_layer": 6, "n_head": 6, "n_positions": 512, **NO_DROPOUT},
        "batch": 4,
        "length": 256,
    },
}


def measured(case: dict[str, Any]) -> dict[str, Any]:
    """Train three steps in this process and return the peak, with what the plan says."""
    if case.get("exact"):  # the C library's own thresholds are set by the environment
        memory.KEEPING.clear()
        memory.USUAL.clear()
    from peft import LoraConfig

    from sacpo import PreferenceConfig, PreferenceTrainer
    from sacpo.align.footprint import Method, training_bytes
    from sacpo.models.byte_level_bpe import byte_level_bpe
    from sacpo.models.loading import build_model

    tokenizer = byte_level_bpe(["one two three four five six seven eight nine ten"], 300)
    shape = shape_of_case(case, len(tokenizer))
    rank, again = case.get("rank", 0), case.get("again", False)
    plan = training_bytes(shape, Method(rank, checkpointing=again), 2 * case["batch"] * case["length"])
    before = resident("VmRSS")
    model = build_model(case["config"], tokenizer, 0)
    rows = [{"prompt": "one", "chosen": " two" * 600, "rejected": " three" * 600}] * (case["batch"] * 3)
    with tempfile.TemporaryDirectory() as folder:
        args = PreferenceConfig(
            folder,
            per_device_train_batch_size=case["batch"],
            max_length=case["length"],
            max_steps=3,
            layout="padded",
            activation_checkpointing=again,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        )
        adapter = LoraConfig(r=rank, target_modules="all-linear") if rank else None
        trainer = PreferenceTrainer(
            model, args=args, train_dataset=rows, processing_class=tokenizer, peft_config=adapter
        )
        trainer.train()
    return {"plan": plan, "peak": resident("VmHWM") - before}


def shape_of_case(case: dict[str, Any], vocabulary: int) -> Any:
    """Return the shape of a case's model."""
    from sacpo.align.footprint import shape_of

    return shape_of(json.dumps({"vocab_size": vocabulary, **case["config"]}))


def resident(name: str) -> int:
    """Return bytes of this process's memory from /proc: VmRSS now, VmHWM at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def main(names: list[str]) -> None:
    """Print plan, peak and their ratio of the named cases, of all by default."""
    print("| case | plan, MB | needed, MB | plan / needed | as it runs, MB |\n|---|---|---|---|---|")
    for name in names or [*CASES]:
        os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"
        exact = run_side("benchmarks.memory", "--side", json.dumps({**CASES[name], "exact": True}))
        del os.environ["MALLOC_MMAP_THRESHOLD_"]
        usual = run_side("benchmarks.memory", "--side", json.dumps(CASES[name]))
        plan, needed, runs = exact["plan"] / 1e6, exact["peak"] / 1e6, usual["peak"] / 1e6
        print(f"| {name} | {plan:.0f} | {needed:.0f} | {plan / needed:.2f} | {runs:.0f} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--side"]:
        print(json.dumps(measured(json.loads(sys.argv[2]))))
    else:
        main(sys.argv[1:])
