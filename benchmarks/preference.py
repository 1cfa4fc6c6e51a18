"""DPO: pairs a second of one epoch, reference pass and tokenising included, against TRL's DPOTrainer.

A Llama of 33.5M parameters, untied, with a byte-level BPE of 8000 tokens trained on the HH file; batch 16, max_length
1024, no gradient checkpointing. Both sides see the same weights and the same batches in the same order.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import resource
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measure import ratios, run_side

DATA = Path(os.environ["SACPO_DATA"]) if "SACPO_DATA" in os.environ else None
FILES = {
    "hh": ("hh-rlhf", "hh_rlhf/harmless-base-test.jsonl.gz", 96),
    "pku": ("pku-safe-rlhf", "pku_saferlhf/safety_pairs_train.jsonl", 192),
}
SHAPE = {
    "model_type": "llama",
    "vocab_size": 8000,
    "hidden_size": 512,
    "intermediate_size": 1376,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": False,
}
BETA, RATE, SEED, BATCH, LONGEST = 0.1, 1e-5, 0, 16, 1024


def compare(data: str, peer: str, pairs: int, *, bf16: bool = False) -> None:
    """Run both sides in turn and print rates, the ratio, and how far their losses are apart."""
    extra = ("--bf16",) if bf16 else ()
    ours, theirs = [], []
    for _ in range(pairs):
        theirs.append(run_side("benchmarks.preference", f"trl-{peer}", data, *extra))
        ours.append(run_side("benchmarks.preference", "sacpo", data, *extra))
    for name, runs in (("sacpo", ours), (f"TRL, {peer}", theirs)):
        rates = [run["pairs_per_second"] for run in runs]
        peak = max(run["peak_mb"] for run in runs)
        print(f"  {name}: {median(rates):.2f} pairs/s ({min(rates):.2f} to {max(rates):.2f}), peak {peak:.0f} MB")
    print("  " + ratios([run["pairs_per_second"] for run in ours], [run["pairs_per_second"] for run in theirs]))
    worst = max(abs(a - b) for a, b in zip(ours[0]["losses"], theirs[0]["losses"], strict=True))
    print(f"  losses step by step: at most {worst:.1e} apart over {len(ours[0]['losses'])} steps")


def main() -> None:
    """Run one side and print what was measured as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("side", choices=["sacpo", "trl-defaults", "trl-tuned"])
    parser.add_argument("data", choices=[*FILES])
    parser.add_argument("--bf16", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        base = write_base(Path(folder) / "base")
        records = records_of(options.data)
        run = run_sacpo if options.side == "sacpo" else run_trl
        losses, seconds = run(base, records, Path(folder), options)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"pairs_per_second": len(records) / seconds, "losses": losses, "peak_mb": peak}))


def write_base(folder: Path) -> Path:
    """Write the model and its tokenizer, drawn from the seed."""
    from sacpo.models import build_model, save_model
    from sacpo.pipeline.tokenizers import byte_level_bpe

    assert DATA is not None
    with gzip.open(DATA / FILES["hh"][1], "rt", encoding="utf-8") as file:
        texts = [text for line in file for text in json.loads(line).values()]
    tokenizer = byte_level_bpe(texts, 8000)
    save_model(build_model({**SHAPE, "vocab_size": len(tokenizer)}, tokenizer, SEED), tokenizer, folder)
    return folder


def records_of(data: str) -> list[Any]:
    """Return the first HH pairs, or PKU pairs drawn by the seed."""
    from sacpo.data.prepare import prepare
    from sacpo.data.sources import read_source
    from sacpo.recipe.schema import DataSpec

    assert DATA is not None
    format, path, n = FILES[data]
    spec = DataSpec(format=format, path=str(DATA / path))  # type: ignore[arg-type]
    records = prepare(read_source(spec, name=data, seed=SEED).records, spec, name=data, seed=SEED).train
    return records[:n] if data == "hh" else random.Random(SEED).sample(records, n)


def run_sacpo(base: Path, records: list[Any], folder: Path, options: argparse.Namespace) -> tuple[list[float], float]:
    """Train with this package."""
    from sacpo.align.job import TrainingJob
    from sacpo.align.step import run_align
    from sacpo.recipe.schema import BaseSpec, StepSpec

    training = {**shared_options(options.bf16), "per_device_train_batch_size": BATCH, "gradient_accumulation_steps": 1}
    job = TrainingJob("bench", base, BaseSpec(model=str(base), template="plain", device="cpu"), training, SEED, LONGEST)
    step = StepSpec(name="bench", criterion="any", dataset="any", beta=BETA)
    started = time.perf_counter()
    run_align(job, step, BETA, records, folder / "out", folder / "cache")
    seconds = time.perf_counter() - started
    lines = (folder / "out" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines], seconds


def run_trl(base: Path, records: list[Any], folder: Path, options: argparse.Namespace) -> tuple[list[float], float]:
    """Train with TRL: its defaults, or the reference computed before and small device batches accumulated."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    from sacpo.align.order import EpochShuffle
    from sacpo.data.templates import make_template

    tokenizer = AutoTokenizer.from_pretrained(base)
    template = make_template("plain", tokenizer)
    rows = [{"prompt": template.render(r.prompt), "chosen": r.chosen, "rejected": r.rejected} for r in records]
    tuned = options.side == "trl-tuned"
    device_batch = 2 if tuned else BATCH

    class Ordered(DPOTrainer):
        """TRL's trainer on the same batches."""

        def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
            return EpochShuffle(len(rows), SEED)

    arguments = DPOConfig(
        output_dir=str(folder / "trl"),
        per_device_train_batch_size=device_batch,
        gradient_accumulation_steps=BATCH // device_batch,
        precompute_ref_log_probs=tuned,
        gradient_checkpointing=False,
        beta=BETA,
        max_length=LONGEST,
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
        seed=SEED,
        **shared_options(options.bf16),
    )
    model = AutoModelForCausalLM.from_pretrained(base)
    started = time.perf_counter()
    trainer = Ordered(model, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    trainer.train()
    seconds = time.perf_counter() - started
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry], seconds


def shared_options(bf16: bool) -> dict[str, Any]:
    """Return what both sides train with."""
    return {
        "num_train_epochs": 1,
        "learning_rate": RATE,
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
        "weight_decay": 0.0,
        "logging_steps": 1,
        "bf16": bf16,
        "report_to": "none",
    }


if __name__ == "__main__":
    main()
