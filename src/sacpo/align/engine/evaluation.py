"""An objective's loss and metrics on records that are not trained on, computed by all processes together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from transformers import PreTrainedModel, TrainingArguments

from sacpo.align.engine.meter import Meter
from sacpo.align.engine.sharded import reshard
from sacpo.align.objectives.objective import Objective

LOSS = "eval_loss"


class Evaluator(Protocol):
    """What evaluates: a trainer."""

    args: TrainingArguments
    policy: PreTrainedModel

    def forward_frozen(self, function: object) -> torch.Tensor:
        """Call a function of the bare model without gradient and without dropout."""
        ...

    def gather(self, values: torch.Tensor) -> torch.Tensor:
        """Concatenate a one-dimensional tensor over all processes."""
        ...


def measured(trainer: Evaluator, objective: Objective) -> dict[str, float]:
    """Return the means of loss and metrics; every process does equally many forward passes."""
    args = trainer.args
    meter, n, size = Meter(args.device), len(objective.ids), args.per_device_eval_batch_size
    world, rank = args.world_size, args.process_index
    for start in range(0, n, size * world):
        part = range(n)[start + rank * size : start + (rank + 1) * size]
        batch = objective.collate([*part] or [n - 1]).to(args.device)
        some = bool(part)

        def gather(values: torch.Tensor, some: bool = some) -> torch.Tensor:
            return trainer.gather(values if some else values[:0])

        objective.prepare([batch], trainer.forward_frozen, gather)
        with torch.no_grad():
            total, metrics = objective.loss(batch, trainer.forward_frozen)
        metrics = {"loss": (total, batch.units), **metrics}
        meter.add(metrics if some else {name: (value * 0, 0) for name, (value, _) in metrics.items()})
    reshard(trainer.policy)
    means = meter.drain(trainer.gather)
    del means["num_tokens"]  # of a training
    return with_margin(means)


def with_margin(logs: dict[str, float]) -> dict[str, float]:
    """Return the metrics with a margin of means, the only one that unpaired records have."""
    if {"rewards/chosen", "rewards/rejected"} <= logs.keys():
        logs.setdefault("rewards/margins", logs["rewards/chosen"] - logs["rewards/rejected"])
    return logs


def losses(history: Sequence[Mapping[str, float]]) -> dict[int, float]:
    """Return the held-out losses in a log, by optimiser step; those before the first update are no model's."""
    return {int(entry["step"]): entry[LOSS] for entry in history if LOSS in entry and entry["step"] > 0}


def best_step(history: Sequence[Mapping[str, float]]) -> int:
    """Return the step of the lowest held-out loss, of equal ones the first."""
    found = losses(history)
    return min(found, key=lambda step: (found[step], step))


def joined(history: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
    """Return the log with one entry a logged step: what was measured on held-out records stands beside the loss."""
    held = {entry["step"]: entry for entry in history if LOSS in entry}
    return [{**held.get(entry["step"], {}), **entry} for entry in history if "loss" in entry]
