"""From a job's options to `transformers.TrainingArguments`."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path

import torch
from torch.utils.checkpoint import checkpoint
from transformers import Trainer, TrainingArguments
from transformers.integrations.integration_utils import get_reporting_integration_callbacks
from transformers.optimization import get_scheduler

from sacpo.align.job import TrainingJob
from sacpo.errors import MachineError, RecipeError
from sacpo.models.loading import resolve_device
from sacpo.models.precision import warn, without_bfloat16
from sacpo.plain import JsonMapping, JsonObject
from sacpo.recipe.explain import did_you_mean
from sacpo.recipe.head_rate import check_head_rate
from sacpo.recipe.kept_weights import evaluates

KEPT_HERE = ("load_best_model_at_end", "metric_for_best_model", "early_stopping_patience", "average_last")
"""Options that the engine carries out itself, see `sacpo.align.engine.kept`."""


@dataclass
class Arguments(TrainingArguments):
    """`transformers.TrainingArguments`, and what is added to them.

    Attributes:
        head_learning_rate: The learning rate of the head, with the schedule of all; None: that of all.
    """

    head_learning_rate: float | None = None


def training_arguments(job: TrainingJob, checkpoints: Path) -> Arguments:
    """Return the arguments of a job's Trainer, which writes its checkpoints to `checkpoints`.

    Raises:
        RecipeError: An option has a value that TrainingArguments refuses, or the head cannot have a rate of its own.
        MachineError: The device cannot be trained on.
    """
    fixed: JsonObject = {
        "output_dir": str(checkpoints),
        "use_cpu": _is_cpu(job.base.device),
        "disable_tqdm": True,
        "log_level": "error",
        "log_level_replica": "error",
        "logging_nan_inf_filter": False,  # a NaN is an error, not something to average away
        "remove_unused_columns": False,
        "dataloader_pin_memory": not _is_cpu(job.base.device),
    }
    if evaluates(job.options):  # with the batches that the loss is trained on: KTO's depends on them
        fixed["per_device_eval_batch_size"] = job.options["per_device_train_batch_size"]
    check_optimizer(job.options.get("optim", ""))
    check_head_rate(job.options, job.name, job.lora)
    if fixed["use_cpu"] and job.options.get("bf16") and without_bfloat16("cpu"):
        warn()
        fixed["bf16"] = False
    try:
        given = {name: value for name, value in job.options.items() if name not in KEPT_HERE}
        options = under_new_names({**given, **fixed})
        arguments = Arguments(**copy.deepcopy(options))  # it changes dictionaries in place
        _ = arguments._setup_devices  # a cached property, which finds the devices
        _try_parts(arguments)
    except (ValueError, TypeError, ImportError, KeyError, RuntimeError) as error:
        raise _refused(str(error), job) from error
    # one process uses one device: nn.DataParallel would split what is no tensor; several GPUs take several processes
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def under_new_names(options: JsonMapping) -> JsonObject:
    """Return options under the names that the installed transformers wants: it renamed gradient checkpointing."""
    known = {field.name for field in fields(TrainingArguments)}
    new = {name: name.replace("gradient_checkpointing", "activation_checkpointing") for name in options}
    return {new[name] if new[name] in known else name: value for name, value in options.items()}


def fork_workers(arguments: TrainingArguments) -> TrainingArguments:
    """Return arguments whose data loader starts workers by fork, whatever Python's default is: they share memory.

    Raises:
        RecipeError: The arguments ask for another way.
    """
    if not arguments.dataloader_num_workers:
        return arguments
    way = getattr(arguments, "dataloader_multiprocessing_context", None)
    if way not in (None, "fork"):
        raise RecipeError(
            "workers of the data loader are started by fork: they share the records in memory",
            where="dataloader_multiprocessing_context",
            value=way,
            allowed="fork",
            do="leave it out, or set dataloader_num_workers: 0",
        )
    arguments.dataloader_multiprocessing_context = "fork"
    return arguments


def _try_parts(arguments: TrainingArguments) -> None:
    """Make optimiser, schedule and trackers once: what refuses its options does so before any model is loaded."""
    for tracker in get_reporting_integration_callbacks(arguments.report_to):
        tracker()
    kind, options = Trainer.get_optimizer_cls_and_kwargs(arguments)
    optimiser = kind([torch.nn.Parameter(torch.zeros(1, device=arguments.device))], **options)
    if arguments.gradient_checkpointing and arguments.gradient_checkpointing_kwargs:
        given: JsonObject = {"use_reentrant": False, **dict(arguments.gradient_checkpointing_kwargs)}  # type: ignore[arg-type]
        checkpoint(torch.clone, torch.zeros(1, requires_grad=True), **given)
    get_scheduler(arguments.lr_scheduler_type, optimiser, 1, 10, dict(arguments.lr_scheduler_kwargs or {}))  # type: ignore[arg-type]


def check_optimizer(name: object) -> None:
    """Refuse an optimiser whose package is missing, before any work is done.

    Raises:
        MachineError: bitsandbytes is needed and not installed.
    """
    optim = str(getattr(name, "value", name))
    if any(part in optim for part in ("8bit", "paged", "bnb")) and find_spec("bitsandbytes") is None:
        raise MachineError(
            "the optimiser needs the package bitsandbytes, which is not installed",
            where="optim",
            value=optim,
            do="pip install bitsandbytes, or choose optim: adamw_torch",
        )


def _refused(reason: str, job: TrainingJob) -> RecipeError:
    """Return the error about an option that TrainingArguments refuses; its reason mentions the value, not the name."""
    where, value = f"training of {job.name}", None
    blamed = next((name for name, given in job.options.items() if name in reason or f"{given} is not" in reason), None)
    if blamed is not None:
        where, value = f"{where}, {blamed}", job.options[blamed]
    head, _, choices = reason.partition(", please select one of ")
    allowed = re.findall(r"'([^']+)'", choices)
    advice = did_you_mean(value, allowed, "correct it, or leave it out")
    return RecipeError(
        f"a training option is refused: {head}", where=where, value=value, allowed=allowed or None, do=advice
    )


def _is_cpu(name: str) -> bool:
    device = resolve_device(name)
    if device.type == "cuda" and device.index not in (None, 0):
        raise MachineError(
            "training uses the first visible GPU of its process",
            where="base.device",
            value=name,
            do=f"set CUDA_VISIBLE_DEVICES={device.index} and base.device: cuda",
        )
    return device.type == "cpu"
