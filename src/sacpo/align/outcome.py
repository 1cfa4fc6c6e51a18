"""What every training leaves in its folder: the model, metrics.jsonl and summary.json, and no checkpoints."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import nn
from transformers import PreTrainedTokenizerBase

from sacpo.align.adapters import write_policy
from sacpo.align.engine.evaluation import best_step, losses
from sacpo.align.engine.kept import first_averaged
from sacpo.align.engine.sharded import gather_weights
from sacpo.align.job import TrainingJob
from sacpo.data.records import write_jsonl
from sacpo.losses.logps import unwrapped
from sacpo.models.loading import resolve_device
from sacpo.models.precision import REPLACED, replaced, without_bfloat16
from sacpo.plain import JsonObject
from sacpo.system import processes
from sacpo.system.files import write_json
from sacpo.system.machine import machine_errors

CHECKPOINTS = "checkpoints"
FIRST = (
    "loss",
    "rewards/chosen",
    "rewards/rejected",
    "rewards/accuracies",
    "rewards/margins",
    "logps/chosen",
    "logps/rejected",
    "kl",
)
LAST = ("grad_norm", "learning_rate", "num_tokens", "epoch", "step")


def checkpoint_folder(out: Path) -> Path:
    """Return where a training keeps its checkpoints while it runs."""
    return out / CHECKPOINTS


def write_outcome(
    out: Path,
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    log: Sequence[Mapping[str, float]],
    summary: JsonObject,
    job: TrainingJob,
    *,
    write: bool = True,
) -> JsonObject:
    """Write `model/` (see `sacpo.align.adapters.write_policy`), `metrics.jsonl` and `summary.json`; return the summary.

    The checkpoints go. Nothing that is written depends on the clock. Of several processes one has `write` set; the
    others bring their shards of the weights and wait for it.
    """
    summary = {**summary, **_precision(model, job), **_progress(log), **_given(log, job)}
    gather_weights(model)
    if write:
        _write(out, model, tokenizer, log, summary, job)
    processes.wait()
    return summary


def _write(
    out: Path,
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    log: Sequence[Mapping[str, float]],
    summary: JsonObject,
    job: TrainingJob,
) -> None:
    with machine_errors(out):
        write_policy(model, tokenizer, job, out)
        write_jsonl(out / "metrics.jsonl", [_ordered(entry) for entry in log])
        write_json(out / "summary.json", summary)
        shutil.rmtree(checkpoint_folder(out), ignore_errors=True)


def settings(job: TrainingJob) -> JsonObject:
    """Return what a job was trained with, for its summary."""
    return {
        "seed": job.seed,
        "max_length": job.max_length,
        "too_long": job.too_long,
        "template": job.base.template,
        "lora": job.lora.model_dump() if job.lora else None,
        "training": {key: value for key, value in job.options.items() if key not in ("run_name", "report_to")},
    }


def _precision(model: nn.Module, job: TrainingJob) -> JsonObject:
    """Return what is said where float32 took the place of bf16; nothing elsewhere."""
    device = resolve_device(job.base.device)
    asked = bool(job.options.get("bf16")) or replaced(unwrapped(model))
    return {"precision": REPLACED} if asked and without_bfloat16(device) else {}


def _progress(log: Sequence[Mapping[str, float]]) -> JsonObject:
    return {
        "steps": int(log[-1]["step"]),
        "epochs": log[-1]["epoch"],
        "tokens": int(log[-1]["num_tokens"]),
        "first_loss": log[0]["loss"],
        "last_loss": log[-1]["loss"],
    }


def _given(log: Sequence[Mapping[str, float]], job: TrainingJob) -> JsonObject:
    """Return which weights the training gave where they are not its last ones."""
    if job.options.get("load_best_model_at_end"):
        step = best_step(log)
        return {"best_step": step, "best_eval_loss": losses(log)[step]}
    if share := job.options.get("average_last"):
        last = int(log[-1]["step"])
        return {"averaged_steps": last - first_averaged(last, share) + 1}
    return {}


def _ordered(entry: Mapping[str, float]) -> dict[str, float]:
    between = sorted(entry.keys() - {*FIRST, *LAST})
    return {name: entry[name] for name in (*FIRST, *between, *LAST) if name in entry}
