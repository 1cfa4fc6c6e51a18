"""Weights that a training gives in the place of its last ones: those of the lowest held-out loss, or a mean.

They are one copy of the trained weights in main memory: no GPU holds it, and of an adapter it is the adapter's alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sacpo.align.engine.evaluation import best_step, losses
from sacpo.align.objectives.objective import Objective
from sacpo.errors import RecipeError, RunError, TrainingDiverged
from sacpo.plain import JsonMapping
from sacpo.system import processes


@dataclass(frozen=True)
class Keeping:
    """What a training gives, and what it is evaluated on.

    Attributes:
        heldout: The loss on held-out records; None: none is evaluated.
        best: Give the weights of the lowest held-out loss.
        patience: Stop when so many evaluations in a row were no better than the best; None: never.
        average: Give the mean of the weights after each of the updates in this last share of the training; None: none.
    """

    heldout: Objective | None = None
    best: bool = False
    patience: int | None = None
    average: float | None = None


def keeping(options: JsonMapping, heldout: Objective | None = None) -> Keeping:
    """Return what a training's options ask for."""
    return Keeping(
        heldout,
        bool(options.get("load_best_model_at_end")),
        options.get("early_stopping_patience"),
        options.get("average_last"),
    )


class KeptWeights:
    """A copy of a model's trained weights, of each process's shards where they are split."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.weights: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def keep(self) -> None:
        """Replace the copy by the weights as they are."""
        self.weights = {name: weight.to("cpu", copy=True) for name, weight in self._trained().items()}

    @torch.no_grad()
    def add(self, n: int) -> None:
        """Take the weights as they are into the mean, as the n-th of them: m + (w - m) / n.

        It is in float32: a mean in bfloat16 would stand still.
        """
        for name, weight in self._trained().items():
            found = weight.to("cpu", torch.float32, copy=True)
            self.weights[name] = found if n == 1 else self.weights[name].lerp_(found, 1 / n)

    @torch.no_grad()
    def put(self) -> None:
        """Give the model the copy."""
        for name, weight in self._trained().items():
            weight.copy_(self.weights[name])

    def save(self, folder: Path) -> None:
        """Write the copy into a checkpoint: each process its shards, or the first one all."""
        if self.weights and (self._split or processes.is_first()):
            save_file({name: weight.contiguous() for name, weight in self.weights.items()}, self._file(folder))

    def load(self, folder: Path) -> None:
        """Read what `save` wrote.

        Raises:
            RunError: The shards are those of another number of processes.
        """
        file = self._file(folder)
        self.weights = load_file(file) if file.is_file() else {}
        shapes = {name: weight.shape for name, weight in self._trained().items()}
        if self.weights and {name: weight.shape for name, weight in self.weights.items()} != shapes:
            raise RunError(
                "the weights that a checkpoint keeps are split in another way than the model",
                where=file,
                do="resume with as many processes as before",
            )

    @property
    def _split(self) -> bool:
        return any(isinstance(parameter, DTensor) for parameter in self.model.parameters())

    def _file(self, folder: Path) -> Path:
        return folder / f"kept-{processes.rank() if self._split else 0}.safetensors"

    def _trained(self) -> dict[str, torch.Tensor]:
        trained = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        return {name: (p.to_local() if isinstance(p, DTensor) else p).detach() for name, p in trained.items()}


class Keep(TrainerCallback):
    """Keep the weights that a training is to give, and stop it where its held-out loss no longer falls.

    What was evaluated is read from the log, which checkpoints hold; so a resumed training decides as one that was not.
    """

    def __init__(self, model: nn.Module, keeping: Keeping) -> None:
        self.keeping = keeping
        self.kept = KeptWeights(model)
        self.running = False

    @property
    def wanted(self) -> bool:
        """Whether the training is to give other weights than its last ones."""
        return self.keeping.best or self.keeping.average is not None

    def refuse_deepspeed(self) -> None:
        """Refuse to keep weights, however DeepSpeed was asked for.

        Raises:
            RecipeError: Weights are to be kept.
        """
        if self.wanted:
            raise RecipeError(
                "weights are not kept aside under DeepSpeed, which splits them in its own way",
                do="leave out load_best_model_at_end and average_last, or launch with DDP or FSDP2",
            )

    def start(self, checkpoint: Path | None) -> None:
        """Begin a training, with what a checkpoint kept."""
        self.running = True
        self.kept.weights = {}
        if checkpoint is not None:
            self.kept.load(checkpoint)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Log where the held-out loss is measured, at the end, too; take the weights into the mean."""
        if self.keeping.heldout is not None:
            control.should_evaluate = control.should_evaluate or state.global_step >= state.max_steps
            control.should_log = control.should_log or control.should_evaluate
        if self.keeping.average is not None:
            n = state.global_step - first_averaged(state.max_steps, self.keeping.average) + 1
            if n >= 1:
                self.kept.add(n)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Keep the weights if none before had a lower held-out loss; stop when that was too long ago.

        Raises:
            TrainingDiverged: The held-out loss is NaN or infinite.
        """
        history = losses(state.log_history)
        if not self.running or not self.keeping.best or state.global_step not in history:
            return
        if not math.isfinite(found := history[state.global_step]):
            raise TrainingDiverged(
                f"the held-out loss became {found} in step {state.global_step}\n"
                "  to do:   lower learning_rate or max_grad_norm, or train in float32 or bf16"
            )
        best = best_step(state.log_history)
        if best == state.global_step:
            self.kept.keep()
        since = sum(step > best for step in history)
        if self.keeping.patience is not None and since >= self.keeping.patience:
            control.should_training_stop = True

    def finish(self) -> None:
        """Give the model the kept weights."""
        self.running = False
        if self.wanted:
            self.kept.put()


def first_averaged(steps: int, share: float) -> int:
    """Return the first of the steps behind which weights are averaged: the last `share` of them, at least one."""
    return steps - max(round(share * steps), 1) + 1
