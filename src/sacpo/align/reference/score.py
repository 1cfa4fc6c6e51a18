"""Log-probs of completions under a model as it stands: in evaluation mode and without gradient."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence

import torch
from torch import nn
from transformers import TrainingArguments

from sacpo.align.adapters import adapter_off
from sacpo.data.packing import LayRows, Tree
from sacpo.losses.logps import completion_logps, unwrapped
from sacpo.system import processes
from sacpo.system.memory import kept_memory
from sacpo.system.progress import Progress

Score = Callable[[Sequence[Tree]], torch.Tensor]
"""Log-probs of the trees' completions in order, in nats. Shape: (completions,)."""


def scorer(
    model: nn.Module, layout: LayRows, precision: torch.dtype | None = None, *, reference: bool = False
) -> Score:
    """Return a function from token trees to their completions' log-probs.

    Args:
        model: The model, or a peft model around it.
        layout: How trees are laid out in rows.
        precision: The type of autocast; None: the weights' own.
        reference: Turn a peft model's adapter off.
    """
    policy = unwrapped(model)
    device = policy.device

    def score(trees: Sequence[Tree]) -> torch.Tensor:
        training = model.training
        model.eval()
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            if precision is not None:
                stack.enter_context(torch.autocast(device.type, dtype=precision))
            if reference:
                stack.enter_context(adapter_off(model))
            found = completion_logps(policy, layout(trees).to(device))
        model.train(training)
        return found

    return score


@kept_memory()
def score_all(
    trees: Sequence[Tree],
    score: Score,
    batch_size: int,
    progress: Progress,
    description: str,
    *,
    by_length: bool = True,
) -> torch.Tensor:
    """Score many trees; several processes share the batches.

    Padded rows want trees of about equal length together (`by_length`), packed rows want a mixture to fill: sorted,
    they hold 15 % more columns on HH and PKU.

    The batches do not depend on how many processes there are, and every process calls `score` equally often: a
    sharded model computes nothing unless all call it.

    Shape: (completions,) float32, in nats, on the CPU, in the trees' order.
    """
    offsets = [0]
    for tree in trees:
        offsets.append(offsets[-1] + len(tree.completions))
    values = torch.zeros(offsets[-1], dtype=torch.float32)
    order = sorted(range(len(trees)), key=lambda i: (-_length(trees[i]), i)) if by_length else [*range(len(trees))]
    plan = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    n = math.ceil(len(plan) / processes.size())
    for turn in progress.track(range(n), description, n, "batch"):
        number = turn * processes.size() + processes.rank()
        batch = plan[min(number, len(plan) - 1)]
        found = score([trees[i] for i in batch]).float().cpu()
        if number < len(plan):
            values[[place for i in batch for place in range(offsets[i], offsets[i + 1])]] = found
    return processes.added(values)


def autocast_type(arguments: TrainingArguments) -> torch.dtype | None:
    """Return the type that a training's forward passes are autocast to, None for the weights' own."""
    if arguments.bf16:
        return torch.bfloat16
    return torch.float16 if arguments.fp16 else None


def _length(tree: Tree) -> int:
    return len(tree.prompt) + max(len(completion) for completion in tree.completions)
