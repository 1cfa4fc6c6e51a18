"""Tiny models and toy preferences that the alignment tests share."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

from sacpo import PreferenceConfig, PreferenceTrainer
from sacpo.align.job import TrainingJob
from sacpo.data.records import Demonstration, Pair, Prompt
from sacpo.models.loading import build_model, save_model
from sacpo.recipe.schema import BaseSpec, StepSpec

WORDS = [f"w{i}" for i in range(24)]
LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}
TRAINING: dict[str, Any] = {
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "num_train_epochs": 1,
    "learning_rate": 1e-2,
    "logging_steps": 1,
}


def word_tokenizer() -> PreTrainedTokenizerFast:
    vocab = {word: i for i, word in enumerate(["<pad>", "<eos>", "<unk>", *WORDS])}
    inner = Tokenizer(WordLevel(vocab, unk_token="<unk>"))
    inner.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<eos>", pad_token="<pad>", unk_token="<unk>", model_max_length=64
    )


def write_base(folder: Path, seed: int = 0, **config: Any) -> Path:
    """Write an untrained tiny model with its tokenizer."""
    tokenizer = word_tokenizer()
    save_model(build_model({**LLAMA, **config}, tokenizer, seed), tokenizer, folder)
    return folder


def job(model: Path, *, lora: Any = None, seed: int = 0, **training: Any) -> TrainingJob:
    base = BaseSpec(model=str(model), template="plain", device="cpu")
    return TrainingJob("toy", model, base, {**TRAINING, **training}, seed=seed, max_length=40, lora=lora)


def step(algorithm: str = "dpo", **options: Any) -> StepSpec:
    return StepSpec(name="H", criterion="help", algorithm=algorithm, dataset="toy", beta=0.5, **options)


def text(rng: random.Random, n: int) -> str:
    return " ".join(rng.choice(WORDS[4:]) for _ in range(n))


def toy_pairs(n: int, *, seed: int = 0, p: tuple[float, ...] = (1.0,)) -> list[Pair]:
    """Pairs in which the chosen completion begins with w1 and the other with w2; prompts of 1 to 6 words."""
    rng = random.Random(seed)
    return [
        Pair(
            Prompt.from_text(f"{WORDS[3]} {text(rng, rng.randint(1, 6))} {text(rng, 2)}"),
            f"w1 {text(rng, rng.randint(1, 5))}",
            f"w2 {text(rng, rng.randint(1, 5))}",
            p=p[i % len(p)],
        )
        for i in range(n)
    ]


def toy_demonstrations(n: int, seed: int = 0) -> list[Demonstration]:
    return [Demonstration(pair.prompt, pair.chosen) for pair in toy_pairs(n, seed=seed)]


PREFERENCE: dict[str, Any] = {
    "per_device_train_batch_size": 4,
    "num_train_epochs": 2,
    "learning_rate": 1e-2,
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": "none",
    "use_cpu": True,
    "bf16": False,
    "disable_tqdm": True,
    "seed": 3,
    "beta": 0.5,
}


def pair_rows(n: int = 18) -> list[dict[str, Any]]:
    return [
        {"prompt": pair.prompt.text, "chosen": f" {pair.chosen}", "rejected": f" {pair.rejected}"}
        for pair in toy_pairs(n)
    ]


def labelled_rows(n: int = 18) -> list[dict[str, Any]]:
    rows = pair_rows(n)
    return [
        {"prompt": row["prompt"], "completion": row["rejected" if i % 3 == 1 else "chosen"], "label": i % 3 != 1}
        for i, row in enumerate(rows)
    ]


def config(folder: Path, **options: Any) -> PreferenceConfig:
    return PreferenceConfig(output_dir=str(folder), **{**PREFERENCE, **options})


def history(trainer: Any) -> list[dict[str, float]]:
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def trained(base: Path, folder: Path, rows: Any = None, **options: Any) -> PreferenceTrainer:
    given = {
        name: options.pop(name)
        for name in ("peft_config", "ref_model", "eval_dataset", "optimizers")
        if name in options
    }
    trainer = PreferenceTrainer(str(base), args=config(folder, **options), train_dataset=rows or pair_rows(), **given)
    trainer.train()
    return trainer
