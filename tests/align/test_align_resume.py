"""A killed training, resumed, is the uninterrupted one bit for bit, wherever it was killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from align_toys import job, step, toy_demonstrations, toy_pairs, write_base
from transformers import TrainingArguments

from sacpo.align.defaults import optimiser_steps
from sacpo.align.engine import checkpoints
from sacpo.align.engine.arguments import fork_workers
from sacpo.align.engine.meter import Meter
from sacpo.align.sft import run_sft
from sacpo.align.step import run_align
from sacpo.errors import RecipeError, RunError
from sacpo.recipe.schema import LoraSpec
from sacpo.system import processes
from sacpo.system.files import file_hash

OPTIONS: dict[str, Any] = {
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "num_train_epochs": 2,
    "logging_steps": 4,  # checkpoints fall between log lines, so that half-filled means must survive
    "save_steps": 3,
}


@pytest.fixture(scope="module")
def wet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose attention drops weights while training: its random state must come back, too.

    Beside it is `adapted`, a LoRA step from it.
    """
    folder = tmp_path_factory.mktemp("models")
    base = write_base(folder / "wet", attention_dropout=0.2)
    run_align(job(base, lora=LoraSpec(r=4)), step(), 0.5, toy_pairs(16), folder / "adapted", folder / "cache")
    return base


def run(kind: str, base: Path, out: Path, cache: Path) -> None:
    """Train 10 optimiser steps: 38 records, 4 x 2 a step, 2 epochs; checkpoints at 3, 6 and 9."""
    if kind == "by length":
        start = job(base, **OPTIONS, train_sampling_strategy="group_by_length")
        run_align(start, step(), 0.5, toy_pairs(38), out, cache)
    elif kind == "sft":
        run_sft(job(base, **OPTIONS, head_learning_rate=3e-2), toy_demonstrations(38), out)
    elif kind == "best":  # of half the votes the other way round: the best of steps 2, 4, ..., 10 is among the first
        options = {"eval_strategy": "steps", "eval_steps": 2, "load_best_model_at_end": True}
        held = toy_pairs(12, seed=5, p=(0.1, 1.0))
        run_align(job(base, **OPTIONS, **options), step(), 0.5, toy_pairs(38), out, cache, heldout=held)
    elif kind == "mean":
        start = job(base, lora=LoraSpec(r=2, lora_dropout=0.1), **OPTIONS, average_last=0.7)  # of steps 4 to 10
        run_align(start, step(), 0.5, toy_pairs(38), out, cache)
    elif kind == "lora":
        start = job(base.with_name("adapted") / "model", lora=LoraSpec(r=2, lora_dropout=0.1), **OPTIONS)
        run_align(start, step(), 0.5, toy_pairs(38), out, cache)
    else:
        records = toy_pairs(38 if kind == "dpo" else 19, p=(1.0, 0.8))
        run_align(job(base, **OPTIONS), step(kind), 0.5, records, out, cache)


def outcome(out: Path) -> dict[str, str]:
    assert not (out / "checkpoints").exists()
    return {str(path.relative_to(out)): file_hash(path) for path in sorted(out.rglob("*")) if path.is_file()}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def run_and_die(kind: str, base: Path, out: Path, cache: Path, where: str, when: int) -> None:
    """Run in a process of its own and kill it the `when`-th time that it comes to `where`."""
    import sacpo.align.outcome as outcome_module
    from sacpo.align.trainer import AlignTrainer

    target: Any = {
        "step": (AlignTrainer, "compute_loss"),
        "weights saved, optimizer not": (AlignTrainer, "_save_optimizer_and_scheduler"),
        "checkpoint written, not in place": (checkpoints, "publish"),
        "trained, not saved": (outcome_module, "write_policy"),
        "model saved, no metrics": (outcome_module, "write_jsonl"),
    }[where]
    original, count = getattr(*target), 0

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if count == when:
            die()
        return original(*args, **kwargs)

    setattr(*target, counted)
    run(kind, base, out, cache)


POINTS = [
    ("dpo", "step", 3, None),
    ("dpo", "step", 15, 6),  # step 8 of 10, in epoch 2, between two device batches
    ("dpo", "weights saved, optimizer not", 2, 3),
    ("dpo", "checkpoint written, not in place", 1, None),
    ("dpo", "trained, not saved", 1, 9),
    ("dpo", "model saved, no metrics", 1, 9),
    ("kto", "step", 9, 3),
    ("by length", "step", 15, 6),
    ("sft", "step", 11, 3),
    ("lora", "step", 15, 6),
    ("best", "step", 15, 6),
    ("mean", "step", 15, 6),
    ("lora", "model saved, no metrics", 1, 9),
]


@pytest.fixture(scope="module")
def uninterrupted(wet: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    root = tmp_path_factory.mktemp("whole")
    found = {}
    for kind in ("dpo", "kto", "sft", "lora", "by length", "best", "mean"):
        run(kind, wet, root / kind, root / "cache")
        found[kind] = outcome(root / kind)
    return found


@pytest.mark.parametrize(("kind", "where", "when", "left"), POINTS)
def test_resumed_is_uninterrupted(
    kind: str, where: str, when: int, left: int | None, wet: Path, tmp_path: Path, uninterrupted: Any
) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sacpo.align.step", "sacpo.align.sft"])
    out, cache = tmp_path / "out", tmp_path / "cache"
    process = context.Process(target=run_and_die, args=(kind, wet, out, cache, where, when))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    newest = checkpoints.newest(out / "checkpoints")
    assert (newest and newest.name) == (f"checkpoint-{left}" if left else None)
    run(kind, wet, out, cache)
    assert outcome(out) == uninterrupted[kind]


def test_the_uninterrupted_run_trained_ten_steps(uninterrupted: dict[str, dict[str, str]]) -> None:
    assert optimiser_steps(38, OPTIONS) == 10
    assert {*uninterrupted["dpo"]} == {*uninterrupted["sft"]} >= {"metrics.jsonl", "summary.json"}
    kinds = ("sft", "dpo", "kto", "by length", "best")
    assert len({uninterrupted[kind]["model/model.safetensors"] for kind in kinds}) == 5


def test_old_checkpoints_go_and_half_ones_are_never_seen(tmp_path: Path) -> None:
    for number in (3, 6, 12):
        (tmp_path / checkpoints.STAGING / f"checkpoint-{number}").mkdir(parents=True)
        (tmp_path / checkpoints.STAGING / f"checkpoint-{number}" / "a").write_text("x")
        assert checkpoints.newest(tmp_path) != tmp_path / f"checkpoint-{number}"
        checkpoints.publish(tmp_path, number, 2)
        assert checkpoints.newest(tmp_path) == tmp_path / f"checkpoint-{number}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-12", "checkpoint-6"]


def test_a_corrupted_checkpoint_is_named_and_not_used(wet: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    out, cache = tmp_path / "out", tmp_path / "cache"
    process = context.Process(target=run_and_die, args=("dpo", wet, out, cache, "step", 9))
    process.start()
    process.join(60)
    path = out / "checkpoints" / "checkpoint-3" / "optimizer.pt"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(RunError, match="corrupted") as caught:
        run("dpo", wet, out, cache)
    assert caught.value.where == path


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"a": 3}', "null", "[" * 100_000, "\x00"])
def test_hashes_of_a_checkpoint_that_cannot_be_read_are_no_checkpoint(text: str, tmp_path: Path) -> None:
    (tmp_path / checkpoints.STAGING / "checkpoint-3").mkdir(parents=True)
    (tmp_path / checkpoints.STAGING / "checkpoint-3" / "a").write_text("x")
    checkpoints.publish(tmp_path, 3, 2)
    checkpoints.check(tmp_path / "checkpoint-3")
    path = tmp_path / "checkpoint-3" / checkpoints.HASHES
    path.write_text(text)
    with pytest.raises(RunError, match=r"hashes of a checkpoint(.|\n)*delete") as caught:
        checkpoints.check(tmp_path / "checkpoint-3")
    assert caught.value.where == path


def test_workers_lay_out_batches_whatever_way_python_starts_processes(wet: Path, tmp_path: Path) -> None:
    """Python 3.14 starts them anew, and then nothing of the records is there: same log as without workers."""
    before = multiprocessing.get_start_method(allow_none=True)
    alone = run_align(job(wet), step(), 0.5, toy_pairs(16), tmp_path / "alone", tmp_path / "c")
    multiprocessing.set_start_method("forkserver", force=True)
    try:
        start = job(wet, dataloader_num_workers=2)
        several = run_align(start, step(), 0.5, toy_pairs(16), tmp_path / "several", tmp_path / "c")
    finally:
        multiprocessing.set_start_method(before, force=True)
    assert (several["first_loss"], several["last_loss"]) == (alone["first_loss"], alone["last_loss"])
    arguments = TrainingArguments(
        str(tmp_path), dataloader_num_workers=1, dataloader_multiprocessing_context="spawn", use_cpu=True
    )
    with pytest.raises(RecipeError, match=r"started by fork(.|\n)*'spawn'"):
        fork_workers(arguments)


@pytest.mark.parametrize(("wrote", "reads"), [(2, 3), (3, 2), (2, 1)])
def test_half_filled_means_survive_another_number_of_processes(
    wrote: int, reads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Process i adds i + 1 once and counts 10 i tokens; together all that is written is read once."""
    for rank in range(wrote):
        monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
        meter = Meter(torch.device("cpu"))
        meter.add({"loss": (torch.tensor(rank + 1.0), 1)})
        meter.tokens = 10 * rank
        meter.save(tmp_path)
    monkeypatch.setattr(processes, "size", lambda: reads)
    parts: list[torch.Tensor] = []
    for rank in range(reads):
        monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
        meter = Meter(torch.device("cpu"))
        meter.load(tmp_path)
        meter.add({"loss": (torch.tensor(0.0), 0)})
        meter.drain(lambda values: parts.append(values) or values)
    assert torch.stack(parts).sum(0).tolist() == [wrote, sum(range(1, wrote + 1)), 10 * sum(range(wrote))]
