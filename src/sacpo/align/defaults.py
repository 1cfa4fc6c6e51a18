"""Training options: the defaults where they differ from `transformers.TrainingArguments`, and the steps they lead to.

torch is not imported here, so that a plan of a run can be made without it.
"""

from __future__ import annotations

import math

from sacpo.plain import JsonMapping, JsonObject

PAPER: JsonObject = {
    "num_train_epochs": 3.0,
    "per_device_train_batch_size": 16,
    "gradient_accumulation_steps": 2,
    "learning_rate": 2e-5,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.03,
    "weight_decay": 0.0,
}
"""The paper's options (section 6 and appendix G); `warmup_steps` below 1 is a share of all steps."""

STEP_RATE = 1e-6
"""The learning rate of a step that trains all weights, as in TRL: the paper's is far too much for most models."""

OWN: JsonObject = {
    "logging_steps": 10,
    "logging_first_step": True,
    "save_steps": 500,
    "save_total_limit": 1,
    "report_to": "none",
    "ddp_find_unused_parameters": False,
}
"""Options that the paper leaves open: the first step is logged because its loss is known beforehand."""


def with_defaults(training: JsonMapping) -> JsonObject:
    """Return the options that a training runs with: the given ones over `OWN` over `PAPER`."""
    return {**PAPER, **OWN, **training}


def of_step(training: JsonMapping, *, lora: bool) -> JsonObject:
    """Return the options of a step on preferences: without a learning rate `STEP_RATE`, with LoRA `PAPER`'s."""
    return dict(training) if lora else {"learning_rate": STEP_RATE, **training}


def optimiser_steps(n: int, training: JsonMapping, *, world_size: int = 1) -> int:
    """Return how many optimiser steps a training on `n` units takes, counted as `transformers.Trainer` does.

    Args:
        n: Pairs, labelled completions or demonstrations after preparation.
        training: Options under TrainingArguments' names, defaults not needed.
        world_size: Number of processes that share a batch.
    """
    options = with_defaults(training)
    if (options.get("max_steps") or -1) > 0:
        return int(options["max_steps"])
    batches = math.ceil(n / (options["per_device_train_batch_size"] * world_size))
    per_epoch = max(math.ceil(batches / options["gradient_accumulation_steps"]), 1)
    return math.ceil(options["num_train_epochs"] * per_epoch)
