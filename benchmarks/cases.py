"""What is measured: one case is one training that both sides do, from the same weights, in the same batches."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

DATA = Path(os.environ["SACPO_DATA"]) if "SACPO_DATA" in os.environ else None
FILES = {
    "hh": ("hh-rlhf", "hh_rlhf/harmless-base-test.jsonl.gz"),
    "pku": ("pku-safe-rlhf", "pku_saferlhf/safety_pairs_train.jsonl"),
}
LLAMA = {
    "model_type": "llama",
    "hidden_size": 512,
    "intermediate_size": 1376,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": False,
}
"""33.5M parameters with a vocabulary of 8000, the byte-level BPE trained on the HH file."""
WIDE = {**LLAMA, "hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4, "vocab_size": 128_000}
"""Few layers under a vocabulary of 128k: the logits are what takes memory."""
TINY = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2}
SEED = 0


@dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        title: What is measured, for tables.
        data: "hh": the first harmless pairs; "pku": pairs drawn by the seed.
        n: Pairs.
        peer: TRL's "defaults", or "tuned": reference computed before, micro-batches of 2 accumulated.
        measure: "rate" (pairs a second), "memory" (peak of the process), or "share" of the measured matmul rate.
        algorithm: "dpo", or "kto" with each pair as two labelled rows.
        bf16: Autocast on both sides.
        lora: Rank of an adapter; None: all weights are trained.
        epochs: Epochs of each run.
        betas: One run each; this package computes the reference once for all.
        batch: Pairs (or rows) a batch.
        longest: max_length; below 1024 only pairs that fit are taken, since the sides cut differently.
        wide: The model with a vocabulary of 128k.
        toy: A tiny model, to see that everything runs.
    """

    title: str
    data: str = "hh"
    n: int = 96
    peer: str = "defaults"
    measure: str = "rate"
    algorithm: str = "dpo"
    bf16: bool = False
    lora: int | None = None
    epochs: int = 1
    betas: tuple[float, ...] = (0.1,)
    batch: int = 16
    longest: int = 1024
    wide: bool = False
    toy: bool = False

    @property
    def shape(self) -> dict[str, Any]:
        """The model's configuration."""
        return {**(WIDE if self.wide else LLAMA), **(TINY if self.toy else {})}

    @property
    def key(self) -> str:
        """What tells results of this case from those of another, whatever its name."""
        return hashlib.sha256(self.dump().encode()).hexdigest()[:12]

    def dump(self) -> str:
        """Return the case as JSON, to give it to a process."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> Case:
        """Read what `dump` wrote."""
        values = json.loads(text)
        return cls(**{**values, "betas": tuple(values["betas"])})

    def as_toy(self) -> Case:
        """Return the case at a size of seconds."""
        return replace(self, n=8, batch=4, toy=True)


def _dpo(data: str, name: str) -> dict[str, Case]:
    n = {"hh": 96, "pku": 192}[data]
    found = {}
    for precision, bf16 in (("fp32", False), ("bf16", True)):
        for peer in ("defaults", "tuned"):
            key = "-".join([f"dpo-{data}", *(["tuned"] if peer == "tuned" else []), *(["bf16"] if bf16 else [])])
            found[key] = Case(f"DPO, {name}, {precision}", data, n, peer, bf16=bf16)
    return found


CASES = {
    **_dpo("hh", "HH harmless"),
    **_dpo("pku", "PKU-SafeRLHF"),
    "sweep": Case("3 epochs and a sweep of 4 beta", n=48, epochs=3, betas=(0.05, 0.1, 0.2, 0.4)),
    "kto": Case("KTO, HH pairs as two rows", algorithm="kto"),
    "lora": Case("LoRA r=16, DPO", lora=16),
    "error-hh": Case("error of bf16, HH harmless, batches of 4", n=192, bf16=True, batch=4),
    "error-pku": Case("error of bf16, PKU-SafeRLHF, batches of 4", "pku", 192, bf16=True, batch=4),
    "share": Case("share of the fp32 matmul rate", measure="share"),
    "memory": Case("peak memory, vocabulary 128k", n=32, measure="memory", wide=True, longest=128),
}
