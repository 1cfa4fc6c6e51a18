"""What each of two processes does in the tests of several processes: `python worker.py FOLDER TASK ...`.

TASK is ALGORITHM-STRATEGY, such as kto-fsdp, with -best or -mean behind it for other weights than the last ones, -head
for a rate of the head's, or trainer-ALGORITHM-STRATEGY for `PreferenceTrainer`. With `!N` behind it the first process
kills itself at checkpoint N; with `?N` an error stops the training there in all processes, and it is done again.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from align_toys import job, step, toy_pairs
from datasets import Dataset
from transformers import AutoTokenizer

from sacpo import PreferenceConfig, PreferenceTrainer
from sacpo.align import outcome
from sacpo.align.trainer import AlignTrainer
from sacpo.errors import RunError
from sacpo.merge.source import Checkpoint
from sacpo.pipeline.outside import FromOutside, RecordList
from sacpo.pipeline.single import do_single
from sacpo.pipeline.stages.train import Align
from sacpo.system import processes
from sacpo.system.progress import QUIET

BATCH, PAIRS = 8, 25  # the last batch has one pair or two completions: a process has none of it
FSDP = {"fsdp": True, "fsdp_config": {"transformer_layer_cls_to_wrap": ["LlamaDecoderLayer"]}}
BEST = {"eval_strategy": "steps", "eval_steps": 1, "load_best_model_at_end": True}
GIVEN = {
    "best": {**BEST, "num_train_epochs": 2},
    "mean": {"average_last": 0.5},
    "head": {"learning_rate": 1e-3, "head_learning_rate": 1e-2},
}


@dataclass(frozen=True)
class Toys(FromOutside):
    """The toy pairs as records from outside."""

    content = "toys"

    def load(self) -> RecordList:
        return RecordList(toy_pairs(PAIRS), toy_pairs(5, seed=5, p=(0.1, 1.0)))


def train(folder: Path, name: str) -> None:
    """Do one alignment step as a stage that all processes share."""
    algorithm, strategy, *given = name.split("-")
    options = {**(FSDP if strategy == "fsdp" else {}), **(GIVEN[given[0]] if given else {})}
    toy = job(folder / "base", per_device_train_batch_size=BATCH // processes.size(), save_steps=2, **options)

    options = step(algorithm, max_length=toy.max_length)
    stage = Align(algorithm, Checkpoint(toy.model), toy.base, (Toys(),), toy.training, toy.seed, step=options)
    do_single("align", stage, folder / name, QUIET)


def prefer(folder: Path, name: str) -> None:
    """Train with `PreferenceTrainer`; the first process writes its log, and all the model."""
    _, algorithm, strategy = name.split("-")
    rows = [
        {"prompt": pair.prompt.text, "chosen": f" {pair.chosen}", "rejected": f" {pair.rejected}"}
        for pair in toy_pairs(PAIRS)
    ]
    arguments = PreferenceConfig(
        output_dir=str(folder / name / "work"),
        algorithm=algorithm,
        per_device_train_batch_size=BATCH // processes.size(),
        **{"num_train_epochs": 2, "learning_rate": 1e-3, "beta": 0.5, "seed": 3, "logging_steps": 1},
        **{"save_strategy": "no", "report_to": "none", "use_cpu": True, "bf16": False, "disable_tqdm": True},
        **(FSDP if strategy == "fsdp" else {}),
    )
    trainer = PreferenceTrainer(
        str(folder / "base"),
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(folder / "base"),
    )
    trainer.train()
    trainer.save_model(str(folder / name / "model"))
    if processes.is_first():
        lines = [json.dumps(entry) + "\n" for entry in trainer.state.log_history if "loss" in entry]
        (folder / name / "metrics.jsonl").write_text("".join(lines))


class Stopped(Exception):
    """A training was stopped."""


def end_at(number: int, *, kill: bool) -> None:
    """End this process, or the training in it, right after a checkpoint was published."""
    save = AlignTrainer._save_checkpoint

    def saved(self: AlignTrainer, model: Any, trial: Any) -> None:
        save(self, model, trial)
        if self.state.global_step == number:
            AlignTrainer._save_checkpoint = save
            if not kill:
                raise Stopped
            if processes.is_first():
                os.kill(os.getpid(), signal.SIGKILL)

    AlignTrainer._save_checkpoint = saved


def note_shards() -> None:
    """Say how many weights FSDP2 had split when the model was gathered."""
    gather = outcome.gather_weights

    def noted(model: torch.nn.Module) -> None:
        split = sum(type(p).__name__ == "DTensor" for p in model.parameters())
        gather(model)
        if processes.is_first():
            print("split", split, sum(type(p).__name__ == "DTensor" for p in model.parameters()), flush=True)

    outcome.gather_weights = noted


def main() -> None:
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    note_shards()
    with processes.relayed():
        for task in sys.argv[2:]:
            if task == "error":
                processes.wait()
                if processes.rank() == 1:
                    raise RunError("the second process has had enough", do="nothing")
                processes.from_first(processes.added(torch.zeros(1)))
                continue
            name, how, number = re.fullmatch(r"([\w-]+)([!?]?)(\d*)", task).groups()
            if how:
                end_at(int(number), kill=how == "!")
            if how == "?":
                with contextlib.suppress(Stopped):
                    train(folder, name)
            (prefer if name.startswith("trainer-") else train)(folder, name)


if __name__ == "__main__":
    main()
