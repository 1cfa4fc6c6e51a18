"""One side of a case in a process of its own: `python -m benchmarks.sides {sacpo,trl} CASE`, JSON on the last line."""

from __future__ import annotations

import gzip
import json
import random
import resource
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks import matmul
from benchmarks.cases import DATA, FILES, SEED, Case

RATE = 1e-5


def main() -> None:
    """Run one side and print what was measured as JSON."""
    side, case = sys.argv[1], Case.parse(sys.argv[2])
    with tempfile.TemporaryDirectory() as folder:
        base = write_base(Path(folder) / "base", case)
        records = records_of(case, base)
        before = matmul.rate(case) if case.measure == "share" else 0.0
        started = time.perf_counter()
        losses = (run_sacpo if side == "sacpo" else run_trl)(base, records, Path(folder), case)
        seconds = time.perf_counter() - started
        found: dict[str, Any] = {
            "seconds": seconds,
            "pairs_per_second": len(case.betas) * case.epochs * len(records) / seconds,
            "losses": losses,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "floor_mb": floor_mb(base),
        }
        if case.measure == "share":
            needed = matmul.needed(case, records, base)
            measured = (before + matmul.rate(case)) / 2
            found |= {"needed_flop": needed, "matmul_flops": measured, "share": needed / seconds / measured}
    print(json.dumps(found))


def write_base(folder: Path, case: Case) -> Path:
    """Write the model and its tokenizer, drawn from the seed."""
    from sacpo.models.byte_level_bpe import byte_level_bpe
    from sacpo.models.loading import build_model, save_model

    assert DATA is not None
    with gzip.open(DATA / FILES["hh"][1], "rt", encoding="utf-8") as file:
        texts = [text for line in file for text in json.loads(line).values()]
    tokenizer = byte_level_bpe(texts[:200] if case.toy else texts, 512 if case.toy else 8000)
    shape = {"vocab_size": len(tokenizer), **case.shape}
    save_model(build_model(shape, tokenizer, SEED), tokenizer, folder)
    return folder


def floor_mb(base: Path) -> float:
    """Return the memory of fp32 weights, gradients and Adam's two moments, which every full training needs."""
    from safetensors import safe_open

    with safe_open(base / "model.safetensors", framework="np") as file:
        sizes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118 - not a dictionary
    total = 0
    for shape in sizes:
        n = 1
        for length in shape:
            n *= length
        total += n
    return total * 16 / 2**20


def records_of(case: Case, base: Path) -> list[Any]:
    """Return the first HH pairs, or PKU pairs drawn by the seed whose prompts stay whole tokens.

    Where a prompt's last token merges with a completion's first, the sides cut differently; few pairs do.
    """
    from sacpo.data.prepare import prepare
    from sacpo.data.sources import read_source
    from sacpo.recipe.schema import DataSpec

    assert DATA is not None
    format, path = FILES[case.data]
    spec = DataSpec(format=format, path=str(DATA / path))  # type: ignore[arg-type]
    records = prepare(read_source(spec, name=case.data, seed=SEED).records, spec, name=case.data, seed=SEED).train
    if case.longest < 1024:
        records = [record for record in records if all(len(ids) < case.longest - 2 for ids in _tokens(record, base)[1])]
    if case.data == "hh":
        return records[: case.n]
    drawn = random.Random(SEED).sample(records, min(2 * case.n, len(records)))
    whole = [
        r for r in drawn if all(ids[: len(before)] == before for before, both in [_tokens(r, base)] for ids in both)
    ]
    return whole[: case.n]


def _tokens(record: Any, base: Path) -> tuple[list[int], list[list[int]]]:
    """Return the tokens of a pair's prompt, and of the prompt with either completion."""
    from sacpo.data.templates import make_template

    tokenizer = _tokenizer(base)
    prompt = make_template("plain", tokenizer).render(record.prompt)
    return tokenizer(prompt)["input_ids"], [
        tokenizer(prompt + text)["input_ids"] for text in (record.chosen, record.rejected)
    ]


@cache
def _tokenizer(base: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base)


def run_sacpo(base: Path, records: list[Any], folder: Path, case: Case) -> list[float]:
    """Train with this package and return the losses, run after run."""
    from sacpo.align.job import TrainingJob
    from sacpo.align.step import run_align
    from sacpo.recipe.schema import BaseSpec, LoraSpec, StepSpec

    training = {**shared_options(case), "per_device_train_batch_size": case.batch, "gradient_accumulation_steps": 1}
    spec = BaseSpec(model=str(base), template="plain", device="cpu")
    lora = LoraSpec(r=case.lora) if case.lora else None
    job = TrainingJob("bench", base, spec, training, SEED, case.longest, lora=lora)
    losses: list[float] = []
    for i, beta in enumerate(case.betas):
        step = StepSpec(name="bench", criterion="any", algorithm=case.algorithm, dataset="any", beta=beta)  # type: ignore[arg-type]
        run_align(job, step, beta, records, folder / f"out-{i}", folder / "cache")
        lines = (folder / f"out-{i}" / "metrics.jsonl").read_text().splitlines()
        losses += [json.loads(line)["loss"] for line in lines]
    return losses


def run_trl(base: Path, records: list[Any], folder: Path, case: Case) -> list[float]:
    """Train with TRL, one run a beta, and return the losses; it sees the same batches in the same order."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

    from sacpo.align.engine.order import EpochShuffle
    from sacpo.align.objectives.kto import couples

    tokenizer = AutoTokenizer.from_pretrained(base)
    rows = _rows(records, tokenizer, case.algorithm)
    together = couples([row["prompt"] for row in rows]) if case.algorithm == "kto" else None
    trainer_class, config_class = (KTOTrainer, KTOConfig) if case.algorithm == "kto" else (DPOTrainer, DPOConfig)
    device_batch = 2 if case.peer == "tuned" else case.batch

    class Ordered(trainer_class):  # type: ignore[misc, valid-type]
        """TRL's trainer on the same batches."""

        def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
            return EpochShuffle(len(rows), SEED, pair_groups=together)

    losses: list[float] = []
    for i, beta in enumerate(case.betas):
        arguments = config_class(
            output_dir=str(folder / f"trl-{i}"),
            per_device_train_batch_size=device_batch,
            gradient_accumulation_steps=case.batch // device_batch,
            precompute_ref_log_probs=case.peer == "tuned",
            gradient_checkpointing=False,
            beta=beta,
            max_length=case.longest,
            use_cpu=True,
            disable_tqdm=True,
            save_strategy="no",
            seed=SEED,
            **shared_options(case),
        )
        config = LoraConfig(r=case.lora, lora_alpha=32, task_type="CAUSAL_LM") if case.lora else None
        trainer = Ordered(
            AutoModelForCausalLM.from_pretrained(base),
            args=arguments,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            peft_config=config,
        )
        if config is not None:
            _same_adapter(trainer.model, AutoModelForCausalLM.from_pretrained(base), config)
        trainer.add_callback(_epochs(trainer))
        trainer.train()
        losses += [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return losses


def _same_adapter(model: Any, other: Any, config: Any) -> None:
    """Give an adapter the first weights that this package draws from the seed."""
    import torch
    from peft import get_peft_model

    torch.manual_seed(SEED)
    drawn = dict(get_peft_model(other, config).named_parameters())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(drawn[name])


def _rows(records: list[Any], tokenizer: Any, algorithm: str) -> list[dict[str, Any]]:
    from sacpo.data.templates import make_template

    template = make_template("plain", tokenizer)
    if algorithm == "kto":
        return [
            {"prompt": template.render(r.prompt), "completion": text, "label": good}
            for r in records
            for text, good in ((r.chosen, True), (r.rejected, False))
        ]
    return [{"prompt": template.render(r.prompt), "chosen": r.chosen, "rejected": r.rejected} for r in records]


def _epochs(trainer: Any) -> Any:
    """Return a callback that gives later epochs the order that this package gives them."""
    from transformers import TrainerCallback

    from sacpo.align.engine.order import EpochShuffle

    class Order(TrainerCallback):
        """Chooses each epoch's order."""

        def on_epoch_begin(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **kw: Any) -> None:
            sampler = getattr(train_dataloader.batch_sampler, "sampler", None)
            if isinstance(sampler, EpochShuffle):
                sampler.set_epoch(int(state.epoch))

    return Order()


def shared_options(case: Case) -> dict[str, Any]:
    """Return what both sides train with."""
    return {
        "num_train_epochs": case.epochs,
        "learning_rate": RATE,
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
        "weight_decay": 0.0,
        "logging_steps": 1,
        "bf16": case.bf16,
        "report_to": "none",
    }


if __name__ == "__main__":
    main()
